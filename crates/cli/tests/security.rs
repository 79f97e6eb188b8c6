//! Security rules about names, links, attributes and file access, with the real binary on the real disk. Each test bears the number of its rule.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use support::Desk;

const NOBODY: u32 = 65_534;

fn root() -> bool {
    let root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("not root: what only root can ask is not asked");
    }
    root
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().mode() & 0o7777
}

/// Everything below a directory, what is ours included.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

/// Strings between quotes of a traced call, each with the directory that the argument before it names, if that is one.
fn strings(call: &str) -> Vec<(Option<String>, String)> {
    let mut found = Vec::new();
    let mut rest = call;
    let mut before = String::new();
    while let Some(at) = rest.find('"') {
        before.push_str(&rest[..at]);
        let inner = &rest[at + 1..];
        let mut end = 0;
        while end < inner.len() && inner.as_bytes()[end] != b'"' {
            end += if inner.as_bytes()[end] == b'\\' { 2 } else { 1 };
        }
        let dir = before
            .strip_suffix(">, ")
            .and_then(|head| head.rsplit_once('<'))
            .map(|(_, dir)| dir.to_owned());
        found.push((dir, inner[..end].to_owned()));
        before = String::new();
        rest = inner.get(end + 1..).unwrap_or("");
    }
    found
}

/// Names in the arguments of a call; not what it answers, nor the text of a link, nor the name of an attribute.
fn names(verb: &str, call: &str) -> Vec<(Option<String>, String)> {
    let mut all = strings(call);
    match verb {
        "symlinkat" => drop(all.remove(0)),
        "readlinkat" | "getxattr" | "lgetxattr" | "setxattr" | "lsetxattr" | "removexattr" | "listxattr"
        | "llistxattr" => all.truncate(1),
        _ => {}
    }
    all
}

/// Every call of a run that names a file below a root names one component in a held directory: seen by the kernel's own trace.
#[test]
fn sp2_no_path_of_several_components_reaches_the_system_below_a_root() {
    if !Command::new("strace")
        .arg("-V")
        .output()
        .is_ok_and(|ended| ended.status.success())
    {
        eprintln!("skipped: there is no strace");
        return;
    }
    let desk = Desk::new();
    for n in 0..4 {
        desk.write(&format!("a/d/e/{n}"), &format!("text {n}"));
        desk.write(&format!("a/gone/{n}"), &format!("goes {n}"));
    }
    desk.write("b/late/d/x", "x");
    symlink("../../outside", desk.path("a/d/link")).unwrap();
    std::fs::hard_link(desk.path("a/d/e/0"), desk.path("a/d/other")).unwrap();
    desk.ends(0, &["sync", "a", "b"]);
    desk.write("a/d/e/1", "edited");
    desk.remove("a/gone");
    std::fs::rename(desk.path("a/d/e/2"), desk.path("a/d/moved")).unwrap();
    std::fs::set_permissions(desk.path("a/d/e/3"), PermissionsExt::from_mode(0o600)).unwrap();
    symlink("elsewhere", desk.path("a/d/new")).unwrap();
    desk.write("a/d/new dir/file", "new");
    desk.write("a/x", "one");
    desk.write("b/x", "two");
    let (mut inside, mut verbs) = (0u32, BTreeSet::new());
    let runs: &[&[&str]] = &[
        &["sync", "a", "b", "--xattrs", "--acls", "--durability", "file"],
        &["undo"],
        &["sync", "a", "b"],
        &["restore", "gone"],
        &["resolve", "--all", "--keep", "left"],
        &["trash", "empty", "--yes"],
    ];
    for (number, words) in runs.iter().enumerate() {
        let trace = desk.path(&format!("trace{number}"));
        let plain = desk.command(words);
        let mut traced = Command::new("strace");
        traced
            .args(["-f", "-y", "-s", "8192", "-e", "trace=%file", "-o"])
            .arg(&trace)
            .arg(plain.get_program())
            .args(*words)
            .current_dir(desk.path(""))
            .env_clear()
            .stdin(Stdio::null());
        for (name, value) in plain.get_envs() {
            traced.env(name, value.unwrap_or_default());
        }
        let ended = traced.output().unwrap();
        assert!(
            ended.status.code().is_some_and(|code| code <= 1),
            "{words:?}: {}",
            String::from_utf8_lossy(&ended.stderr)
        );
        let roots = ["a", "b"].map(|name| desk.path(name).to_str().unwrap().to_owned());
        let within = |path: &str| {
            roots
                .iter()
                .any(|root| path == root || path.starts_with(&format!("{root}/")))
        };
        let text = String::from_utf8_lossy(&std::fs::read(&trace).unwrap()).into_owned();
        for line in text.lines() {
            let call = line.split_once(' ').map_or(line, |(_, call)| call.trim_start());
            let Some((verb, arguments)) = call.split_once('(') else {
                continue;
            };
            if verb == "execve" || verb == "getcwd" {
                continue;
            }
            for (dir, name) in names(verb, arguments) {
                let by_dir = dir.as_deref().is_some_and(within);
                inside += u32::from(by_dir);
                if by_dir {
                    verbs.insert(verb.to_owned());
                }
                let plain = !name.contains('/') && name != "..";
                assert!(!by_dir || name.starts_with("/proc/self/fd/") || plain, "{line}");
                assert!(!within(&name), "{line}");
                let magic = name.strip_prefix("/proc/self/fd/").unwrap_or("");
                assert!(
                    magic.bytes().all(|byte| byte.is_ascii_digit()),
                    "through a handle's name: {line}"
                );
            }
        }
    }
    assert!(inside > 300, "only {inside} calls were seen");
    for verb in [
        "openat2",
        "statx",
        "renameat2",
        "unlinkat",
        "mkdirat",
        "symlinkat",
        "linkat",
        "readlinkat",
        "utimensat",
    ] {
        assert!(verbs.contains(verb), "{verb} was not seen: {verbs:?}");
    }
}

