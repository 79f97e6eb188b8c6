//! Conflicts: those that one run met, and those that wait to be settled.
//!
//! Invariant: both are kept by path, and each is gone through once, however many they are; what a run met is in memory only while it is
//! little. At one path there waits at most one without a winner, and one for each copy that was made.

use std::collections::HashSet;

use syncline_model::{Clash, Conflict, RelPath, Result, Slot};
use syncline_store::Batch;

use crate::api::OpenConflict;
use crate::rows::{Base, CONFLICT, decode, encode, key};
use crate::spill::{Spill, Spilt};

/// Conflicts that are written at once.
const TOGETHER: usize = 256;

/// Conflicts that a run met.
pub struct Met {
    by_path: Spill<Conflict>,
    count: u64,
    moved: u64,
}

impl Met {
    /// None so far.
    pub fn new(base: &Base) -> Self {
        Self {
            by_path: Spill::new(base, Spilt::Met),
            count: 0,
            moved: 0,
        }
    }

    /// One more.
    pub fn add(&mut self, conflict: &Conflict) -> Result<()> {
        // No path holds a NUL: several conflicts at one path stay together, in the order in which they were met.
        let key = [conflict.path.as_bytes(), &[0][..], &self.count.to_be_bytes()].concat();
        self.count += 1;
        self.moved += u64::from(conflict.clash == Clash::Moved);
        self.by_path.put(&key, conflict)
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// True when there was none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many are only told: what moved on both sides is settled by the run that met it.
    pub fn only_told(&self) -> u64 {
        self.moved
    }

    /// All of them by path.
    pub fn rows(&self) -> impl Iterator<Item = Result<Conflict>> + '_ {
        self.by_path.rows().map(|row| decode(&row?.1))
    }
}

/// The part of a tree that a run looked at: all of it, or what lies within some paths.
pub struct Looked<'a>(HashSet<&'a RelPath>);

impl<'a> Looked<'a> {
    /// Within `only`; all of it if that is empty.
    pub fn at(only: &'a [RelPath]) -> Self {
        Self(only.iter().collect())
    }

    fn has(&self, path: &RelPath) -> bool {
        let mut above = std::iter::successors(Some(path.clone()), RelPath::parent);
        self.0.is_empty() || above.any(|path| self.0.contains(&path))
    }
}

impl Base {
    /// Conflicts that wait, by path.
    pub fn conflicts(&self) -> impl Iterator<Item = Result<OpenConflict>> + Send + use<> {
        let rows = self.table().scan(&[CONFLICT], &[CONFLICT]);
        rows.map(|row| opened(&row?.1))
    }

    /// How many conflicts wait.
    pub fn count_conflicts(&self) -> Result<u64> {
        let mut rows = self.table().scan(&[CONFLICT], &[CONFLICT]);
        rows.try_fold(0, |count, row| row.map(|_| count + 1))
    }

    /// The conflicts that wait at `path`, the latest last.
    pub fn conflicts_at(&self, path: &RelPath) -> Result<Vec<OpenConflict>> {
        let at = [path.as_bytes(), &[0][..]].concat();
        let held = self.table().get(&key(CONFLICT, path.as_bytes()))?;
        let kept = self.table().scan(&key(CONFLICT, &at), &key(CONFLICT, &at));
        let mut found: Vec<_> = kept.map(|row| opened(&row?.1)).collect::<Result<_>>()?;
        found.sort_by(|a, b| a.run.cmp(&b.run));
        found.extend(held.map(|value| opened(&value)).transpose()?);
        Ok(found)
    }

