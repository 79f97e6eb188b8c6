//! Kills: the program is killed right before one of its changing calls, judged at once, run again, judged again.
//!
//! Invariant: what an uncut run came to is what every killed and healed one must come to; no version of a file is ever without a place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::program::{Ended, Program, end};
use crate::scenario::{Cutting, Scenario};
use crate::trace::{self, Cut};
use crate::tree::{self, Content, Node, OWN, Tree};
use crate::{Seeded, workshop};

/// Who counts the calls, and kills before the one asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// We, from outside: every system call that changes something.
    Trace,
    /// The program itself: every change that its `Disk` makes, and each write of a state table. Builds with debug assertions can.
    Disk,
}

impl By {
    fn cut(self, mut command: Command, at: Option<u64>) -> Result<Cut> {
        let Self::Disk = self else {
            return trace::run(command, at);
        };
        let at = at.unwrap_or(u64::MAX);
        let ended = command.env("SYNCLINE_END_BEFORE", at.to_string()).status()?;
        Ok(match (ended.signal(), ended.code()) {
            (Some(libc::SIGKILL), _) => Cut::Killed {
                call: format!("its change {at}"),
            },
            (None, Some(exit)) => Cut::Ended { exit, calls: 0 },
            (other, _) => bail!("ended by signal {other:?}"),
        })
    }
}

/// How many points are cut.
#[derive(Debug, Clone, Copy)]
pub enum Amount {
    /// Every one.
    All,
    /// So many, drawn by a seed.
    Sample(u64),
    /// As many as fit into this time, drawn by a seed.
    For(Duration),
    /// This one.
    At(u64),
}

/// What came of a scenario.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Changing calls of an uncut run.
    pub calls: u64,
    /// Kills.
    pub points: u64,
    /// Kills that found the trees neither as they were before nor as they were to be: only these prove that half a run heals.
    pub under_way: u64,
    /// What was wrong, each with its point.
    pub violations: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl Outcome {
    /// The line that the ledger keeps.
    pub fn line(&self, scenario: &str) -> String {
        format!(
            "kill-rig scenario={scenario} calls={} points={} under_way={} violations={} seconds={:.1}",
            self.calls,
            self.points,
            self.under_way,
            self.violations.len(),
            self.seconds
        )
    }

    /// True when something was cut half-way and nothing was wrong.
    pub fn green(&self) -> bool {
        self.under_way > 0 && self.violations.is_empty()
    }
}

/// A world of its own: two trees, a state, and what they held before the run that is cut.
struct World {
    program: Program,
    before: [Tree; 2],
    /// Every version of a file that exists before the cut, and where.
    versions: BTreeMap<[u8; 32], String>,
    /// The run to be undone.
    run: Option<String>,
}

/// What an uncut run came to.
struct Reference {
    after: Tree,
    /// Both trees right after the run that is cut (an undo leaves them different).
    between: [Tree; 2],
    conflicts: usize,
}

