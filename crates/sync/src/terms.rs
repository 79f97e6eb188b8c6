//! What a plan depends on beside its steps: the options that it was made with, as its header says them.
//!
//! Invariant: whoever carries a plan out gives limits only (copies at once, times, how much may go); all else is as it was shown.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use syncline_model::filter::Filter;
use syncline_model::replica::Links;
use syncline_model::{Classes, Fault, Kind, Mode, Pair, Policy, RelPath, Result, Side};
use syncline_replica::Durability;

use crate::api::{MaxDelete, Merged, Merger, Options, Versions};
use crate::plan_file::{bad_line, bytes, path, text};

/// The options of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    mode: Mode,
    leader: Side,
    conflict: Policy,
    /// A merge command was asked, so what both agree on is kept for it.
    merges: bool,
    writes: Pair<bool>,
    only: Vec<Value>,
    accept: Option<Side>,
    skip_deletes: Pair<bool>,
    max_delete: MaxDelete,
    trash: bool,
    trash_place: Option<String>,
    durability: Durability,
    links: Links,
    attributes: Classes,
    filter: Vec<Value>,
}

impl Terms {
    /// Those of a run that is planned.
    pub fn of(options: &Options) -> Self {
        Self {
            mode: options.mode,
            leader: options.leader,
            conflict: options.policy,
            merges: options.merger.is_some(),
            writes: options.writes,
            only: options.only.iter().map(|path| text(path.as_bytes())).collect(),
            accept: options.accept,
            skip_deletes: options.skip_deletes,
            max_delete: options.max_delete,
            trash: options.trash,
            trash_place: options.trash_place.clone(),
            durability: options.durability,
            links: options.links,
            attributes: options.classes,
            filter: options.filter.rules().map(text).collect(),
        }
    }

    /// These, within the limits that `asked` gives.
    pub fn within(self, asked: &Options) -> Result<Options> {
        let only: Option<Vec<RelPath>> = self.only.iter().map(path).collect();
        let rules: Option<Vec<Vec<u8>>> = self.filter.iter().map(bytes).collect();
        let filter = Filter::from_rules(rules.ok_or_else(|| bad_line(1))?).map_err(|_| bad_line(1))?;
        let merger: Option<Arc<dyn Merger>> = if self.merges { Some(Arc::new(Asked)) } else { None };
        Ok(Options {
            mode: self.mode,
            leader: self.leader,
            policy: self.conflict,
            merger,
            writes: self.writes,
            only: only.ok_or_else(|| bad_line(1))?,
            accept: self.accept,
            skip_deletes: self.skip_deletes,
            max_delete: match asked.max_delete {
                MaxDelete::Default => self.max_delete,
                given => given,
            },
            trash: self.trash,
            trash_place: self.trash_place,
            durability: self.durability,
            links: self.links,
            classes: self.attributes,
            filter: Arc::new(filter),
            ..asked.clone()
        })
    }
}

/// A merge command that was asked when the plan was made, and is not asked again.
struct Asked;

#[async_trait]
impl Merger for Asked {
    async fn merge(&self, versions: Versions<'_>) -> Result<Merged> {
        Err(Fault::new(
            Kind::Bug,
            "a plan is carried out without a merge command",
            versions.path,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plan_was_made_with_is_read_again() {
        let mut filter = Filter::default();
        filter.option(false, b"*.o").unwrap();
        filter.option(true, b"keep\xff.o").unwrap();
        let made = Options {
            mode: Mode::Mirror,
            leader: Side::Right,
            policy: Policy::Newest,
            writes: Pair::new(false, true),
            only: vec![RelPath::new(*b"a/\xfe").unwrap()],
            accept: Some(Side::Right),
            skip_deletes: Pair::new(true, false),
            max_delete: MaxDelete::Percent(7),
            trash: false,
            trash_place: Some("s3://b/t".into()),
            durability: Durability::File,
            links: Links::Follow,
            classes: Classes {
                mode: false,
                xattrs: true,
                acls: true,
                ctime: false,
                ..Classes::default()
            },
            filter: Arc::new(filter),
            ..Options::default()
        };
        let written = serde_json::to_string(&Terms::of(&made)).unwrap();
        let read: Terms = serde_json::from_str(&written).unwrap();
        let asked = Options {
            jobs: 9,
            max_delete: MaxDelete::Count(3),
            dry_run: true,
            ..Options::default()
        };
        let options = read.clone().within(&asked).unwrap();
        assert_eq!(
            (options.jobs, options.dry_run, options.max_delete),
            (9, true, MaxDelete::Count(3))
        );
        let options = read.within(&Options::default()).unwrap();
        assert_eq!(Terms::of(&options), Terms::of(&made));
        assert_eq!((&options.only, &options.filter), (&made.only, &made.filter));
    }
}
