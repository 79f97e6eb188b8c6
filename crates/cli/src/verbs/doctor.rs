//! `doctor`: what is installed, reachable and supported, and what to do about the rest.
//!
//! Invariant: it names where credentials come from and never what they are (SK1).

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use syncline_model::{Fault, Kind, Profile, Result};
use syncline_replica::Replica;
use syncline_store::Caps;
use syncline_store::layers::Rate;
use syncline_store::url::{S3Place, s3_place};
use syncline_sync::Exit;

use super::Done;
use crate::exit;
use crate::open::{World, host};
use crate::place::{At, Place, shown};
use crate::render::{Check, Face, Item};
use crate::roots::{self, Root};

/// Looks at this machine and at `places`.
pub async fn doctor(world: &World, places: &[OsString], face: &dyn Face) -> Result<Done> {
    let mut exit = machine(world, face)?;
    for text in places {
        face.item(&Item::Note(&shown(text)));
        if let Err(fault) = place(world, text, face).await {
            tell(
                face,
                &shown(text),
                Some(false),
                &fault.to_string(),
                fault.hint.as_deref(),
            );
            exit = exit.max(exit::of(&fault));
        }
    }
    let mut done = Done::well();
    done.ending.report.exit = exit;
    Ok(done)
}

fn tell(face: &dyn Face, what: &str, ok: Option<bool>, found: &str, advice: Option<&str>) {
    let advice = advice.map(str::to_string);
    face.item(&Item::Check(&Check {
        what: what.into(),
        ok,
        found: found.into(),
        advice,
    }));
}

fn machine(world: &World, face: &dyn Face) -> Result<Exit> {
    let system = rustix::system::uname();
    let (name, release) = (
        system.sysname().to_string_lossy(),
        system.release().to_string_lossy(),
    );
    tell(face, "syncline", Some(true), env!("CARGO_PKG_VERSION"), None);
    tell(
        face,
        "system",
        None,
        &format!("{name} {release}, host {}", host()),
        None,
    );
    let who = if rustix::process::geteuid().is_root() {
        "root"
    } else {
        "an ordinary user"
    };
    let owners = if who == "root" {
        None
    } else {
        Some("owners are carried by root only; everything else works")
    };
    tell(face, "running as", None, who, owners);
    let mut exit = state(world, face)?;
    let config = match &world.setting.config {
        None => "none: HOME is not set".to_string(),
        Some((path, _)) if world.files.read(path)?.is_none() => {
            format!("{}: not there (none is needed)", shown(path.as_os_str()))
        }
        Some((path, _)) => format!("{}: well formed", shown(path.as_os_str())),
    };
    tell(face, "config file", Some(true), &config, None);
    exit = exit.max(credentials(world, face)?);
    for (program, why) in [
        ("rclone", "to look at buckets with another tool"),
        ("ssh", "for places on other hosts, in a later release"),
    ] {
        let found = installed(world, program);
        let words = if found { "installed" } else { "not installed" };
        tell(face, program, None, &format!("{words}; not needed ({why})"), None);
    }
    Ok(exit)
}

fn state(world: &World, face: &dyn Face) -> Result<Exit> {
    let root = world.states.root();
    let at = shown(root.as_os_str());
    let writable = world.files.make_dirs(root).and_then(|_| {
        let probe = root.join("probe");
        world.files.write(&probe, b"")?;
        world.files.remove(&probe, false)
    });
    match writable {
        Ok(()) => {
            let sessions = world.states.list()?.len();
            for broken in world.states.broken()? {
                let advice = broken.hint.as_deref();
                tell(face, "session", Some(false), &broken.to_string(), advice);
            }
            tell(
                face,
                "state",
                Some(true),
                &format!("{at}: writable; sessions: {sessions}"),
                None,
            );
            Ok(Exit::Done)
        }
        Err(fault) => {
            let advice = "make it writable, or say --state DIR";
            tell(
                face,
                "state",
                Some(false),
                &format!("{at}: {}", fault.what),
                Some(advice),
            );
            Ok(exit::of(&fault))
        }
    }
}

