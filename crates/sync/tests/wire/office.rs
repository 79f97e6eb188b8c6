//! Anna, whose way to the bucket is the proxy, and Ben, who reaches it directly. Both have edited; things go wrong while Anna syncs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncline_model::{Pair, Result};
use syncline_replica::{BucketOptions, BucketReplica, LocalOptions, LocalReplica, Replica};
use syncline_store::layers::RetryRule;
use syncline_store::os::OsDisk;
use syncline_store::real::{SystemClock, SystemDice, ThreadSpawn};
use syncline_store::{Caps, Disk, OpenOptions, Store, open};
use syncline_sync::shelf::DiskShelf;
use syncline_sync::{Env, MaxDelete, Options, Report, Session, Stop};
use syncline_testkit::fault_proxy::{FaultProxy, Rule, Wire};
use syncline_testkit::mem_table::MemTable;
use syncline_testkit::s3_server::{Endpoint, S3Server};
use syncline_testkit::store_conformance::{listed, noise, read};

use crate::tree::{Tree, Watch, What};

/// What goes wrong while Anna syncs, and what cannot be asked of a run under it.
pub struct Case {
    pub name: String,
    pub rules: Vec<Rule>,
    /// The bucket says that something was done which was not, or hides what is there: the run cannot know.
    pub lies: bool,
    /// What somebody else does at [`Wire::Meanwhile`]: writes this text there.
    pub meanwhile: Option<(&'static str, &'static str)>,
    /// Paths that may stand in the end though somebody removed them.
    pub may_return: &'static [&'static str],
    /// Uploads whose name never came to us: nobody can give them up but the bucket's own rules.
    pub nameless: u64,
}

impl Case {
    /// `wrong` at these requests, so often.
    pub fn of(method: &'static str, has: &str, times: u64, wrong: Wire) -> Self {
        let rule = Rule {
            times,
            ..Rule::once(method, has, wrong.clone())
        };
        Self {
            name: format!("{wrong:?} x{times} at {method} {has}"),
            rules: vec![rule],
            lies: false,
            meanwhile: None,
            may_return: &[],
            nameless: 0,
        }
    }

    /// Only behind so many other requests of that kind.
    pub fn behind(mut self, skip: u64) -> Self {
        self.rules[0].skip = skip;
        self.name += &format!(" behind {skip}");
        self
    }

    /// See [`Case::lies`].
    pub fn lies(mut self, may_return: &'static [&'static str]) -> Self {
        (self.lies, self.may_return) = (true, may_return);
        self
    }
}

pub type Texts = BTreeMap<String, Vec<u8>>;

/// Files of a tree.
pub fn files(tree: &Tree) -> Texts {
    let look = tree.look().into_iter();
    let file = |(path, node): (Vec<u8>, crate::tree::Node)| match node.what {
        What::File(bytes) => Some((String::from_utf8(path).unwrap(), bytes)),
        _ => None,
    };
    look.filter_map(file).collect()
}

/// A person: a directory, a session, and a way to the bucket.
pub struct Person {
    pub tree: Tree,
    state: tempfile::TempDir,
    name: &'static str,
    store: Arc<dyn Store>,
    base: MemTable,
    bucket: MemTable,
    env: Env,
    /// All that the last run said.
    said: Mutex<String>,
}

async fn way(endpoint: &Endpoint, bucket: &str, caps: Option<Caps>) -> Arc<dyn Store> {
    let mut options = OpenOptions {
        caps,
        ..endpoint.options()
    };
    options.retry = RetryRule {
        tries: 4,
        first: Duration::from_millis(1),
        longest: Duration::from_secs(1),
        ..RetryRule::default()
    };
    options.sizes.part = 5 << 20;
    options.sizes.parts_in_flight = 2;
    options.sizes.stall = Duration::from_secs(1);
    open(&endpoint.place(bucket), options).await.unwrap()
}

impl Person {
    pub fn new(name: &'static str, store: Arc<dyn Store>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let tree = Tree(state.path().join("tree"));
        for dir in ["tree", "state"] {
            std::fs::create_dir(state.path().join(dir)).unwrap();
        }
        let env = Env {
            clock: Arc::new(SystemClock),
            dice: Arc::new(SystemDice),
            spawn: Arc::new(ThreadSpawn::new()),
        };
        Self {
            tree,
            state,
            name,
            store,
            base: MemTable::new(),
            bucket: MemTable::new(),
            env,
            said: Mutex::default(),
        }
    }

