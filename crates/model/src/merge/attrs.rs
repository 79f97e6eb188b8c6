//! Attributes merged one by one, each extended attribute by its name, each by the three-way rule; where both sides changed one, or no base knows
//! it, the greater value wins, and one that is there wins over none. Of permissions what only one side grants to others is granted to nobody.

use std::collections::BTreeSet;

use crate::entry::{Entry, Meta, Observation, Time, Xattrs};
use crate::plan::{Pair, Rule, Side};

/// What attributes become.
pub(super) struct Merged {
    /// On each side. They differ only where they were agreed to differ (a side that may not set an owner, say).
    pub wanted: Pair<Meta>,
    /// Another attribute than the time was changed differently by both, or stood differently at first contact: the greater one was taken.
    pub tied: bool,
}

/// What each side's attributes become.
pub(super) fn merge(rule: &Rule, dir: bool, base: Pair<Option<&Meta>>, left: &Meta, right: &Meta) -> Merged {
    let of = |side: Side| base[side].map(|meta| mask(rule, meta));
    let base = Pair::each(of);
    let now = Pair::new(mask(rule, left), mask(rule, right));
    let mut tied = false;
    let equal = |a: &u32, b: &u32| a == b;
    let both = |a, b| narrower(dir, a, b);
    let mode = attr(&base, &now, |meta| meta.mode, equal, both, &mut tied);
    let owner = attr(&base, &now, |meta| meta.owner, |a, b| a == b, Ord::max, &mut tied);
    let same = |a: &Time, b: &Time| same_time(rule, *a, *b);
    let mtime = attr(&base, &now, |meta| meta.mtime, same, Ord::max, &mut false);
    let mut xattrs = xattrs(&base, &now, &mut tied);
    let wanted = Pair::each(|side| Meta {
        mode: mode[side],
        owner: owner[side],
        mtime: mtime[side],
        xattrs: xattrs[side].take(),
    });
    Merged { wanted, tied }
}

fn attr<T: Copy>(
    base: &Pair<Option<Meta>>,
    now: &Pair<Meta>,
    pick: fn(&Meta) -> Option<T>,
    same: impl Fn(&T, &T) -> bool,
    of_both: impl Fn(T, T) -> T,
    tied: &mut bool,
) -> Pair<Option<T>> {
    let (Some(left), Some(right)) = (pick(&now.left), pick(&now.right)) else {
        return Pair::new(pick(&now.left), pick(&now.right));
    };
    let based = Pair::each(|side| base[side].as_ref().and_then(pick));
    let merged = three_way(based, Pair::new(left, right), same, of_both, tied);
    Pair::new(Some(merged.left), Some(merged.right))
}

/// What both modes grant, and what either grants to the owner: a file that one side keeps private stays so. The sticky bit takes away from
/// others too, and the group of a directory is passed on if either side does so.
fn narrower(dir: bool, a: u32, b: u32) -> u32 {
    let either = if dir { 0o3700 } else { 0o1700 };
    (a & b) | ((a | b) & either)
}

fn three_way<T: Copy>(
    base: Pair<Option<T>>,
    now: Pair<T>,
    same: impl Fn(&T, &T) -> bool,
    of_both: impl Fn(T, T) -> T,
    tied: &mut bool,
) -> Pair<T> {
    if same(&now.left, &now.right) {
        return now;
    }
    let changed = |side: Side| base[side].as_ref().is_none_or(|base| !same(base, &now[side]));
    match (changed(Side::Left), changed(Side::Right)) {
        (false, false) => now,
        (true, false) => Pair::new(now.left, now.left),
        (false, true) => Pair::new(now.right, now.right),
        (true, true) => {
            *tied = true;
            let both = of_both(now.left, now.right);
            Pair::new(both, both)
        }
    }
}

