//! Attributes merged one by one, each by the three-way rule; where both sides changed one, or no base knows it, the greater value wins.

use crate::entry::{Entry, Meta, Observation, Time};
use crate::plan::{Pair, Rule, Side};

/// What each side's attributes become. They differ only where they were agreed to differ (a side that may not set an owner, say).
pub(super) fn merge(rule: &Rule, base: Pair<Option<&Meta>>, left: &Meta, right: &Meta) -> Pair<Meta> {
    let of = |side: Side| base[side].map(|meta| mask(rule, meta));
    let (bl, br) = (of(Side::Left), of(Side::Right));
    let (l, r) = (mask(rule, left), mask(rule, right));
    let known = |pick: fn(&Meta) -> Option<Time>| (bl.as_ref().and_then(pick), br.as_ref().and_then(pick));
    let mode = attr(
        bl.as_ref().and_then(|m| m.mode),
        br.as_ref().and_then(|m| m.mode),
        l.mode,
        r.mode,
        |a, b| a == b,
    );
    let owner = attr(
        bl.as_ref().and_then(|m| m.owner),
        br.as_ref().and_then(|m| m.owner),
        l.owner,
        r.owner,
        |a, b| a == b,
    );
    let (tl, tr) = known(|meta| meta.mtime);
    let mtime = attr(tl, tr, l.mtime, r.mtime, |a, b| same_time(rule, *a, *b));
    let xattrs = attr(
        bl.and_then(|m| m.xattrs),
        br.and_then(|m| m.xattrs),
        l.xattrs,
        r.xattrs,
        |a, b| a == b,
    );
    Pair::new(
        Meta {
            mode: mode.left,
            owner: owner.left,
            mtime: mtime.left,
            xattrs: xattrs.left,
        },
        Meta {
            mode: mode.right,
            owner: owner.right,
            mtime: mtime.right,
            xattrs: xattrs.right,
        },
    )
}

fn attr<T: Ord + Clone>(
    base_left: Option<T>,
    base_right: Option<T>,
    left: Option<T>,
    right: Option<T>,
    same: impl Fn(&T, &T) -> bool,
) -> Pair<Option<T>> {
    let (Some(l), Some(r)) = (&left, &right) else {
        return Pair::new(left, right);
    };
    if same(l, r) {
        return Pair::new(left, right);
    }
    let changed = |base: &Option<T>, now: &T| base.as_ref().is_none_or(|base| !same(base, now));
    match (changed(&base_left, l), changed(&base_right, r)) {
        (false, false) => Pair::new(left, right),
        (true, false) => Pair::new(left.clone(), left),
        (false, true) => Pair::new(right.clone(), right),
        (true, true) => {
            let greater = l.max(r).clone();
            Pair::new(Some(greater.clone()), Some(greater))
        }
    }
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
