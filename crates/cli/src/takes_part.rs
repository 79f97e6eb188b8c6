//! What takes part in a run: `.synclineignore` of both roots (that of a bucket first), then the rules of the session in order, then our own state.
//!
//! Invariant: our own state never takes part, whatever the rules say; the rules of a bucket take nothing in that those of a directory here, or
//! of the session, leave out (SP13), since of the rules for a path the last one counts; a bad rule is named by file and line, never by its text (SR3).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use syncline_model::filter::{BadRule, Filter, file_lines};
use syncline_model::{Entry, Fault, Kind, RelPath, Result, Scope, Side, replica::OWN_DIR};
use syncline_replica::Replica;

use crate::args::FilterArg;
use crate::files::{Files, TEXT_MAX, draft_name};
use crate::open::Opened;
use crate::place::shown;
use crate::roots::exact_pattern;

/// Rules that a root brings along.
const IGNORE: &str = ".synclineignore";

/// The filter of a run.
/// `agreed` spares a question to a bucket: its copy was agreed on with ours, and a newer one comes with this run and counts
/// from the next one on. `plan` is a file of ours that is being written, perhaps within a root.
pub async fn filter(
    files: &Files,
    opened: &Opened,
    rules: &[FilterArg],
    agreed: bool,
    plan: Option<&Path>,
) -> Result<Arc<Filter>> {
    let mut filter = Filter::default();
    let mut before: Option<Vec<u8>> = None;
    let mut order = Side::BOTH;
    order.sort_by_key(|side| opened.places[*side].dir().is_some());
    for side in order {
        let other_is_local = opened.places[side.other()].dir().is_some();
        if agreed && opened.places[side].dir().is_none() && other_is_local {
            continue;
        }
        let Some(bytes) = ignore_file(&*opened.sides[side]).await? else {
            continue;
        };
        if before.as_ref() != Some(&bytes) {
            filter.append(from_file(
                &format!("{}/{IGNORE}", opened.places[side].label()),
                &bytes,
            )?);
        }
        before = Some(bytes);
    }
    for rule in rules {
        match rule {
            FilterArg::Exclude(text) => filter.option(false, text.as_bytes()).map_err(bad)?,
            FilterArg::Include(text) => filter.option(true, text.as_bytes()).map_err(bad)?,
            FilterArg::From(path) => filter.append(from_path(files, path)?),
        }
    }
    filter
        .option(false, format!("{OWN_DIR}/").as_bytes())
        .map_err(bad)?;
    for side in Side::BOTH {
        if let Some(own) = &opened.own[side] {
            filter.option(false, &exact_pattern(own)).map_err(bad)?;
        }
    }
    if let Some((dir, name)) = plan.and_then(|plan| Some((plan.parent()?, plan.file_name()?))) {
        let held = files.dir(dir)?;
        let dir = files.canonical(&held)?;
        for side in Side::BOTH {
            let Some(below) = opened.places[side]
                .dir()
                .and_then(|root| dir.strip_prefix(root).ok())
            else {
                continue;
            };
            for name in [name.as_bytes(), &draft_name(name)] {
                let path = below.join(OsStr::from_bytes(name));
                filter.option(false, &exact_pattern(&path)).map_err(bad)?;
            }
        }
    }
    Ok(Arc::new(filter))
}

fn from_path(files: &Files, path: &Path) -> Result<Filter> {
    let at = shown(path.as_os_str());
    let Some(text) = files.read(path)? else {
        return Err(Fault::new(Kind::Invalid, "this file of rules is not there", at));
    };
    from_file(&at, &text.bytes)
}

fn from_file(source: &str, bytes: &[u8]) -> Result<Filter> {
    Filter::parse(file_lines(source, bytes)).map_err(bad)
}

fn bad(rule: BadRule) -> Fault {
    Fault::new(Kind::Invalid, rule.to_string(), "").hint("rules are written as in .gitignore")
}

/// The rules at a root, if it has any.
async fn ignore_file(replica: &dyn Replica) -> Result<Option<Vec<u8>>> {
    let label = format!("{}/{IGNORE}", replica.profile().label);
    let path = RelPath::try_from(IGNORE).map_err(|error| Fault::new(Kind::Bug, error.to_string(), IGNORE))?;
    let Some(seen) = replica.find(&path, &Scope::default()).await? else {
        return Ok(None);
    };
    let refuse = |what: String| {
        Err(Fault::new(Kind::Invalid, what, &label).hint("without its rules nothing can be decided"))
    };
    match &seen.entry {
        Entry::File(_, content, _) if content.size <= TEXT_MAX => {}
        Entry::File(..) => return refuse(format!("larger than {TEXT_MAX} bytes")),
        other => return refuse(format!("a {} where a file of rules should be", other.kind())),
    }
    let mut body = replica.read(&path, &seen, 0).await?;
    let mut bytes = Vec::new();
    while let Some(more) = body.next().await? {
        bytes.extend_from_slice(&more);
        if bytes.len() as u64 > TEXT_MAX {
            return refuse(format!("larger than {TEXT_MAX} bytes"));
        }
    }
    body.check().await?;
    Ok(Some(bytes))
}
