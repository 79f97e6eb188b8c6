//! Listings: sorted pages of exact keys.

use super::*;

pub(super) async fn listings(store: &dyn Store, suite: Suite) {
    let all = ["list/B", "list/a-x", "list/a/x", "list/a/y", "list/a0x", "listed"];
    for (n, name) in all.iter().enumerate() {
        put(store, name, &noise(n * 10, 3), Cond::Any)
            .await
            .expect("write");
    }
    let found = listed(store, "list/", None).await.expect("list");
    assert_eq!(names(&found), all[..5], "byte order, nothing from beside");
    for (n, listed) in found.iter().enumerate() {
        let blob = store.stat(&listed.key).await.expect("stat");
        assert_eq!(listed.blob.size, n as u64 * 10);
        let told = if suite.listed_tags { blob.tag } else { Tag::None };
        assert_eq!(listed.blob.tag, told, "a listing and a question by name agree");
        assert!(listed.blob.modified.is_some());
        if let (Some(a), Some(b)) = (listed.blob.md5, blob.md5) {
            assert_eq!(a, b);
        }
    }
    let found = listed(store, "list/", Some(&key("list/a/x")))
        .await
        .expect("list");
    assert_eq!(names(&found), all[3..5], "only what sorts after");
    let found = listed(store, "list/", Some(&key("list/a/"))).await.expect("list");
    assert_eq!(names(&found), all[2..5], "after a name that is not there");
    assert_eq!(
        names(&listed(store, "list/a", None).await.expect("list")),
        all[1..5],
        "any prefix"
    );
    assert_eq!(
        names(&listed(store, "nothing/", None).await.expect("list")),
        [""; 0]
    );
    clear(store, &all).await;
}

/// Keys that other programs make and that are no paths.
pub const ODD_KEYS: [&str; 22] = [
    "odd",
    "odd/",
    "odd//",
    "odd//x",
    "odd/ ",
    "odd/ lead",
    "odd/trail ",
    "odd/..",
    "odd/../up",
    "odd/.",
    "odd/./x",
    "odd/\u{1}\u{1f}\t\u{8}",
    "odd/a+b%20c%2Fd",
    "odd/a&b<c>\"'",
    "odd/\u{fc}\u{1f600}",
    "odd/e\u{301}",
    "odd/\u{e9}",
    "odd/?q=1#f",
    "odd/\\back",
    "odd/\u{7f}\u{85}",
    "/odd",
    "//",
];

pub(super) async fn b07_keys_are_exact(store: &dyn Store) {
    for name in ODD_KEYS {
        let made = put(store, name, name.as_bytes(), Cond::Absent).await;
        made.unwrap_or_else(|fault| panic!("write {name:?}: {fault:?}"));
    }
    for name in ODD_KEYS {
        let body = read(store, name)
            .await
            .unwrap_or_else(|fault| panic!("read {name:?}: {fault:?}"));
        assert_eq!(body, name.as_bytes(), "{name:?} is itself and no other");
    }
    let mut wanted: Vec<&str> = ODD_KEYS.to_vec();
    wanted.sort_unstable();
    assert_eq!(names(&listed(store, "", None).await.expect("list")), wanted);
    let below: Vec<&str> = wanted
        .iter()
        .copied()
        .filter(|name| name.starts_with("odd/"))
        .collect();
    assert_eq!(names(&listed(store, "odd/", None).await.expect("list")), below);
    for pair in wanted.windows(2) {
        let rest = listed(store, "", Some(&key(pair[0]))).await.expect("list");
        assert_eq!(rest[0].key.as_str(), pair[1], "after {:?}", pair[0]);
    }
    if store.caps().reuse {
        for name in ODD_KEYS {
            let seen = store.stat(&key(name)).await.expect("stat").tag;
            let copy = format!("copy/{name}");
            let made = store.reuse(&key(name), &seen, &key(&copy), Cond::Any, None).await;
            made.unwrap_or_else(|fault| panic!("copy {name:?}: {fault:?}"));
            assert_eq!(read(store, &copy).await.expect("the copy"), name.as_bytes());
        }
        let copies: Vec<String> = ODD_KEYS.iter().map(|name| format!("copy/{name}")).collect();
        clear(store, &copies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    clear(store, &ODD_KEYS).await;
}
