//! A run is killed at each of its changes in turn and then taken back, or gone on with: both trees are what they were before it, or what
//! they were to be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use syncline_model::{Result, Side};
use syncline_replica::Durability;
use syncline_sync::{MaxDelete, Options, Stop};
use syncline_testkit::env::LocalSpawn;
use syncline_testkit::sim_disk::Action;

use super::{Env, What, World, compare};
use crate::machine::Watch;
use crate::user::content;

impl World {
    /// A session in a process of its own, and what is done in it.
    pub(super) fn within<T>(
        &self,
        what: impl AsyncFnOnce(&syncline_sync::Session) -> Result<T>,
    ) -> Result<T> {
        let within = self.runtime.enter();
        let session = self.open(&Env {
            clock: Arc::new(self.clock.clone()),
            dice: self.session_dice.clone(),
            spawn: Arc::new(LocalSpawn::new()),
        });
        drop(within);
        self.runtime.block_on(async { what(&session?).await })
    }

    pub(super) fn edits(&self, count: u64) {
        for _ in 0..count {
            let side = [Side::Left, Side::Right][self.dice.below(2) as usize];
            self.user.edit(side, &self.dice);
            self.pass_time();
        }
        Side::BOTH.iter().for_each(|side| self.user.sync(*side));
    }

    /// Two edited trees, agreed on and edited again; the run that brings them together is killed at its change `at` and taken
    /// back. The number of steps that it had made; `None`: it ended before.
    pub fn taken_back(seed: u64, at: u64) -> Result<Option<u64>, String> {
        let mut world = Self::new(seed);
        let options = Options {
            max_delete: MaxDelete::None,
            ..Options::default()
        };
        world.edits(14);
        world
            .process("sync", &options)
            .map_err(|fault| format!("the first run failed: {fault:?}"))?;
        world.edits(8);
        world.killed_and_undone(at, &options)
    }

    /// Two edited trees, agreed on and edited again; at flush `at` of the run that brings them together the power goes. It takes all names that
    /// are not flushed and none of the rows: whatever they say too early is believed. How many names it took; `None`: the run ended before.
    pub fn cut_at_flush(seed: u64, at: u64) -> Result<Option<u64>, String> {
        let mut world = Self::new(seed);
        let durability = [Durability::Batch, Durability::Batch, Durability::File][(seed % 3) as usize];
        let options = Options {
            max_delete: MaxDelete::None,
            durability,
            ..Options::default()
        };
        world.edits(14);
        world
            .process("sync", &options)
            .map_err(|fault| format!("the first run failed: {fault:?}"))?;
        world.edits(8);
        let (user, flushes) = (world.user.clone(), AtomicU64::new(at));
        world.disk.before_call(move |call| {
            user.go_on(false);
            let dies = call.verb.starts_with("sync_") && flushes.fetch_sub(1, Ordering::Relaxed) == 0;
            if dies { Action::CrashHere } else { Action::Go }
        });
        let _ = world.process("sync", &options);
        world.disk.no_hook();
        if !world.disk.is_killed() {
            return Ok(None);
        }
        let lost = world.disk.crash_forgetting(seed);
        world.table.crash_keeping(usize::MAX);
        let lived = world.user.whole().and_then(|()| world.settle());
        let lived = lived.and_then(|()| world.nothing_lost());
        match lived {
            Ok(()) => Ok(Some(lost.names)),
            Err(why) => Err(format!("{why}\n{}", world.story().join("\n"))),
        }
    }

    /// Directories passed their names on, changed names and moved into each other; the run that follows is killed at its change `at` and taken
    /// back. As [`World::taken_back`].
    pub fn moves_taken_back(seed: u64, at: u64) -> Result<Option<u64>, String> {
        let mut world = Self::new(seed);
        let options = Options {
            max_delete: MaxDelete::None,
            ..Options::default()
        };
        for (number, dir) in (1..).zip([b"a", b"b", b"c", b"p", b"q", b"v", b"w"]) {
            world.user.make_dir(Side::Left, dir);
            world
                .user
                .save(Side::Left, &[&dir[..], b"/file"].concat(), number);
            world.user.save(Side::Left, &[&dir[..], b"/more"].concat(), 20);
        }
        world.synced_by_users();
        let first = world.process("sync", &options);
        first.map_err(|fault| format!("the first run failed: {fault:?}"))?;
        let chain = [(b"c", b"d"), (b"b", b"c"), (b"a", b"b")];
        let circle = [(b"p", b"t"), (b"q", b"p"), (b"t", b"q")];
        for (from, to) in chain.into_iter().chain(circle) {
            world.user.rename(Side::Left, from, to);
        }
        world.user.rename(Side::Left, b"w", b"v/w");
        world.user.rename(Side::Left, b"v", b"u");
        world.user.save(Side::Left, b"c/file", 12);
        world.user.save(Side::Right, b"a/file", 11);
        world.user.delete(Side::Right, b"q/more");
        world.synced_by_users();
        world.killed_and_undone(at, &options)
    }

