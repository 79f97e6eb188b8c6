//! A run is killed at each of its changes in turn and then taken back: both trees are what they were before it.

use std::sync::Arc;

use syncline_model::{Result, Side};
use syncline_sync::{MaxDelete, Options, Stop};
use syncline_testkit::env::LocalSpawn;

use super::{Env, World, compare};

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
        let before = world.looks();
        world.disk.kill_at_change(at);
        let _ = world.process("sync", &options);
        let killed = world.disk.is_killed();
        world.disk.restart();
        Side::BOTH.iter().for_each(|side| world.user.sync(*side));
        let (watch, stop) = (world.watch(), Stop::default());
        let undone = world.within(async |session| {
            let runs = session.log().await?;
            let Some(run) = runs.get(1) else { return Ok(0) };
            session.undo(Some(&run.run), &options, &watch, &stop).await?;
            let runs = session.log().await?;
            Ok(runs[1].left.steps() + runs[1].right.steps())
        });
        let steps = undone.map_err(|fault| format!("the undo failed: {fault:?}"))?;
        let after = world.looks();
        for side in Side::BOTH {
            let what = format!("of {} is not what it was before the run", side.name());
            compare(&before[side], &after[side], &what, false)
                .map_err(|why| format!("{why}\n{}", world.story().join("\n")))?;
        }
        Ok(killed.then_some(steps))
    }
}