/// Kills in one scenario.
pub fn rig(
    exe: &Path,
    scenario: &Scenario,
    (by, amount): (By, Amount),
    seed: u64,
    place: Option<&Path>,
) -> Result<Outcome> {
    let started = Instant::now();
    let shop = workshop(place)?;
    let mut worlds = 0_u64;
    let mut world = || {
        worlds += 1;
        World::make(exe, scenario, shop.path().join(format!("w{worlds}")))
    };
    let reference = world()?.reference(scenario)?;
    let calls = count(by, scenario, &mut world)?;
    let mut outcome = Outcome {
        calls,
        ..Outcome::default()
    };
    let mut random = Seeded(seed);
    let mut drawn = BTreeSet::new();
    let mut next = 0;
    // Threads do not always take the same way: only an uncut end well beyond the count is the end.
    loop {
        next += 1;
        let at = match amount {
            Amount::At(at) if next == 1 => at,
            Amount::All => next,
            Amount::Sample(most) if outcome.points < most && (drawn.len() as u64) < calls => {
                draw(&mut random, &mut drawn, calls)
            }
            Amount::For(time) if started.elapsed() < time && (drawn.len() as u64) < calls => {
                draw(&mut random, &mut drawn, calls)
            }
            _ => break,
        };
        let world = world()?;
        let killed = world.point(scenario, &reference, (by, at), &mut outcome)?;
        fs::remove_dir_all(world.root()?)?;
        if !killed && matches!(amount, Amount::All) && at > calls + calls / 20 + 5 {
            break;
        }
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    Ok(outcome)
}

/// Changing calls of an uncut run.
fn count(by: By, scenario: &Scenario, world: &mut impl FnMut() -> Result<World>) -> Result<u64> {
    let mut ends = |at| {
        let world = world()?;
        let cut = by.cut(world.cut_command(scenario), at)?;
        if let Cut::Ended { exit, .. } = cut
            && !allowed(scenario, exit)
        {
            bail!("{}: the counting run ended with {exit}", scenario.name);
        }
        fs::remove_dir_all(world.root()?)?;
        Ok(cut)
    };
    if by == By::Trace {
        return match ends(None)? {
            Cut::Ended { calls, .. } => Ok(calls),
            Cut::Killed { .. } => bail!("the counting run was killed"),
        };
    }
    // The program does not tell how far it came: where it no longer dies is the end.
    let (mut dies, mut lives) = (0, 1);
    while let Cut::Killed { .. } = ends(Some(lives))? {
        (dies, lives) = (lives, lives * 2);
    }
    if dies == 0 {
        bail!("this build does not count its own changes; one with debug assertions does");
    }
    while lives - dies > 1 {
        let middle = dies + (lives - dies) / 2;
        match ends(Some(middle))? {
            Cut::Killed { .. } => dies = middle,
            Cut::Ended { .. } => lives = middle,
        }
    }
    Ok(dies)
}

fn draw(random: &mut Seeded, drawn: &mut BTreeSet<u64>, calls: u64) -> u64 {
    loop {
        let at = 1 + random.below(calls);
        if drawn.insert(at) {
            return at;
        }
    }
}

fn allowed(scenario: &Scenario, exit: i32) -> bool {
    exit == 0 || (scenario.conflict && exit == 1)
}

impl World {
    fn make(exe: &Path, scenario: &Scenario, root: PathBuf) -> Result<Self> {
        let program = Program::below(exe, &root);
        fs::create_dir_all(&program.state)?;
        scenario.make(&program.left, &program.right)?;
        if scenario.has_past() {
            let first = end(program.sync())?;
            if first.exit != 0 {
                bail!("{}: the first sync failed: {}", scenario.name, first.told());
            }
        }
        scenario.edit(&program.left, &program.right)?;
        let mut world = Self {
            program,
            before: Default::default(),
            versions: BTreeMap::new(),
            run: None,
        };
        if scenario.cutting == Cutting::Undo {
            world.note()?;
            let done = end(world.program.sync())?;
            if done.exit != 0 {
                bail!("{}: the run to be undone failed: {}", scenario.name, done.told());
            }
            world.run = Some(done.run.context("a run without a name")?);
        }
        world.note()?;
        Ok(world)
    }

    fn root(&self) -> Result<&Path> {
        self.program.left.parent().context("a world without a root")
    }

    fn sides(&self) -> [&Path; 2] {
        [&self.program.left, &self.program.right]
    }

    /// Remembers what both trees hold now.
    fn note(&mut self) -> Result<()> {
        self.before = [tree::read(&self.program.left)?, tree::read(&self.program.right)?];
        for (side, tree) in ["left", "right"].iter().zip(&self.before) {
            for (path, node) in tree {
                if let Some(content) = node.content() {
                    self.versions
                        .entry(*content.as_bytes())
                        .or_insert(format!("{side}/{path}"));
                }
            }
        }
        Ok(())
    }

    fn cut_command(&self, scenario: &Scenario) -> Command {
        match (scenario.cutting, &self.run) {
            (Cutting::Undo, Some(run)) => self.program.of(&["undo", run]),
            _ => self.program.sync(),
        }
    }

    /// Runs to the end without any cut.
    fn reference(&self, scenario: &Scenario) -> Result<Reference> {
        let run = end(self.cut_command(scenario))?;
        if !allowed(scenario, run.exit) || (scenario.conflict && run.exit != 1) {
            bail!("{}: the uncut run failed: {}", scenario.name, run.told());
        }
        let between = [tree::read(&self.program.left)?, tree::read(&self.program.right)?];
        if scenario.cutting == Cutting::Undo {
            let sync = end(self.program.sync())?;
            if sync.exit != 0 {
                bail!(
                    "{}: the sync after the undo failed: {}",
                    scenario.name,
                    sync.told()
                );
            }
        }
        let mut faults = Vec::new();
        let after = tree::read(&self.program.left)?;
        let conflicts = end(self.program.of(&["conflicts"]))?.count("conflict");
        self.settled(scenario, &after, conflicts, &mut faults)?;
        if !faults.is_empty() {
            bail!("{}: uncut, {}", scenario.name, faults.join("; "));
        }
        Ok(Reference {
            after,
            between,
            conflicts,
        })
    }

    /// One kill; false when the run ended before its point came.
    fn point(
        &self,
        scenario: &Scenario,
        reference: &Reference,
        (by, at): (By, u64),
        outcome: &mut Outcome,
    ) -> Result<bool> {
        let mut faults = Vec::new();
        let cut = by.cut(self.cut_command(scenario), Some(at))?;
        let (killed, call) = match cut {
            Cut::Killed { call } => (true, call),
            Cut::Ended { exit, .. } => {
                if !allowed(scenario, exit) {
                    faults.push(format!("uncut, it ended with {exit}"));
                }
                (false, "nothing".into())
            }
        };
        outcome.points += u64::from(killed);
        outcome.under_way += u64::from(killed && self.half_way(reference)?);
        self.torn(reference, &mut faults)?;
        self.lost(&mut faults, "after the kill", true)?;
        self.heal(scenario, &mut faults)?;
        self.settled(scenario, &reference.after, reference.conflicts, &mut faults)?;
        let root = self.root()?.display().to_string();
        for fault in faults {
            let call = call.replace(&root, "");
            let told = format!(
                "violation scenario={} point={at} before={call}: {fault}",
                scenario.name
            );
            eprintln!("{}", told.replace(&root, ""));
            outcome.violations.push(told);
        }
        Ok(killed)
    }

    /// True when something was done to the trees, and not all.
    fn half_way(&self, reference: &Reference) -> Result<bool> {
        let now = [tree::read(&self.program.left)?, tree::read(&self.program.right)?];
        Ok(now != self.before && now != reference.between)
    }

    /// Each path holds one whole version that it had or was to have, and none that stays is gone.
    fn torn(&self, reference: &Reference, faults: &mut Vec<String>) -> Result<()> {
        let goals = [&reference.after, &reference.between[0], &reference.between[1]];
        for (side, root) in self.sides().into_iter().enumerate() {
            let now = tree::read(root)?;
            let name = ["left", "right"][side];
            for (path, node) in &now {
                let known: Vec<&Node> = self
                    .before
                    .iter()
                    .chain(goals)
                    .filter_map(|tree| tree.get(path))
                    .collect();
                match node.content() {
                    _ if known.is_empty() => faults.push(format!("{name}/{path} is a stranger")),
                    Some(content) if !known.iter().any(|known| known.content() == Some(content)) => {
                        faults.push(format!("{name}/{path} is torn"));
                    }
                    _ => {}
                }
            }
            let live: Vec<Content> = now.values().filter_map(Node::content).collect();
            for (path, node) in &self.before[side] {
                let stays = reference.after.contains_key(path) && reference.between[side].contains_key(path);
                // A version that makes room for another kind may stand under its new name already.
                let aside = node.content().is_some_and(|content| live.contains(&content));
                if stays && !aside && !now.contains_key(path) {
                    faults.push(format!("{name}/{path} is gone for a time"));
                }
            }
        }
        Ok(())
    }

    /// Every version that existed is live or in the trash; right after a kill it may still be staged.
    fn lost(&self, faults: &mut Vec<String>, when: &str, staged: bool) -> Result<()> {
        let mut found = BTreeSet::new();
        for root in self.sides() {
            found.extend(
                tree::read(root)?
                    .values()
                    .filter_map(Node::content)
                    .map(<[u8; 32]>::from),
            );
            let own = root.join(OWN);
            found.extend(tree::contents(&if staged { own } else { own.join("trash") })?);
        }
        for (version, first) in &self.versions {
            if !found.contains(version) {
                faults.push(format!("{when}, a version of {first} is lost"));
            }
        }
        Ok(())
    }

    /// What a person does after a kill: the same once more.
    fn heal(&self, scenario: &Scenario, faults: &mut Vec<String>) -> Result<()> {
        if scenario.cutting == Cutting::Undo {
            let undo = end(self.cut_command(scenario))?;
            // What was taken back already is listed as changed since.
            if !matches!(undo.exit, 0 | 2) {
                faults.push(format!("the undo does not go on: {}", undo.told()));
            }
        }
        let healed = end(self.program.sync())?;
        if !allowed(scenario, healed.exit) {
            faults.push(format!("the next run does not heal: {}", healed.told()));
        }
        Ok(())
    }

    /// Both trees are what an uncut run makes of them, nothing is lost, nothing left over, nothing left to do.
    fn settled(
        &self,
        scenario: &Scenario,
        after: &Tree,
        conflicts: usize,
        faults: &mut Vec<String>,
    ) -> Result<()> {
        let look = |faults: &mut Vec<String>, when: &str| -> Result<()> {
            for (name, root) in ["left", "right"].iter().zip(self.sides()) {
                for difference in tree::differences(&tree::read(root)?, after).iter().take(3) {
                    faults.push(format!("{when}, {name} is not what it should be: {difference}"));
                }
                let left_over = tree::names(&root.join(OWN).join("stage"))?;
                if !left_over.is_empty() {
                    faults.push(format!("{when}, {name} has left-overs: {}", left_over.join(", ")));
                }
            }
            Ok(())
        };
        look(faults, "healed")?;
        self.lost(faults, "healed", false)?;
        let third: Ended = end(self.program.sync())?;
        if !allowed(scenario, third.exit) || third.steps != Some(0) {
            faults.push(format!(
                "the third run is not quiet ({:?} steps): {}",
                third.steps,
                third.told()
            ));
        }
        look(faults, "after the third run")?;
        // The system has all that a killed process wrote: only half a change of its own could look like damage.
        let damaged = |path: &String| {
            path.rsplit('/')
                .next()
                .is_some_and(|name| name.contains(".damaged"))
        };
        for table in tree::names(&self.program.state)?
            .iter()
            .filter(|path| damaged(path))
        {
            faults.push(format!("a state table is taken for damaged: {table}"));
        }
        let listed = end(self.program.of(&["conflicts"]))?.count("conflict");
        if listed != conflicts {
            faults.push(format!("{listed} conflicts are listed instead of {conflicts}"));
        }
        Ok(())
    }
}