fn credentials(world: &World, face: &dyn Face) -> Result<Exit> {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let mut sources = Vec::new();
    if set("AWS_ACCESS_KEY_ID") && set("AWS_SECRET_ACCESS_KEY") {
        sources.push("environment".to_string());
    }
    let aws = std::env::var_os("AWS_SHARED_CREDENTIALS_FILE")
        .map(std::path::PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".aws/credentials")));
    if let Some(path) = aws
        && world.files.read(&path).is_ok_and(|text| text.is_some())
    {
        sources.push(shown(path.as_os_str()));
    }
    for (name, store) in &world.config.store {
        if store.secret_access_key.is_some() {
            sources.push(format!("[store.{name}]"));
        }
    }
    let found = if sources.is_empty() {
        "none".to_string()
    } else {
        sources.join(", ")
    };
    let advice = sources.is_empty().then_some(
        "for buckets set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials",
    );
    tell(face, "S3 credentials", None, &found, advice);
    Ok(Exit::Done)
}

fn installed(world: &World, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| {
        use syncline_store::Disk;
        world
            .files
            .dir(&dir)
            .is_ok_and(|held| world.files.disk.stat(&held, program.as_bytes()).is_ok())
    })
}

async fn place(world: &World, text: &OsString, face: &dyn Face) -> Result<()> {
    let mut place = world.place(text)?;
    if let Some(dir) = place.dir() {
        let root = Root::look(&world.files, dir)?;
        if !root.there {
            return Err(
                Fault::new(Kind::NotFound, "there is no such directory", place.label())
                    .hint("as RIGHT of a first run it would be made"),
            );
        }
        place = Place::local(root.path.clone());
        roots::check(
            &world.files,
            &syncline_model::Pair::new(Some(root), None),
            world.states.root(),
        )?;
    }
    let (replica, _) = world.open_one(&place).await?;
    let identity = replica.identity().await?;
    tell(face, "reachable", Some(true), "yes", None);
    match identity.marker {
        None => tell(face, "identity", None, "never synced", None),
        Some(marker) if !marker.is_readable() => tell(
            face,
            "identity",
            Some(false),
            "its marker in .syncline cannot be read",
            Some(
                "sync with --accept left or --accept right, whichever side it is: both sides are joined then",
            ),
        ),
        Some(marker) => {
            let (id, generation) = (marker.id, marker.generation);
            let found = format!("synced before: id {id}, generation {generation}");
            tell(face, "identity", None, &found, None);
        }
    }
    profile(replica.profile(), place.dir().is_some(), face);
    space(&*replica, face).await?;
    if let At::Bucket(url, store) = &place.at {
        let rate = Rate::new(Arc::clone(&world.env.clock), None);
        let (opened, _) = world.store(url, store.as_deref(), rate, false).await?;
        caps(opened.caps(), face);
        let parsed = s3_place(url)?;
        let advice = policy(&parsed, opened.caps());
        tell(
            face,
            "least S3 policy",
            None,
            "what these keys must be allowed to do:",
            Some(&advice),
        );
    }
    Ok(())
}