/// What is only a draft is never in sight of others, and what is being written is for us alone, whatever the umask: a reader looks all the time.
#[test]
fn sp9_no_draft_is_ever_readable_by_others() {
    const SIZE: u64 = 6 << 20;
    let desk = Desk::new();
    let text = "x".repeat(SIZE as usize);
    for (name, bits) in [("public", 0o644), ("private", 0o600), ("dir/inner", 0o644)] {
        desk.write(&format!("a/{name}"), &text);
        std::fs::set_permissions(desk.path(&format!("a/{name}")), PermissionsExt::from_mode(bits)).unwrap();
    }
    std::fs::set_permissions(desk.path("a/dir"), PermissionsExt::from_mode(0o700)).unwrap();
    let over = AtomicBool::new(false);
    let b = desk.path("b");
    let (looks, partial) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut looks, mut partial) = (0u64, 0u64);
            while !over.load(Ordering::Relaxed) {
                for path in below(&b.join(".syncline")) {
                    let Ok(meta) = path.symlink_metadata() else {
                        continue;
                    };
                    if meta.is_dir() {
                        assert_eq!(meta.mode() & 0o077, 0, "{path:?}");
                    } else if path.starts_with(b.join(".syncline/stage")) {
                        looks += 1;
                        if meta.blocks() * 512 < SIZE {
                            partial += 1;
                            assert_eq!(meta.mode() & 0o7777, 0o600, "{path:?}");
                        }
                    }
                }
                for (name, bits) in [(".syncline", 0o700), ("private", 0o600), ("dir", 0o700)] {
                    if let Ok(meta) = b.join(name).symlink_metadata() {
                        assert_eq!(meta.mode() & 0o7777, bits, "{name}");
                    }
                }
            }
            (looks, partial)
        });
        let plain = desk.command(&["sync", "a", "b", "--bandwidth", "12M"]);
        let mut command = Command::new("sh");
        command
            .args(["-c", "umask 000; exec \"$@\"", "sh"])
            .arg(plain.get_program())
            .args(plain.get_args())
            .current_dir(desk.path(""))
            .env_clear();
        for (name, value) in plain.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let ended = command.output();
        over.store(true, Ordering::Relaxed);
        let seen = reader.join().unwrap();
        let ended = ended.unwrap();
        assert!(
            ended.status.success(),
            "{}",
            String::from_utf8_lossy(&ended.stderr)
        );
        seen
    });
    assert!(
        looks > 10 && partial > 10,
        "seen {looks} times, half written {partial} times"
    );
    assert_eq!(
        (mode(&b.join("public")), mode(&b.join("private"))),
        (0o644, 0o600)
    );
}

