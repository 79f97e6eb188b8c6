//! Options that a config file, a repository or a command line may give, each over the one before.
//!
//! Invariant: what nobody gave is `None`; only [`Kept::options`] knows the defaults.

use serde::{Deserialize, Serialize};
use syncline_model::{Classes, Fault, Kind, Policy, Result};
use syncline_sync::Options;

use crate::args::{FilterArg, RuleArgs};
use crate::open::World;
use crate::place::{of_option, shown};
use crate::values::{Brake, ConflictRule, DurabilityWord, LinksWord, ModeWord, Rate, SidesWord};

/// Options of a session; in files each has the name that it has on the command line.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kept {
    /// Which way changes travel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ModeWord>,
    /// How conflicts are settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict: Option<ConflictRule>,
    /// The brake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_delete: Option<Brake>,
    /// Where deletions are not carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_deletes: Option<SidesWord>,
    /// Keep nothing of what is displaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_trash: Option<bool>,
    /// Where what is displaced is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trash: Option<String>,
    /// When done means durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub durability: Option<DurabilityWord>,
    /// What becomes of symlinks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<LinksWord>,
    /// Owners are left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_owner: Option<bool>,
    /// Permission bits are left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_mode: Option<bool>,
    /// Times are left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_times: Option<bool>,
    /// Hard links are parted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_hard_links: Option<bool>,
    /// Times of status change are not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_ctime: Option<bool>,
    /// Extended attributes are carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xattrs: Option<bool>,
    /// ACLs are carried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acls: Option<bool>,
    /// Copies at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jobs: Option<u16>,
    /// Bytes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Rate>,
    /// What takes part, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter: Vec<FilterArg>,
}

impl Kept {
    /// What the command line gives.
    pub fn typed(args: RuleArgs, filter: Vec<FilterArg>) -> Self {
        let flag = |given: bool| given.then_some(true);
        Self {
            mode: args.mode,
            conflict: args.conflict,
            max_delete: args.max_delete,
            skip_deletes: args.skip_deletes,
            no_trash: flag(args.no_trash),
            trash: args.trash,
            durability: args.durability,
            links: args.links,
            no_owner: flag(args.no_owner),
            no_mode: flag(args.no_mode),
            no_times: flag(args.no_times),
            no_hard_links: flag(args.no_hard_links),
            no_ctime: flag(args.no_ctime),
            xattrs: flag(args.xattrs),
            acls: flag(args.acls),
            jobs: args.jobs,
            bandwidth: args.bandwidth,
            filter,
        }
    }

    /// This, and where it says nothing, `below`. Filter rules of `below` come first, so that these have the last word.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        let mut filter = below.filter;
        filter.extend(self.filter);
        Self {
            mode: self.mode.or(below.mode),
            conflict: self.conflict.or(below.conflict),
            max_delete: self.max_delete.or(below.max_delete),
            skip_deletes: self.skip_deletes.or(below.skip_deletes),
            // What is said of the trash above leaves nothing of what is said below.
            no_trash: self.no_trash.or(below.no_trash.filter(|_| self.trash.is_none())),
            trash: self.trash.or(below.trash.filter(|_| self.no_trash.is_none())),
            durability: self.durability.or(below.durability),
            links: self.links.or(below.links),
            no_owner: self.no_owner.or(below.no_owner),
            no_mode: self.no_mode.or(below.no_mode),
            no_times: self.no_times.or(below.no_times),
            no_hard_links: self.no_hard_links.or(below.no_hard_links),
            no_ctime: self.no_ctime.or(below.no_ctime),
            xattrs: self.xattrs.or(below.xattrs),
            acls: self.acls.or(below.acls),
            jobs: self.jobs.or(below.jobs),
            bandwidth: self.bandwidth.or(below.bandwidth),
            filter,
        }
    }

    /// A place of trash that was typed is meant from where one stands; it is kept by its whole name.
    pub fn name_trash(&mut self, world: &World) -> Result<()> {
        if let Some(text) = &self.trash {
            let place = world.place(text.as_ref()).map_err(of_option("--trash"))?;
            let whole = place.text.into_string();
            self.trash = Some(whole.map_err(|text| {
                Fault::new(Kind::Invalid, "the trash's place is named in UTF-8", shown(&text))
            })?);
        }
        Ok(())
    }

    /// What the engine is asked for. The filter is not among it: it needs the roots' own rules.
    pub fn options(&self) -> Options {
        let plain = Options::default();
        let on = |no: Option<bool>| !no.unwrap_or(false);
        let policy = match &self.conflict {
            None => plain.policy,
            Some(ConflictRule::Policy(policy)) => *policy,
            Some(ConflictRule::Merge(_)) => Policy::KeepBoth,
        };
        Options {
            mode: self.mode.map_or(plain.mode, |word| word.0),
            policy,
            max_delete: self.max_delete.map_or(plain.max_delete, |brake| brake.0),
            skip_deletes: self.skip_deletes.map_or(plain.skip_deletes, |word| word.0),
            trash: on(self.no_trash),
            durability: self.durability.map_or(plain.durability, |word| word.0),
            links: self.links.map_or(plain.links, |word| word.0),
            classes: Classes {
                mode: on(self.no_mode),
                owner: on(self.no_owner),
                times: on(self.no_times),
                xattrs: self.xattrs.unwrap_or(false),
                acls: self.acls.unwrap_or(false),
                links: on(self.no_hard_links),
                ctime: on(self.no_ctime),
            },
            jobs: self.jobs.map_or(plain.jobs, usize::from),
            ..plain
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_wins_and_filters_add_up() {
        let below: Kept = toml::from_str(
            "mode = \"mirror\"\nno-owner = true\nmax-delete = \"20%\"\nfilter = [{exclude = \"a\"}]",
        )
        .unwrap();
        let above: Kept =
            toml::from_str("mode = \"copy\"\nno-owner = false\nfilter = [{include = \"b\"}]").unwrap();
        let both = above.over(below);
        assert_eq!(both.mode.unwrap().to_string(), "copy");
        assert!(both.options().classes.owner);
        assert_eq!(both.max_delete.unwrap().to_string(), "20%");
        assert_eq!(
            both.filter,
            [FilterArg::Exclude("a".into()), FilterArg::Include("b".into())]
        );
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let kept: Kept = toml::from_str(
            "conflict = \"merge=diff3 -m\"\nbandwidth = \"10M\"\nlinks = \"skip\"\nfilter = [{from = \"/r\"}]",
        )
        .unwrap();
        let text = toml::to_string(&kept).unwrap();
        assert_eq!(toml::from_str::<Kept>(&text).unwrap(), kept);
        assert!(!text.contains("mode"), "{text}");
    }
}