    /// Forgets these conflicts.
    pub fn settle_conflicts<'a>(&self, settled: impl IntoIterator<Item = &'a Conflict>) -> Result<()> {
        let mut changes = Changes::of(self);
        for conflict in settled {
            changes.make(conflict, None)?;
        }
        changes.end()
    }

    /// A run was taken back: what it had met waits no longer, and what it had resolved waits again.
    pub fn unmeet(&self, run: &str, resolved: &[(Conflict, String)]) -> Result<()> {
        let mut changes = Changes::of(self);
        for open in self.conflicts() {
            let open = open?;
            if open.run == run {
                changes.make(&open.conflict, None)?;
            }
        }
        for again in resolved {
            changes.make(&again.0, Some(encode(again)?))?;
        }
        changes.end()
    }

    /// What a run met joins what waits, but for what its rule has settled.
    pub fn note_conflicts(&self, run: &str, met: &Met) -> Result<()> {
        let mut changes = Changes::of(self);
        for conflict in met.rows() {
            let conflict = conflict?;
            if waits(&conflict) {
                changes.make(&conflict, Some(encode(&(&conflict, run))?))?;
            }
        }
        changes.end()
    }

    /// What waits once a run has ended: what it met, and what it found neither settled nor without one of its files. What waits for a
    /// winner is met by every run that looks there.
    pub fn keep_conflicts(&self, run: &str, met: &Met, looked: &Looked<'_>) -> Result<()> {
        let mut changes = Changes::of(self);
        for open in self.conflicts() {
            let OpenConflict { conflict, .. } = open?;
            let settled = if conflict.winner.is_none() {
                looked.has(&conflict.path)
            } else {
                let seen = conflict.kept.iter().all(|path| looked.has(path));
                seen && self.lost_a_file(&conflict)?
            };
            if settled {
                changes.make(&conflict, None)?;
            }
        }
        changes.end()?;
        self.note_conflicts(run, met)
    }

    /// How many would be told of and wait if a run that met these changed nothing.
    pub fn would_wait(&self, met: &Met, looked: &Looked<'_>) -> Result<u64> {
        let mut count = met.only_told();
        for open in self.conflicts() {
            let conflict = open?.conflict;
            // What waits for a winner is met again where the run looks.
            count += u64::from(conflict.winner.is_some() || !looked.has(&conflict.path));
        }
        for conflict in met.rows() {
            let conflict = conflict?;
            let known = |conflict: &Conflict| self.table().get(&key(CONFLICT, &place(conflict)));
            let new = conflict.winner.is_none() || known(&conflict)?.is_none();
            count += u64::from(waits(&conflict) && new);
        }
        Ok(count)
    }

    fn lost_a_file(&self, conflict: &Conflict) -> Result<bool> {
        for path in &conflict.kept {
            if self.row(&Slot::of(path, false))?.is_none() && self.row(&Slot::of(path, true))?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// True for what a person has to settle: neither a rule nor the run itself has.
fn waits(conflict: &Conflict) -> bool {
    conflict.winner.is_none() || conflict.kept.len() > 1
}

/// Where a conflict waits: by its path and its copy. No path holds a NUL.
fn place(conflict: &Conflict) -> Vec<u8> {
    let mut place = conflict.path.as_bytes().to_vec();
    if let Some(copy) = conflict.kept.get(1) {
        place.push(0);
        place.extend_from_slice(copy.as_bytes());
    }
    place
}

fn opened(value: &[u8]) -> Result<OpenConflict> {
    let (conflict, run): (Conflict, String) = decode(value)?;
    Ok(OpenConflict { conflict, run })
}

/// Changes of what waits, some at a time.
struct Changes<'a> {
    base: &'a Base,
    batch: Batch,
}

impl<'a> Changes<'a> {
    fn of(base: &'a Base) -> Self {
        let batch = Batch::new();
        Self { base, batch }
    }

    fn make(&mut self, conflict: &Conflict, value: Option<Vec<u8>>) -> Result<()> {
        // Earlier versions kept one conflict for each path, under that alone.
        let alone = key(CONFLICT, conflict.path.as_bytes());
        if value.is_none()
            && conflict.kept.len() > 1
            && let Some(old) = self.base.table().get(&alone)?
            && opened(&old)?.conflict == *conflict
        {
            self.batch.push((alone, None));
        }
        self.batch.push((key(CONFLICT, &place(conflict)), value));
        if self.batch.len() < TOGETHER {
            return Ok(());
        }
        self.base.table().write(std::mem::take(&mut self.batch))
    }

    fn end(self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.base.table().write(self.batch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;
    use syncline_model::{Pair, Side};
    use syncline_store::{Rows, Table};
    use syncline_testkit::mem_table::MemTable;

    use super::*;

    /// A table that counts the rows that were read from it, and its writes.
    #[derive(Clone, Default)]
    struct Counted {
        table: MemTable,
        read: Arc<AtomicU64>,
        written: Arc<AtomicU64>,
    }

    impl Table for Counted {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
            self.read.fetch_add(1, Ordering::Relaxed);
            self.table.get(key)
        }
        fn scan(&self, prefix: &[u8], from: &[u8]) -> Rows {
            let read = self.read.clone();
            Box::new(self.table.scan(prefix, from).inspect(move |_| {
                read.fetch_add(1, Ordering::Relaxed);
            }))
        }
        fn write(&self, batch: Batch) -> Result<()> {
            self.written.fetch_add(1, Ordering::Relaxed);
            self.table.write(batch)
        }
        fn load(&self, changes: syncline_store::Changes) -> Result<()> {
            self.table.load(changes)
        }
        fn persist(&self) -> Result<()> {
            self.table.persist()
        }
    }

    fn path(text: &str) -> RelPath {
        RelPath::try_from(text).unwrap()
    }

    fn conflict(at: &str, winner: Option<Side>, kept: &[&str]) -> Conflict {
        Conflict {
            path: path(at),
            clash: Clash::Edited,
            sides: Pair::default(),
            winner,
            kept: kept.iter().map(|kept| path(kept)).collect(),
        }
    }

    fn met(base: &Base, conflicts: &[Conflict]) -> Met {
        let mut met = Met::new(base);
        for conflict in conflicts {
            met.add(conflict).unwrap();
        }
        met
    }

    fn waiting(base: &Base) -> Vec<(RelPath, String)> {
        let path = |open: Result<OpenConflict>| open.map(|open| (open.conflict.path, open.run));
        base.conflicts().map(path).collect::<Result<_>>().unwrap()
    }

    /// Were each of those that wait looked for among those that were met, it would grow with the square.
    #[test]
    fn what_conflicts_cost_grows_with_their_number_and_not_faster() {
        let cost = |many: usize| {
            let table = Counted::default();
            let base = Base::open(Arc::new(table.clone())).unwrap();
            let held = |at: usize| conflict(&format!("d/{at}"), None, &[]);
            let first = met(&base, &(0..many).map(held).collect::<Vec<_>>());
            base.keep_conflicts("one", &first, &Looked::at(&[])).unwrap();
            drop(first);
            let again = met(
                &base,
                &(many / 2..many * 3 / 2).rev().map(held).collect::<Vec<_>>(),
            );
            let before = (
                table.read.load(Ordering::Relaxed),
                table.written.load(Ordering::Relaxed),
            );
            base.keep_conflicts("two", &again, &Looked::at(&[])).unwrap();
            assert_eq!(base.count_conflicts().unwrap(), many as u64);
            let read = table.read.load(Ordering::Relaxed) - before.0;
            let written = table.written.load(Ordering::Relaxed) - before.1;
            (read, written)
        };
        let many = 12_000;
        let (read, written) = cost(many);
        assert!(read <= 4 * many as u64, "{read} rows were read");
        assert!(written <= many as u64 / 100, "{written} writes");
        assert!(cost(2 * many).0 <= 8 * many as u64);
    }

    #[test]
    fn what_was_met_is_told_by_path_and_in_the_order_in_which_it_was_met() {
        let base = Base::open(Arc::new(MemTable::new())).unwrap();
        // More than are kept in memory, the last ones first.
        let many = 10_000;
        let conflicts: Vec<_> = (0..many)
            .rev()
            .flat_map(|at| {
                [Side::Left, Side::Right].map(|side| conflict(&format!("{at:06}"), Some(side), &[]))
            })
            .collect();
        let met = met(&base, &conflicts);
        assert_eq!(met.len(), 2 * many);
        let told: Vec<_> = met.rows().map(Result::unwrap).collect();
        let mut expected = conflicts;
        expected.sort_by_key(|conflict| conflict.path.clone());
        assert!(told == expected, "the same, sorted by path alone");
    }

    /// No winner, both versions kept, or settled by a rule.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum End {
        Held,
        Kept,
        Ruled,
    }

    #[derive(Debug, Clone)]
    struct Case {
        waits: Vec<(u8, End)>,
        met: Vec<(u8, End)>,
        rows: Vec<u8>,
        only: Vec<u8>,
    }

    fn cases() -> impl Strategy<Value = Case> {
        let end = || prop::sample::select(vec![End::Held, End::Kept, End::Ruled]);
        let some = || prop::collection::btree_map(0..24_u8, end(), 0..12);
        let few = || prop::collection::btree_set(0..24_u8, 0..12);
        (some(), some(), few(), prop::collection::btree_set(0..6_u8, 0..3)).prop_map(
            |(waits, met, rows, only)| Case {
                waits: waits.into_iter().collect(),
                met: met.into_iter().collect(),
                rows: rows.into_iter().collect(),
                only: only.into_iter().collect(),
            },
        )
    }

    /// Some below directories whose names begin alike.
    fn name(at: u8) -> String {
        let dirs = ["a", "a b", "a\u{1}", "b/c", "b", "c"];
        format!("{}/{}", dirs[usize::from(at) % dirs.len()], at)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        /// Against what is looked up for each by itself.
        #[test]
        fn what_waits_is_what_was_met_and_what_is_not_settled(case in cases()) {
            let base = Base::open(Arc::new(MemTable::new())).unwrap();
            let made = |&(at, end): &(u8, End)| {
                let (own, copy) = (name(at), format!("{} copy", name(at)));
                match end {
                    End::Held => conflict(&own, None, &[]),
                    End::Kept => conflict(&own, Some(Side::Left), &[&own, &copy]),
                    End::Ruled => conflict(&own, Some(Side::Left), &[&own]),
                }
            };
            let waits: Vec<_> = case.waits.iter().map(made).collect();
            base.note_conflicts("one", &met(&base, &waits)).unwrap();
            for &at in &case.rows {
                for name in [name(at), format!("{} copy", name(at))] {
                    let slot = Slot::of(&path(&name), at % 2 == 0);
                    base.write(vec![(slot, Some(Pair::default()))]).unwrap();
                }
            }
            let only: Vec<_> = case.only.iter().map(|&at| path(name(at).split_once('/').unwrap().0)).collect();
            let now: Vec<_> = case.met.iter().map(made).collect();
            base.keep_conflicts("two", &met(&base, &now), &Looked::at(&only)).unwrap();

            let waits_for_a_person = |conflict: &&Conflict| conflict.winner.is_none() || conflict.kept.len() == 2;
            let stays = |old: &&Conflict| {
                let seen = only.is_empty() || only.iter().any(|only| old.path.is_within(only));
                let whole = old.winner.is_some() && case.rows.iter().any(|&at| path(&name(at)) == old.path);
                !seen || whole
            };
            let left = waits.iter().filter(waits_for_a_person).filter(stays);
            let mut expected: std::collections::BTreeMap<Vec<u8>, (RelPath, String)> =
                left.map(|old| (place(old), (old.path.clone(), "one".into()))).collect();
            let met = now.iter().filter(waits_for_a_person);
            expected.extend(met.map(|new| (place(new), (new.path.clone(), "two".into()))));
            let expected: Vec<_> = expected.into_values().collect();
            prop_assert_eq!(waiting(&base), expected);
        }
    }
}