    /// One process, one run.
    pub async fn sync(&self) -> Result<Report> {
        let local = LocalOptions {
            label: self.name.into(),
            host: self.name.into(),
            threads: 2,
            clock: self.env.clock.clone(),
            spawn: self.env.spawn.clone(),
            pid: std::process::id(),
            umask: 0o022,
            set_ids: false,
        };
        let bucket = BucketOptions {
            place: "the bucket".into(),
            host: "bucket".into(),
            device: self.name.into(),
            state: Some(Arc::new(self.bucket.clone())),
            clock: self.env.clock.clone(),
            dice: self.env.dice.clone(),
            read_only: false,
        };
        let disk = Arc::new(OsDisk::new());
        let sides: Pair<Arc<dyn Replica>> = Pair::new(
            Arc::new(LocalReplica::open(disk.clone(), &self.tree.0, local)?),
            Arc::new(BucketReplica::new(self.store.clone(), bucket)?),
        );
        let root = disk.root(Path::new(&self.state.path().join("state")))?;
        let shelf = Arc::new(DiskShelf::new(disk, root)?);
        let session = Session::over(sides, Arc::new(self.base.clone()), shelf, self.env.clone())?;
        let options = Options {
            max_delete: MaxDelete::None,
            ..Options::default()
        };
        let watch = Watch::default();
        let ended = session.run("sync", &options, &watch, &Stop::default()).await;
        *self.said.lock().unwrap() = format!("{:#?}", watch.said());
        ended
    }

    pub async fn well(&self, when: &str) -> Report {
        let report = self.sync().await;
        let report = report.unwrap_or_else(|fault| panic!("{when}: {} failed: {fault:?}", self.name));
        assert!(u8::from(report.exit) <= 1, "{when}: {}: {report:?}", self.name);
        report
    }

    /// The bytes of all files in the trash of this person's tree.
    fn trash(&self) -> BTreeSet<Vec<u8>> {
        let own = Tree(self.tree.0.join(".syncline"));
        if own.0.exists() {
            files(&own).into_values().collect()
        } else {
            BTreeSet::new()
        }
    }
}

/// What both agree on before.
fn furnish(anna: &Tree) {
    for path in [
        "a/edited",
        "a/removed",
        "a/moved",
        "theirs/edited",
        "theirs/removed",
    ] {
        anna.write(path, format!("the first text of {path}"));
    }
    for n in 0..12 {
        anna.write(&format!("still/{n}"), format!("still {n}"));
    }
}

fn edit(anna: &Tree, ben: &Tree) {
    anna.write("a/edited", "Anna's edit of a/edited, which is longer");
    anna.remove("a/removed");
    anna.mkdir("b");
    anna.rename("a/moved", "b/moved");
    anna.write("a/new", "Anna's new file");
    ben.write("theirs/edited", "Ben's edit of theirs/edited, longer than before");
    ben.remove("theirs/removed");
    ben.write("theirs/new", "Ben's new file");
    ben.write("theirs/film", noise((1 << 20) + 77, 5));
}

/// What the tree must be once all is well.
fn expected(anna: &Tree, ben: &Tree) -> Texts {
    let mut texts = files(anna);
    for path in ["theirs/edited", "theirs/new", "theirs/film"] {
        texts.insert(path.into(), ben.read(path));
    }
    texts.remove("theirs/removed");
    texts
}

pub async fn in_bucket(direct: &dyn Store) -> Texts {
    let mut found = Texts::new();
    for entry in listed(direct, "", None).await.unwrap() {
        let key = entry.key.as_str();
        if !key.starts_with(".syncline/") && !key.ends_with('/') {
            found.insert(key.to_owned(), read(direct, key).await.unwrap());
        }
    }
    found
}

/// Paths that are not the same in both.
fn differing(one: &Texts, other: &Texts) -> Vec<String> {
    let paths: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    let differs = |path: &&&String| one.get(**path) != other.get(**path);
    paths.iter().filter(differs).map(|path| (*path).clone()).collect()
}

/// Texts that stood where nobody removed or replaced them, and are nowhere any more.
fn lost(owed: &Texts, places: &[&BTreeSet<Vec<u8>>]) -> Vec<String> {
    let gone = |(_, bytes): &(&String, &Vec<u8>)| !places.iter().any(|place| place.contains(*bytes));
    owed.iter().filter(gone).map(|(path, _)| path.clone()).collect()
}