/// Each by its name; that there is none of that name is a value as any other.
fn xattrs(base: &Pair<Option<Meta>>, now: &Pair<Meta>, tied: &mut bool) -> Pair<Option<Box<Xattrs>>> {
    let (Some(left), Some(right)) = (&now.left.xattrs, &now.right.xattrs) else {
        return Pair::new(now.left.xattrs.clone(), now.right.xattrs.clone());
    };
    if left == right {
        return Pair::new(now.left.xattrs.clone(), now.right.xattrs.clone());
    }
    let base = Pair::each(|side| base[side].as_ref().and_then(|meta| meta.xattrs.as_deref()));
    let known = Side::BOTH.into_iter().filter_map(|side| base[side]);
    let all = [&**left, &**right].into_iter().chain(known).flatten();
    let names: BTreeSet<&[u8]> = all.map(|(name, _)| name.as_slice()).collect();
    let mut wanted = Pair::new(Xattrs::new(), Xattrs::new());
    for name in names {
        let value = |all: &Xattrs| {
            // What others wrote into a bucket need not be in order.
            let mut all = all.iter();
            all.find(|(known, _)| known == name)
                .map(|(_, value)| value.clone())
        };
        let (l, r) = (value(left), value(right));
        let base = Pair::each(|side| base[side].map(value));
        let base = Pair::each(|side| base[side].as_ref().map(Option::as_deref));
        let now = Pair::new(l.as_deref(), r.as_deref());
        let merged = three_way(base, now, |a, b| a == b, Ord::max, tied);
        for side in Side::BOTH {
            wanted[side].extend(merged[side].map(|value| (name.to_vec(), value.to_vec())));
        }
    }
    Pair::new(Some(Box::new(wanted.left)), Some(Box::new(wanted.right)))
}

/// The attributes that this rule compares and carries.
pub(super) fn mask(rule: &Rule, meta: &Meta) -> Meta {
    let classes = &rule.classes;
    Meta {
        mode: meta.mode.filter(|_| classes.mode),
        owner: meta.owner.filter(|_| classes.owner),
        mtime: meta.mtime.filter(|_| classes.times),
        xattrs: meta.xattrs.clone().filter(|_| classes.xattrs || classes.acls),
    }
}

/// Equal as far as the coarser of the two sides can tell.
fn same_time(rule: &Rule, a: Time, b: Time) -> bool {
    if a == b || rule.time_step <= 1 {
        return a == b;
    }
    let ns = |t: Time| i128::from(t.secs) * 1_000_000_000 + i128::from(t.nanos);
    (ns(a) - ns(b)).abs() < i128::from(rule.time_step)
}

/// Which attributes of `now` would have to be set so that it bears `wanted`: none, only the time, or others too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    None,
    Time,
    More,
}

/// Compares what a side bears with what it is to bear; what the side does not hold is no gap.
pub(super) fn gap(rule: &Rule, now: &Meta, wanted: &Meta) -> Gap {
    fn differs<T: PartialEq>(now: Option<&T>, wanted: Option<&T>) -> bool {
        matches!((now, wanted), (Some(now), Some(wanted)) if now != wanted)
    }
    let now = mask(rule, now);
    if differs(now.mode.as_ref(), wanted.mode.as_ref())
        || differs(now.owner.as_ref(), wanted.owner.as_ref())
        || differs(now.xattrs.as_ref(), wanted.xattrs.as_ref())
    {
        return Gap::More;
    }
    match (now.mtime, wanted.mtime) {
        (Some(now), Some(wanted)) if !same_time(rule, now, wanted) => Gap::Time,
        _ => Gap::None,
    }
}

/// True when an attribute that is compared is not the base's.
pub(super) fn changed(rule: &Rule, base: &Entry, now: &Entry) -> bool {
    match (base.meta(), now.meta()) {
        (Some(base), Some(now)) => gap(rule, now, &mask(rule, base)) != Gap::None,
        _ => true,
    }
}

/// The entry with the attributes that are carried, and no others.
pub(super) fn carried(rule: &Rule, entry: &Entry) -> Entry {
    let mut entry = entry.clone();
    if let Some(meta) = entry.meta_mut() {
        *meta = mask(rule, meta);
    }
    entry
}

/// `meta`, with what it lacks taken from `from`.
pub(super) fn completed(meta: Meta, from: &Meta) -> Meta {
    Meta {
        mode: meta.mode.or(from.mode),
        owner: meta.owner.or(from.owner),
        mtime: meta.mtime.or(from.mtime),
        xattrs: meta.xattrs.or_else(|| from.xattrs.clone()),
    }
}

/// The attributes of an observation; opaque ones have none.
pub(super) fn meta_of(seen: Option<&Observation>) -> Option<&Meta> {
    seen.and_then(|seen| seen.entry.meta())
}