    /// The run is killed at its change `at` and taken back: both trees are what they were. The number of steps that it had made; `None`: it
    /// ended before.
    fn killed_and_undone(mut self, at: u64, options: &Options) -> Result<Option<u64>, String> {
        let before = self.looks();
        self.disk.kill_at_change(at);
        let _ = self.process("sync", options);
        let killed = self.disk.is_killed();
        self.disk.restart();
        Side::BOTH.iter().for_each(|side| self.user.sync(*side));
        let (watch, stop) = (Watch::of(&self.user), Stop::default());
        let undone = self.within(async |session| {
            let runs = session.log().await?;
            let Some(run) = runs.get(1) else { return Ok(0) };
            session.undo(Some(&run.run), options, &watch, &stop).await?;
            let runs = session.log().await?;
            Ok(runs[1].left.steps() + runs[1].right.steps())
        });
        let steps = undone.map_err(|fault| format!("the undo failed: {fault:?}"))?;
        let after = self.looks();
        for side in Side::BOTH {
            let what = format!("of {} is not what it was before the run", side.name());
            compare(&before[side], &after[side], &what, false)
                .map_err(|why| format!("{why}\n{}", self.story().join("\n")))?;
        }
        Ok(killed.then_some(steps))
    }

    /// A directory was renamed here, files in it were edited and deleted on both sides; the run is killed at its change `at` of files or rows.
    /// The next one comes to what both wanted, and to no conflict. False: the run ended before.
    pub fn renamed_and_killed(seed: u64, at: u64, rows: bool) -> Result<bool, String> {
        let mut world = Self::new(seed);
        let options = Options {
            max_delete: MaxDelete::None,
            ..Options::default()
        };
        let files = [b"d/a", b"d/b", b"d/c", b"d/d", b"d/e"];
        world.user.make_dir(Side::Left, b"d");
        for (number, path) in (1..).zip(files) {
            world.user.save(Side::Left, path, number);
        }
        world.synced_by_users();
        let first = world.process("sync", &options);
        first.map_err(|fault| format!("the first run failed: {fault:?}"))?;
        world.user.rename(Side::Left, b"d", b"new");
        world.user.save(Side::Left, b"new/a", 11);
        world.user.delete(Side::Left, b"new/b");
        world.user.save(Side::Right, b"d/c", 13);
        world.user.delete(Side::Right, b"d/d");
        world.synced_by_users();
        if rows {
            world.kill_in.store(at as i64, Ordering::Relaxed);
        } else {
            world.kill_at = Some(at);
        }
        let _ = world.process("sync", &options);
        world.kill_in.store(-1, Ordering::Relaxed);
        let killed = world.disk.is_killed();
        world.disk.restart();
        world.synced_by_users();
        world.met.conflicts = 0;
        world.settle()?;
        let file = |number| What::File(content(number, 30));
        let wanted = [
            (&b"new"[..], What::Dir),
            (b"new/a", file(11)),
            (b"new/c", file(13)),
            (b"new/e", file(5)),
        ];
        let wanted: BTreeMap<_, _> = wanted.into_iter().collect();
        for (side, look) in Side::BOTH
            .into_iter()
            .zip([world.looks().left, world.looks().right])
        {
            let found = look.iter().filter(|(path, _)| path.as_slice() != b"anchor");
            let found: BTreeMap<_, _> = found.map(|(path, seen)| (&path[..], seen.what.clone())).collect();
            if found != wanted {
                return Err(format!("{side:?} is {found:?}\n{}", world.story().join("\n")));
            }
        }
        match world.met.conflicts {
            0 => Ok(killed),
            _ => Err(format!("a conflict of nobody's\n{}", world.story().join("\n"))),
        }
    }

    /// Time passes, and all that users did survives a power cut.
    fn synced_by_users(&self) {
        self.disk.advance(Duration::from_secs(20));
        self.clock.advance(Duration::from_secs(20));
        Side::BOTH.iter().for_each(|side| self.user.sync(*side));
    }
}