/// Lives through one case.
async fn live(server: &S3Server, number: usize, case: Case) {
    let bucket = format!("case-{number}");
    server.endpoint.make_bucket(&bucket).await.unwrap();
    let direct = way(&server.endpoint, &bucket, None).await;
    let proxy = FaultProxy::start(&server.endpoint).await.unwrap();
    let behind = way(&proxy.endpoint, &bucket, Some(direct.caps().clone())).await;
    let (anna, ben) = (Person::new("anna", behind), Person::new("ben", direct.clone()));
    let name = &case.name;
    furnish(&anna.tree);
    anna.well(name).await;
    ben.well(name).await;
    edit(&anna.tree, &ben.tree);
    if case.rules.iter().any(|rule| rule.has.starts_with(['u', 'p'])) {
        // In two parts.
        anna.tree.write("a/film", noise((5 << 20) + 12_345, 1));
    }
    ben.well(name).await;
    let mut wanted = expected(&anna.tree, &ben.tree);
    let before = proxy.traffic().requests.len();
    if let Some((at, text)) = case.meanwhile {
        let direct = direct.clone();
        proxy.meanwhile(move || {
            let direct = direct.clone();
            Box::pin(async move {
                let any = syncline_store::Cond::Any;
                drop(syncline_testkit::store_conformance::put(&*direct, at, text.as_bytes(), any).await);
            })
        });
    }
    case.rules.iter().for_each(|rule| proxy.rule(rule.clone()));

    let faulted = anna.sync().await;
    for rule in &case.rules {
        assert!(
            proxy.made(&rule.wrong) > 0,
            "{name}: {:?} was never met",
            rule.wrong
        );
    }
    let requests = proxy.traffic().requests.len() - before;
    let code = faulted.as_ref().map_or(99, |report| u8::from(report.exit));
    println!("{name}: exit {code}, {requests} requests");
    assert!(requests < 400, "{name}: a storm of {requests} requests");
    let (here, there) = (files(&anna.tree), in_bucket(&*direct).await);
    let undone = [differing(&here, &wanted), differing(&there, &wanted)];
    let settled = undone.iter().all(Vec::is_empty);
    assert!(
        settled || code != 0 || case.lies || case.meanwhile.is_some(),
        "{name}: left undone here and in the bucket, and the run said 0: {undone:?}\n{}",
        anna.said.lock().unwrap()
    );
    // No byte that nobody wrote.
    let written: BTreeSet<Vec<u8>> = wanted
        .values()
        .cloned()
        .chain(
            [
                "a/edited",
                "a/removed",
                "a/moved",
                "theirs/edited",
                "theirs/removed",
            ]
            .map(|path| format!("the first text of {path}").into_bytes()),
        )
        .chain(case.meanwhile.map(|(_, text)| text.as_bytes().to_vec()))
        .collect();
    let whole = |texts: &Texts| {
        texts
            .iter()
            .find(|(_, bytes)| !written.contains(*bytes))
            .map(|(path, _)| path.clone())
    };
    assert_eq!(whole(&here), None, "{name}: torn or wrong");
    assert_eq!(whole(&there), None, "{name}: torn or wrong");

    proxy.heal();
    proxy.late_ones_arrive().await.unwrap();
    anna.well(name).await;
    let (here, there) = (files(&anna.tree), in_bucket(&*direct).await);
    let apart = differing(&here, &there);
    assert!(apart.is_empty(), "{name}: not settled by one more run: {apart:?}");
    let mut places: Vec<BTreeSet<Vec<u8>>> = vec![here.values().cloned().collect(), anna.trash()];
    if let Some((_, text)) = case.meanwhile {
        assert!(
            places[0].contains(text.as_bytes()),
            "{name}: what somebody else wrote is gone"
        );
        places[0].extend(case.meanwhile.map(|(_, text)| text.as_bytes().to_vec()));
    }
    let kept: Vec<&BTreeSet<Vec<u8>>> = places.iter().collect();
    let mut owed = wanted.clone();
    if let Some((at, _)) = case.meanwhile.filter(|(at, _)| at.starts_with("theirs/")) {
        // Who writes over it in the bucket itself has taken it away.
        owed.remove(at);
    }
    assert_eq!(lost(&owed, &kept), Vec::<String>::new(), "{name}: lost");
    if case.meanwhile.is_none() {
        for path in case.may_return {
            wanted.remove(*path);
        }
        let mut here = here;
        here.retain(|path, _| !case.may_return.contains(&path.as_str()));
        let odd = differing(&here, &wanted);
        assert!(odd.is_empty(), "{name}: not what was meant: {odd:?}");
    }
    let again = anna.well(name).await;
    assert_eq!(again.run, None, "{name}: a run after that has nothing to do");
    let left = direct.unfinished("").await.unwrap();
    assert!(
        left.len() as u64 <= case.nameless,
        "{name}: uploads were left behind: {left:?}"
    );
}

/// Lives through all of them, each in a bucket of its own.
pub fn live_through(cases: Vec<Case>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = S3Server::start().await.unwrap();
        let mut failed = Vec::new();
        for (number, case) in cases.into_iter().enumerate() {
            let name = case.name.clone();
            let lived =
                futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(live(&server, number, case)));
            if let Err(why) = lived.await {
                let text = why.downcast_ref::<String>().cloned();
                failed.push(text.unwrap_or(name));
            }
        }
        assert!(
            failed.is_empty(),
            "{} failed:\n{}",
            failed.len(),
            failed.join("\n")
        );
    });
}
