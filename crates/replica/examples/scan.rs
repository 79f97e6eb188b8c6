//! Scans a directory and prints how fast: `scan DIR [threads] [batch sizes are of no matter]`.
#![allow(clippy::disallowed_methods, reason = "a measurement needs the real clock")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use syncline_model::{Clock, Scope, Spawn, Task, Time};
use syncline_replica::{LocalOptions, LocalReplica, Replica};
use syncline_store::os::OsDisk;

struct Threads;

impl Spawn for Threads {
    fn spawn(&self, task: Task) {
        std::thread::spawn(move || futures::executor::block_on(task));
    }
}

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Time {
        Time::NEVER
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) -> Task {
        Box::pin(std::future::ready(()))
    }
}

fn main() -> syncline_model::Result<()> {
    let mut args = std::env::args_os().skip(1);
    let Some(dir) = args.next() else { return Ok(()) };
    let threads = args.next().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(2);
    let options = LocalOptions {
        label: dir.to_string_lossy().into(),
        host: "here".into(),
        threads,
        clock: Arc::new(Fixed),
        spawn: Arc::new(Threads),
        pid: std::process::id(),
        umask: 0o022,
        set_ids: false,
    };
    let replica = LocalReplica::open(Arc::new(OsDisk::new()), dir.as_ref(), options)?;
    println!("{:?}", replica.profile());
    let begun = Instant::now();
    let (mut rows, mut batches, mut ordered) = (0u64, 0u64, true);
    futures::executor::block_on(async {
        let mut walk = replica.scan(&Scope::default()).await?;
        let mut last = None;
        while let Some(batch) = walk.next().await? {
            rows += batch.len() as u64;
            batches += 1;
            ordered &=
                batch.is_sorted_by(|a, b| a.slot < b.slot) && last.is_none_or(|last| last < batch[0].slot);
            last = batch.last().map(|seen| seen.slot.clone());
        }
        Ok::<_, syncline_model::Fault>(())
    })?;
    let took = begun.elapsed().as_secs_f64();
    let rate = rows as f64 / took;
    println!("{rows} rows in {batches} batches, in order: {ordered}, {took:.3} s, {rate:.0} rows/s");
    for line in String::from_utf8_lossy(&std::fs::read("/proc/self/status").unwrap_or_default()).lines() {
        if line.starts_with("VmHWM") {
            println!("{line}");
        }
    }
    Ok(())
}
