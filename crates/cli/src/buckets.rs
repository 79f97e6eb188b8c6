//! Opens buckets: the store with its layers, the replica over it, and what an earlier probe found.
//!
//! Invariant: keys of the config file go to the signer and nowhere else (SK1).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use syncline_model::{Fault, Result};
use syncline_replica::{Accounts, BucketOptions, BucketReplica, Replica};
use syncline_store::layers::Rate;
use syncline_store::s3::Keys;
use syncline_store::sorter::MakeSorter;
use syncline_store::url::{S3Place, s3_place};
use syncline_store::{Caps, FjallTable, Meter, OpenOptions, Sorter, Store, Table};

use crate::open::World;
use crate::place::shown;

/// Bytes of a listing that are sorted in memory.
const SORTED_IN_MEMORY: usize = 16 << 20;

impl World {
    /// Opens the bucket at `url`. `home` is where this session keeps what it knows of it; without one nothing is
    /// kept, and listings are sorted in memory. The last one says that what was kept was damaged.
    pub async fn bucket(
        &self,
        url: &str,
        store: Option<&str>,
        home: Option<&Path>,
        rate: Rate,
    ) -> Result<(Arc<dyn Replica>, Meter, Option<String>)> {
        let place = s3_place(url)?;
        let (opened, meter) = self.store(url, store, rate, home.is_some()).await?;
        let mut note = None;
        let state: Option<Arc<dyn Table>> = match home {
            Some(home) => {
                self.files.make_dirs(home.parent().unwrap_or(home))?;
                let (table, aside) = FjallTable::open_whole(home)?;
                note = aside.map(|aside| {
                    format!(
                        "what was noted of {} was damaged and lies at {} now: it is looked at anew",
                        shown(url.as_ref()),
                        shown(aside.as_os_str())
                    )
                });
                Some(Arc::new(table))
            }
            None => None,
        };
        let options = BucketOptions {
            place: seen_as(&place),
            host: place.bucket.clone(),
            device: self.states.device(&*self.env.dice)?,
            state,
            clock: Arc::clone(&self.env.clock),
            dice: Arc::clone(&self.env.dice),
            read_only: false,
        };
        let mut replica = BucketReplica::new(opened, options)?.naming_owners(self.accounts());
        if let Some(state) = home.and_then(Path::parent) {
            replica = replica.sorting_with(self.sorting_in(&state.join("scratch"))?);
        }
        Ok((Arc::new(replica), meter, note))
    }

    /// Sorts in the directory `scratch`, which is made if missing.
    fn sorting_in(&self, scratch: &Path) -> Result<MakeSorter> {
        let (disk, dir) = (Arc::clone(&self.files.disk), self.files.make_dirs(scratch)?);
        Ok(Arc::new(move || {
            let sorter = Sorter::with_budget(Arc::clone(&disk), dir.clone(), SORTED_IN_MEMORY);
            Ok(Box::new(sorter))
        }))
    }

    /// The accounts of this machine, as far as its files tell; others go by number.
    fn accounts(&self) -> Accounts {
        let text = |path: &str| {
            let read = self.files.read(Path::new(path)).ok().flatten();
            read.map(|text| text.bytes).unwrap_or_default()
        };
        Accounts::parse(&text("/etc/passwd"), &text("/etc/group"))
    }

    /// Opens the store at `url`; with `remembered`, what an earlier probe found is believed.
    pub async fn store(
        &self,
        url: &str,
        store: Option<&str>,
        rate: Rate,
        remembered: bool,
    ) -> Result<(Arc<dyn Store>, Meter)> {
        let meter = Meter::default();
        let mut options = OpenOptions::new(syncline_store::World::real());
        options.meter = meter.clone();
        options.rate = rate;
        options.keys = store
            .and_then(|name| self.config.store.get(name))
            .and_then(|named| {
                let (id, secret) = (named.access_key_id.as_ref()?, named.secret_access_key.as_ref()?);
                Some(Keys {
                    id: id.clone(),
                    secret: secret.reveal().to_string(),
                })
            });
        let kept = self.caps_file(url);
        if remembered {
            options.caps = self.kept_caps(&kept)?;
        }
        let known = options.caps.is_some();
        let opened = syncline_store::open(url, options).await?;
        if !known {
            self.keep_caps(&kept, opened.caps())?;
        }
        Ok((opened, meter))
    }

    fn caps_file(&self, url: &str) -> PathBuf {
        let name = &blake3::hash(url.as_bytes()).to_hex()[..32];
        self.states.root().join("stores").join(name).join("caps.json")
    }

    /// What is kept and cannot be read is probed again.
    fn kept_caps(&self, path: &Path) -> Result<Option<Caps>> {
        Ok(self
            .files
            .read(path)?
            .and_then(|text| serde_json::from_slice(&text.bytes).ok()))
    }

    fn keep_caps(&self, path: &Path, caps: &Caps) -> Result<()> {
        let text = serde_json::to_vec_pretty(caps).map_err(|error| {
            Fault::new(
                syncline_model::Kind::Bug,
                format!("probe record: {error}"),
                shown(path.as_os_str()),
            )
        })?;
        if let Some(dir) = path.parent() {
            self.files.make_dirs(dir)?;
        }
        self.files.write(path, &text)
    }
}

/// Endpoint, bucket and prefix: what can be seen of the place without a marker.
fn seen_as(place: &S3Place) -> String {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let endpoint = place.endpoint.clone();
    let endpoint = endpoint
        .or_else(|| set("AWS_ENDPOINT_URL_S3"))
        .or_else(|| set("AWS_ENDPOINT_URL"));
    format!(
        "{} {} {}",
        endpoint.unwrap_or_default(),
        place.bucket,
        place.prefix
    )
}