/// Links are bytes: they arrive, lie in the trash and come back as they were, wherever they lead, and nothing behind them is touched or read.
#[test]
fn sp7_links_are_data_in_the_tree_and_in_the_trash() {
    let desk = Desk::new();
    desk.write("outside/secret", "not ours");
    let absolute = desk.path("outside/secret");
    let long = format!("{}x", "../".repeat(1200));
    let targets: Vec<&[u8]> = vec![
        absolute.as_os_str().as_bytes(),
        b"../outside",
        b"../outside/secret",
        b"../../../../../../../../etc/passwd",
        b"/",
        b"..",
        b".",
        b"/proc/self/root/etc",
        b".//..//outside/./secret",
        b".syncline/trash",
        b"nowhere",
        b"9",
        b"not\xff\xfeutf8\n\x1b[2J ",
        long.as_bytes(),
    ];
    desk.dir("a/links");
    let name = |number: usize| format!("a/links/{number}");
    for (number, target) in targets.iter().enumerate() {
        symlink(OsStr::from_bytes(target), desk.path(&name(number))).unwrap();
    }
    let as_they_were = |dir: &str| {
        for (number, target) in targets.iter().enumerate() {
            let link = std::fs::read_link(desk.path(dir).join(number.to_string())).unwrap();
            assert_eq!(link.as_os_str().as_bytes(), *target, "{dir}");
        }
        assert_eq!(desk.tree("outside").len(), 1);
        assert_eq!(desk.read("outside/secret").as_deref(), Some("not ours"));
    };
    desk.ends(0, &["sync", "a", "b"]);
    as_they_were("b/links");
    // Files over some, a directory over another, the rest removed.
    for number in 0..targets.len() {
        desk.remove_link(&name(number));
        match number % 3 {
            0 => desk.write(&name(number), "a file now"),
            1 => desk.write(&format!("{}/secret", name(number)), "a directory now"),
            _ => {}
        }
    }
    desk.ends(0, &["sync", "a", "b", "--max-delete", "none"]);
    assert_eq!(desk.tree("a"), desk.tree("b"));
    let run = std::fs::read_dir(desk.path("b/.syncline/trash"))
        .unwrap()
        .next()
        .unwrap();
    let trash = run.unwrap().path().join("links");
    as_they_were(trash.strip_prefix(desk.path("")).unwrap().to_str().unwrap());
    desk.ends(0, &["undo"]);
    as_they_were("b/links");
    desk.ends(0, &["sync", "a", "b", "--max-delete", "none"]);
    as_they_were("a/links");
    for number in 0..targets.len() {
        desk.remove_link(&name(number));
    }
    desk.write("a/keep", "keep");
    desk.ends(0, &["sync", "a", "b", "--max-delete", "none"]);
    desk.ends(0, &["restore", "links"]);
    as_they_were("b/links");
}

