//! Several workers over a list of items, results to the caller as they come; and one that works ahead of the caller.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use syncline_model::{Fault, Kind, Result};
use tokio::sync::mpsc;

use crate::api::Env;

/// How often `tick` is called while nothing ends.
const TICK: Duration = Duration::from_millis(250);

/// Most items that a worker takes at once.
const HANDFUL: usize = 32;

/// Hands `items` to `jobs` workers, neighbours to the same one: they touch the same directory, which takes one change at
/// a time. Each result goes to `each`, on the caller's thread, in the order of completion; `tick` is called then too, and
/// now and then. Once `tick` says false or `each` fails no item is begun. A worker that dies is a `Bug`.
pub async fn parallel<T, R, F, Fut>(
    env: &Env,
    jobs: usize,
    items: Vec<T>,
    work: F,
    mut each: impl FnMut(R) -> Result<()>,
    mut tick: impl FnMut() -> bool,
) -> Result<()>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + Send,
{
    let mut missing = items.len();
    let jobs = jobs.clamp(1, missing.max(1));
    let (queue, work) = (Arc::new(Mutex::new(items.into_iter())), Arc::new(work));
    let ended = Arc::new(AtomicBool::new(false));
    let (send, mut receive) = mpsc::unbounded_channel();
    for _ in 0..jobs {
        let (queue, work, send, ended) = (queue.clone(), work.clone(), send.clone(), ended.clone());
        env.spawn.spawn(Box::pin(async move {
            loop {
                let taken: Vec<T> = {
                    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    // Fewer and fewer, so that all workers end at about the same time.
                    let handful = (queue.len() / (jobs * 4)).clamp(1, HANDFUL);
                    queue.by_ref().take(handful).collect()
                };
                if taken.is_empty() || ended.load(Ordering::Relaxed) {
                    break;
                }
                let mut results = Vec::with_capacity(taken.len());
                for item in taken {
                    if ended.load(Ordering::Relaxed) {
                        break;
                    }
                    results.push(work(item).await);
                }
                if send.send(results).is_err() {
                    break;
                }
            }
            // What the work holds (an edit, its lock) is free before the caller learns that nobody works any more.
            drop((queue, work));
            drop(send);
        }));
    }
    drop(send);
    let mut outcome = Ok(());
    loop {
        let go_on = tokio::select! {
            biased;
            results = receive.recv() => {
                let Some(results) = results else { break };
                missing -= results.len();
                for result in results {
                    if outcome.is_ok() {
                        outcome = each(result);
                    }
                }
                outcome.is_ok() && tick()
            }
            () = env.clock.sleep(TICK) => tick(),
        };
        ended.fetch_or(!go_on, Ordering::Relaxed);
    }
    if missing > 0 && !ended.load(Ordering::Relaxed) {
        return Err(Fault::new(Kind::Bug, "a worker died", "").hint("run again; nothing was lost"));
    }
    outcome
}

/// What a source yields, fetched ahead of who takes it by a task of its own.
pub struct Prefetched<T>(mpsc::Receiver<Result<Option<T>>>);

impl<T: Send + 'static> Prefetched<T> {
    /// Starts the task. `fetch` is called until it has no more or fails; at most `ahead` pieces wait for who takes them.
    pub fn of<S, F, Fut>(env: &Env, ahead: usize, mut source: S, mut fetch: F) -> Self
    where
        S: Send + 'static,
        F: FnMut(S) -> Fut + Send + 'static,
        Fut: Future<Output = (S, Result<Option<T>>)> + Send,
    {
        let (send, receive) = mpsc::channel(ahead);
        env.spawn.spawn(Box::pin(async move {
            loop {
                let piece;
                (source, piece) = fetch(source).await;
                if !matches!(piece, Ok(Some(_))) {
                    // What the source holds is free before the caller learns that there is no more.
                    drop(source);
                    // A caller that does not listen any more has ended by itself.
                    let _gone = send.send(piece).await;
                    break;
                }
                if send.send(piece).await.is_err() {
                    break;
                }
            }
        }));
        Self(receive)
    }

    /// The next piece; `None` at the end, which the source itself has told: a task that died is a `Bug`.
    pub async fn next(&mut self) -> Result<Option<T>> {
        self.0.recv().await.unwrap_or_else(|| {
            Err(Fault::new(Kind::Bug, "a worker died", "").hint("run again; nothing was lost"))
        })
    }
}
