//! Names with the real binary, on a real file system that takes names of either case for one: where the kernel has one.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests look at the real disk"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::Desk;

/// A directory that folds case, on an image of its own.
struct Folding(PathBuf);

fn program(name: &str, words: &[&str]) -> bool {
    Command::new(name)
        .args(words)
        .output()
        .is_ok_and(|ended| ended.status.success())
}

impl Folding {
    /// `None` where this machine has no such file system.
    fn new(desk: &Desk) -> Option<Self> {
        let (image, at) = (desk.path("image"), desk.dir("folding"));
        std::fs::File::create(&image).unwrap().set_len(64 << 20).unwrap();
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let (image, mount) = (text(&image), text(&at));
        let made = program(
            "mkfs.ext4",
            &["-q", "-O", "casefold", "-E", "encoding=utf8", &image],
        ) && program("mount", &["-o", "loop", &image, &mount]);
        if !made {
            return None;
        }
        let folding = Self(at);
        let tree = desk.dir("folding/tree");
        program("chattr", &["+F", &text(&tree)]).then_some(folding)
    }
}

impl Drop for Folding {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn sp10_s17_case_twins_and_renames_by_case_on_a_real_folding_disk() {
    let desk = Desk::new();
    let Some(_mounted) = Folding::new(&desk) else {
        eprintln!("not tried: this kernel has no file system that folds case");
        return;
    };
    desk.write("a/Readme", "one");
    desk.write("a/README", "two");
    desk.write("a/docs/x", "x");
    let ended = desk.ends(2, &["sync", "a", "folding/tree", "--json"]);
    let problems = ended.events("problem");
    assert_eq!(problems.len(), 2, "{}", ended.out);
    assert!(problems.iter().all(|problem| problem["kind"] == "exists"));
    assert_eq!(
        (desk.read("a/Readme").as_deref(), desk.read("a/README").as_deref()),
        (Some("one"), Some("two"))
    );
    assert_eq!(desk.read("folding/tree/readme"), None);
    std::fs::rename(desk.path("a/README"), desk.path("a/other")).unwrap();
    desk.ends(0, &["sync", "a", "folding/tree"]);
    std::fs::rename(
        desk.path("folding/tree/Readme"),
        desk.path("folding/tree/between"),
    )
    .unwrap();
    std::fs::rename(
        desk.path("folding/tree/between"),
        desk.path("folding/tree/ReadMe"),
    )
    .unwrap();
    let ended = desk.ends(0, &["sync", "a", "folding/tree", "--json"]);
    assert_eq!(ended.summary()["left"]["moved"], 1, "{}", ended.out);
    assert_eq!(desk.tree("a"), desk.tree("folding/tree"));
}

/// A link and a directory whose names are one over there: found before anything is written, so nothing follows the link.
#[test]
fn sp10_sp6_a_link_and_a_directory_that_are_one_over_there_are_kept_apart() {
    let desk = Desk::new();
    let Some(_mounted) = Folding::new(&desk) else {
        eprintln!("not tried: this kernel has no file system that folds case");
        return;
    };
    desk.write("outside/canary", "not ours");
    for (link, dir) in [("dir", "DIR"), ("Sub", "sub")] {
        std::fs::create_dir_all(desk.path("a")).unwrap();
        std::os::unix::fs::symlink(desk.path("outside"), desk.path(&format!("a/{link}"))).unwrap();
        desk.write(&format!("a/{dir}/canary"), "written through");
        desk.write(&format!("a/{dir}/hooks/post"), "written through");
    }
    desk.write("a/plain", "goes");
    for _ in 0..2 {
        let ended = desk.ends(2, &["sync", "a", "folding/tree", "--json"]);
        assert_eq!(ended.events("problem").len(), 4, "{}", ended.out);
        assert_eq!(desk.tree("outside").into_keys().collect::<Vec<_>>(), ["canary"]);
        assert_eq!(desk.read("outside/canary").as_deref(), Some("not ours"));
        assert_eq!(
            desk.tree("folding/tree").into_keys().collect::<Vec<_>>(),
            ["plain"]
        );
    }
    assert_eq!(desk.read("a/DIR/canary").as_deref(), Some("written through"));
}