/// What gives power over this machine: kept between two directories for root, dropped for anybody else. Of a bucket: `hostile.rs`.
#[test]
fn sp8_power_is_kept_for_root_between_directories_alone() {
    if !root() {
        return;
    }
    let desk = Desk::new();
    let bits = [
        ("user", 0o4755),
        ("group", 0o2755),
        ("both", 0o6755),
        ("sticky", 0o1755),
    ];
    for (name, bits) in bits {
        desk.write(&format!("a/{name}"), "#!/bin/sh");
        std::fs::set_permissions(desk.path(&format!("a/{name}")), PermissionsExt::from_mode(bits)).unwrap();
    }
    desk.dir("a/shared");
    std::fs::set_permissions(desk.path("a/shared"), PermissionsExt::from_mode(0o3777)).unwrap();
    desk.write("a/ping", "#!/bin/sh");
    let power = [1u8, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let capability = "security.capability";
    let able = rustix::fs::setxattr(
        desk.path("a/ping"),
        capability,
        &power,
        rustix::fs::XattrFlags::empty(),
    )
    .is_ok();
    let has = |name: &str| rustix::fs::getxattr(desk.path(name), capability, &mut [0u8; 64]).is_ok();
    let made = Command::new("mknod")
        .arg(desk.path("a/null"))
        .args(["c", "1", "3"])
        .status();
    assert!(made.unwrap().success());
    desk.ends(0, &["sync", "a", "b", "--xattrs"]);
    for (name, bits) in bits {
        assert_eq!(mode(&desk.path(&format!("b/{name}"))), bits, "{name}");
    }
    assert_eq!(mode(&desk.path("b/shared")), 0o3777);
    assert!(
        desk.path("b/null")
            .symlink_metadata()
            .unwrap()
            .file_type()
            .is_char_device()
    );
    assert_eq!(has("b/ping"), able);
    desk.ends(0, &["leave", "a", "b"]);
    for name in ["", "home", "state", "a", "a/shared"] {
        chown(desk.dir(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    for path in below(&desk.path("state"))
        .into_iter()
        .chain(below(&desk.path("a/.syncline")))
    {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    chown(desk.path("a/.syncline"), Some(NOBODY), Some(NOBODY)).unwrap();
    let ended = desk.run_as(NOBODY, &["sync", "a", "c", "--xattrs"]);
    assert_eq!(ended.code, 2, "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("1 device file is not made"), "{}", ended.err);
    for (name, bits) in bits {
        assert_eq!(mode(&desk.path(&format!("c/{name}"))), bits & 0o777, "{name}");
    }
    // A sticky directory takes rights away from others: that stays.
    assert_eq!(mode(&desk.path("c/shared")), 0o1777);
    assert!(!desk.path("c/null").exists() && !has("c/ping"));
}

/// Names that differ by what other programs drop, in everything that we write down: base, run log, trash, plan, rules, JSON.
#[test]
fn sp11_no_file_of_ours_bends_a_name() {
    let odd: &[&[u8]] = &[
        b"cr",
        b"cr\r",
        b"space",
        b"space ",
        b" space",
        b"dot",
        b"dot.",
        b"dot .",
        b"nl",
        b"nl\n",
        b"nl\r\n",
        b"nl\nx",
        b"esc\x1b[2J",
        b"esc",
        b"\x01\x02",
        b"del\x7f",
        b"tab\t",
        b"tab",
        b"\xff",
        b"\xfe\r",
        b"\"",
        b"\\",
        b"\\n",
        b"\\r",
        b"{\"event\":1}",
        b"#x",
        b"!x",
    ];
    let desk = Desk::new();
    let at = |root: &str, name: &[u8]| desk.path(root).join("d").join(OsStr::from_bytes(name));
    let fill = |round: &str| {
        for (number, name) in odd.iter().enumerate() {
            std::fs::write(at("a", name), format!("{round} {number}")).unwrap();
        }
    };
    let holds = |root: &str, round: &str| {
        let found: BTreeSet<Vec<u8>> = std::fs::read_dir(desk.path(root).join("d"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
            .collect();
        assert_eq!(
            found,
            odd.iter().map(|name| name.to_vec()).collect(),
            "{root}, {round}"
        );
        for (number, name) in odd.iter().enumerate() {
            let text = std::fs::read_to_string(at(root, name)).unwrap();
            assert_eq!(text, format!("{round} {number}"), "{root} {name:?}");
        }
    };
    desk.dir("a/d");
    desk.write("a/anchor", "stays");
    fill("first");
    let told = desk.ends(0, &["sync", "a", "b", "--json"]).events("step");
    let paths: BTreeSet<String> = told.iter().map(|step| step["path"].to_string()).collect();
    assert!(paths.len() > odd.len(), "names became one: {paths:?}");
    for name in [
        "\"d/cr\\r\"",
        "\"d/space \"",
        "\"d/dot.\"",
        "\"d/nl\\r\\n\"",
        "\"d/\\\\n\"",
    ] {
        assert!(paths.contains(name), "{name} of {paths:?}");
    }
    holds("b", "first");
    // The base knows them.
    let again = desk.ends(0, &["sync", "a", "b", "--json"]);
    assert!(again.events("step").is_empty(), "{}", again.out);
    // A plan names them.
    fill("second");
    desk.ends(0, &["sync", "a", "b", "--plan", "plan", "--max-delete", "none"]);
    desk.ends(0, &["apply", "plan", "--max-delete", "none"]);
    holds("b", "second");
    // The log and the trash do: removals of all are taken back one and all.
    desk.remove("a/d");
    desk.ends(0, &["sync", "a", "b", "--max-delete", "none"]);
    assert!(!desk.path("b/d").exists());
    desk.ends(0, &["undo"]);
    holds("b", "second");
    desk.ends(0, &["sync", "a", "b"]);
    holds("a", "second");
    // A path that is typed is that one.
    std::fs::remove_file(at("a", b"cr\r")).unwrap();
    std::fs::remove_file(at("a", b"dot.")).unwrap();
    desk.ends(0, &["sync", "a", "b"]);
    desk.ends(0, &["restore", "d/cr\r"]);
    assert!(at("b", b"cr\r").exists() && !at("b", b"dot.").exists());
    desk.ends(0, &["restore", "d/dot."]);
    desk.ends(0, &["sync", "a", "b"]);
    holds("a", "second");
    // A rule hits that one alone.
    fill("third");
    desk.write("rules", "space\\ \n\\#x\nesc\\\u{1b}\\[2J\n");
    desk.ends(
        0,
        &[
            "sync",
            "a",
            "b",
            "--exclude",
            "cr?",
            "--exclude",
            "dot.",
            "--filter-from",
            "rules",
            "--max-delete",
            "none",
        ],
    );
    let left_out: &[&[u8]] = &[b"cr\r", b"dot.", b"space ", b"#x", b"esc\x1b[2J"];
    for (number, name) in odd.iter().enumerate() {
        let round = if left_out.contains(name) {
            "second"
        } else {
            "third"
        };
        let text = std::fs::read_to_string(at("b", name)).unwrap();
        assert_eq!(text, format!("{round} {number}"), "{name:?}");
    }
}

/// Short cuts within this machine never make a file of one side, or of another user, one with a file of the other side.
#[test]
fn sr4_no_file_is_ever_shared_between_sides_or_users() {
    let inode = |path: PathBuf| path.symlink_metadata().unwrap().ino();
    let rounds: &[Option<u32>] = if root() { &[None, Some(NOBODY)] } else { &[None] };
    for user in rounds {
        let desk = Desk::new();
        let run = |words: &[&str]| {
            let ended = match user {
                Some(user) => desk.run_as(*user, words),
                None => desk.run(words),
            };
            assert!(ended.code <= 1, "{words:?}\n{}{}", ended.out, ended.err);
        };
        let text = "shared by reflink, if at all".repeat(8192);
        desk.write("a/one", &text);
        std::fs::hard_link(desk.path("a/one"), desk.path("a/two")).unwrap();
        desk.dir("state");
        if let Some(user) = user {
            for name in ["", "a", "state", "home"] {
                chown(desk.path(name), Some(*user), Some(*user)).unwrap();
            }
        }
        let foreign = root().then_some(1234);
        if foreign.is_some() {
            chown(desk.path("a/one"), foreign, foreign).unwrap();
        }
        let places = ["sync", "a", "b", "--no-owner"];
        run(&places);
        assert_ne!(inode(desk.path("a/one")), inode(desk.path("b/one")));
        assert_eq!(inode(desk.path("b/two")), inode(desk.path("b/one")));
        let me = user.unwrap_or_else(|| std::fs::metadata("/proc/self").unwrap().uid());
        assert_eq!(desk.path("b/one").metadata().unwrap().uid(), me);
        assert_eq!(desk.path("a/one").metadata().unwrap().nlink(), 2);
        // Somebody else holds a name of our copy, or has put his own file there: an update reaches neither.
        desk.dir("theirs");
        std::fs::hard_link(desk.path("b/one"), desk.path("theirs/kept")).unwrap();
        if foreign.is_some() {
            chown(desk.path("b/one"), foreign, foreign).unwrap();
        }
        run(&places);
        desk.write("a/one", "edited");
        run(&places);
        assert_eq!(desk.read("b/one").as_deref(), Some("edited"));
        assert_eq!(
            desk.read("theirs/kept").as_deref(),
            Some(&*text),
            "written through a name of somebody else"
        );
        assert_ne!(inode(desk.path("theirs/kept")), inode(desk.path("b/one")));
        assert_ne!(inode(desk.path("a/one")), inode(desk.path("b/one")));
    }
}