fn profile(profile: &Profile, local: bool, face: &dyn Face) {
    let classes = profile.classes;
    let list = |pairs: &[(bool, &'static str)]| {
        let names: Vec<&str> = pairs
            .iter()
            .filter(|(has, _)| *has)
            .map(|(_, name)| *name)
            .collect();
        if names.is_empty() {
            "none".to_string()
        } else {
            names.join(", ")
        }
    };
    let attributes = list(&[
        (classes.mode, "permission bits"),
        (classes.owner, "owners"),
        (classes.times, "times"),
        (classes.xattrs, "extended attributes"),
        (classes.acls, "ACLs"),
        (classes.links, "hard links"),
    ]);
    tell(face, "attributes held", None, &attributes, None);
    let kinds = list(&[
        (profile.symlinks, "symlinks"),
        (profile.specials, "pipes, sockets and devices"),
    ]);
    tell(face, "kinds beside files and directories", None, &kinds, None);
    let names = match (profile.folds_case, profile.normalises) {
        (false, false) => "exact",
        (true, false) => "case is folded",
        (false, true) => "Unicode is normalised",
        (true, true) => "case is folded, Unicode is normalised",
    };
    tell(face, "names", None, names, None);
    // Objects are known by their tags.
    if local && !classes.ctime {
        let advice = "an edit that keeps size and time is found with --checksum only";
        tell(
            face,
            "times of status change",
            None,
            "mean nothing here",
            Some(advice),
        );
    }
    if !profile.batch_durable {
        tell(
            face,
            "durability",
            None,
            "files are made durable one by one (syncfs reaches nothing here)",
            None,
        );
    }
    if profile.read_only {
        tell(
            face,
            "writable",
            Some(false),
            "no",
            Some("as one side of --mode copy or mirror it can be read"),
        );
    }
}

async fn space(replica: &dyn Replica, face: &dyn Face) -> Result<()> {
    if let (Some(total), Some(free)) = replica.space().await? {
        let (total, free) = (indicatif::HumanBytes(total), indicatif::HumanBytes(free));
        tell(face, "space", None, &format!("{free} of {total} free"), None);
    }
    Ok(())
}

fn caps(caps: &Caps, face: &dyn Face) {
    let conditional = caps.if_absent && caps.if_is;
    let advice = (!conditional).then_some(
        "two writers at once are found by looking before each write; what is replaced goes to the trash first",
    );
    let yes_no = |yes: bool| if yes { "yes" } else { "no" };
    tell(
        face,
        "conditional writes",
        Some(conditional),
        yes_no(conditional),
        advice,
    );
    for (what, has) in [
        ("listings in order", caps.sorted),
        ("tags are MD5", caps.tag_is_md5),
        ("metadata beside objects", caps.metadata),
        ("copies within the store", caps.reuse),
        ("versions are kept", caps.versions),
    ] {
        tell(face, what, None, yes_no(has), None);
    }
    let (trash, advice) = if caps.versions && caps.metadata {
        let advice = "a rule of the bucket that removes old versions in less than 30 days shortens it";
        ("the versions that the bucket keeps anyway", Some(advice))
    } else if caps.reuse {
        ("copies within the store", None)
    } else {
        ("copies that travel through here", None)
    };
    tell(face, "trash", None, trash, advice);
}

/// The least that an S3 policy must allow (SK6).
fn policy(place: &S3Place, caps: &Caps) -> String {
    let bucket = format!("arn:aws:s3:::{}", place.bucket);
    let mut objects = vec![
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
    ];
    if caps.versions {
        objects.extend(["s3:GetObjectVersion", "s3:DeleteObjectVersion"]);
    }
    let mut list = serde_json::json!({
        "Effect": "Allow", "Action": ["s3:ListBucket", "s3:ListBucketMultipartUploads"], "Resource": bucket,
    });
    if !place.prefix.is_empty() {
        let prefix = [place.prefix.clone(), format!("{}*", place.prefix)];
        list["Condition"] = serde_json::json!({"StringLike": {"s3:prefix": prefix}});
    }
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            list,
            {"Effect": "Allow", "Action": objects, "Resource": format!("{bucket}/{}*", place.prefix)},
        ],
    });
    serde_json::to_string_pretty(&policy).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sk6_the_policy_reaches_no_further_than_the_prefix() {
        let place = s3_place("s3://team/docs?region=x").unwrap();
        let text = policy(&place, &Caps::LEAST);
        let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
        let statements = policy["Statement"].as_array().unwrap();
        assert_eq!(statements[1]["Resource"], "arn:aws:s3:::team/docs/*");
        assert_eq!(statements[0]["Condition"]["StringLike"]["s3:prefix"][0], "docs/");
        assert!(!text.contains("s3:*") && !text.contains("Version\": \"s3"));
    }
}
