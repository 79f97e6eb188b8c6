//! Opens the two places of a session: looks at them, refuses what may not be synced, takes the locks.
//!
//! Invariant: nothing is opened before [`crate::roots`] has agreed, and whoever has an [`Opened`] has the session to itself.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use syncline_model::{Fault, Kind, Pair, Result, Side};
use syncline_replica::local::RootLock;
use syncline_replica::{LocalOptions, LocalReplica, Replica};
use syncline_store::layers::Rate;
use syncline_store::os::OsDisk;
use syncline_store::{Disk, Meter};
use syncline_sync::Env;

use crate::config::Config;
use crate::files::Files;
use crate::intent::Setting;
use crate::paced::Paced;
use crate::place::{self, At, Place, shown};
use crate::render::{Requests, Traffic};
use crate::roots::{self, Root};
use crate::state::{Known, States};

/// What every verb works with.
pub struct World {
    /// Where and how.
    pub setting: Setting,
    /// The config file.
    pub config: Config,
    /// Files of the operator.
    pub files: Files,
    /// Where state lies.
    pub states: States,
    /// Time, randomness, threads.
    pub env: Env,
    /// Permission bits that new files do not get.
    pub umask: u32,
}

/// Why a session could not be opened.
pub enum Shut {
    /// Another run has it.
    Held(Fault),
    /// Something is wrong.
    Failed(Fault),
}

impl From<Fault> for Shut {
    fn from(fault: Fault) -> Self {
        Self::Failed(fault)
    }
}

impl From<Shut> for Fault {
    fn from(shut: Shut) -> Self {
        match shut {
            Shut::Held(fault) | Shut::Failed(fault) => fault,
        }
    }
}

/// Two places, looked at and found fit for each other, but not opened.
pub struct Looked {
    /// The places, local ones by their one absolute path.
    pub places: Pair<Place>,
    /// What was seen of local ones.
    roots: Pair<Option<Root>>,
    /// Where our own state lies within them.
    pub own: Pair<Option<PathBuf>>,
    /// The session, if it has been begun.
    pub known: Option<Known>,
}

/// How a session is opened.
#[derive(Debug, Clone, Default)]
pub struct How {
    /// Where what is displaced is to go, if not into the places themselves.
    pub trash: Option<String>,
    /// Bytes a second.
    pub bandwidth: Option<u64>,
    /// The places will not be written.
    pub look_only: bool,
    /// What was displaced by earlier runs is asked for.
    pub finds_trash: bool,
}

/// A session's two places, opened.
pub struct Opened {
    /// The places.
    pub places: Pair<Place>,
    /// The replicas.
    pub sides: Pair<Arc<dyn Replica>>,
    /// Where this session's state lies.
    pub state: PathBuf,
    /// Where our own state lies within the sides.
    pub own: Pair<Option<PathBuf>>,
    /// The session had been begun before this command.
    pub known: bool,
    /// RIGHT, if it was made by this command.
    made: Option<PathBuf>,
    /// What a person should know of it.
    pub notes: Vec<String>,
    meters: Vec<Meter>,
    _gate: <OsDisk as Disk>::File,
    _locks: Vec<Arc<RootLock<OsDisk>>>,
}

impl Looked {
    /// False when RIGHT is a directory that is not there yet.
    pub fn right_is_there(&self) -> bool {
        self.roots.right.as_ref().is_none_or(|root| root.there)
    }
}

impl Opened {
    /// Removes RIGHT again if this command made it, and it is empty.
    pub fn unmake(&self, world: &World) -> Result<()> {
        let Some(path) = &self.made else { return Ok(()) };
        match world.files.remove(path, true) {
            Err(fault) if fault.is(Kind::Exists) => Ok(()),
            done => done,
        }
    }

    /// What went over the network so far.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        for meter in &self.meters {
            let counts = meter.counts();
            sum.bytes_sent += counts.sent;
            sum.bytes_received += counts.received;
            let requests = &mut sum.requests;
            *requests = Requests {
                put: requests.put + counts.put + counts.copy,
                get: requests.get + counts.get,
                list: requests.list + counts.list,
                head: requests.head + counts.head,
                delete: requests.delete + counts.delete,
            };
        }
        sum
    }
}

impl World {
    /// Reads a place.
    pub fn place(&self, text: &OsStr) -> Result<Place> {
        place::parse(text, &self.setting.base, &self.config)
    }

    /// Looks at two places. RIGHT may lack its last name as long as the session has not been begun.
    pub fn look(&self, left: &OsStr, right: &OsStr) -> Result<Looked> {
        self.look_at(Pair::new(self.place(left)?, self.place(right)?), false)
    }

    /// Looks at a directory that is to become a repository, and may not be there yet, and its place.
    pub fn look_with(&self, dir: &Root, place: &OsStr) -> Result<Looked> {
        self.look_at(
            Pair::new(Place::local(dir.path.clone()), self.place(place)?),
            true,
        )
    }

    fn look_at(&self, mut places: Pair<Place>, left_may_lack: bool) -> Result<Looked> {
        let (mut roots, mut missing) = (Pair::<Option<Root>>::default(), None);
        for side in Side::BOTH {
            let Some(dir) = places[side].dir() else { continue };
            match Root::look(&self.files, dir) {
                Ok(root) => {
                    if !root.there && side == Side::Left && !left_may_lack {
                        missing = Some(side);
                    }
                    places[side] = Place::local(root.path.clone());
                    roots[side] = Some(root);
                }
                Err(fault) if fault.is(Kind::NotFound) => missing = Some(side),
                Err(fault) => return Err(fault),
            }
        }
        let known = self.states.known(&places.left.text, &places.right.text)?;
        if known.is_some() && roots.right.as_ref().is_some_and(|root| !root.there) {
            missing = Some(Side::Right);
        }
        if let Some(side) = missing {
            return Err(gone(&places, side, known.is_some()));
        }
        let own = roots::check(&self.files, &roots, self.states.root())?;
        roots::buckets_apart(&places.left, &places.right)?;
        Ok(Looked {
            places,
            roots,
            own,
            known,
        })
    }

    /// A place's text as sessions know it, even if it is not there.
    pub fn settled(&self, place: &Place) -> OsString {
        let root = place.dir().and_then(|dir| Root::look(&self.files, dir).ok());
        root.map_or_else(|| place.text.clone(), |root| root.path.into_os_string())
    }

    /// Opens what was looked at.
    pub async fn open(&self, looked: Looked, how: How) -> Result<Opened, Shut> {
        let Looked {
            places,
            roots,
            own,
            known,
        } = looked;
        let was_known = known.is_some();
        let state = match known {
            Some(known) => known.dir,
            None => self.states.dir(&places.left.text, &places.right.text),
        };
        self.states.make(&state)?;
        let gate = self.gate(&state)?;
        let made = roots
            .right
            .as_ref()
            .filter(|root| !root.there)
            .map(|root| root.path.clone());
        if let Some(path) = &made {
            self.files.make_last(path, 0o777 & !self.umask)?;
        }
        let rate = Rate::new(Arc::clone(&self.env.clock), how.bandwidth);
        let (mut sides, mut meters, mut locks, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let set_ids = rustix::process::geteuid().is_root()
            && Side::BOTH.iter().all(|side| places[*side].dir().is_some());
        for side in Side::BOTH {
            match &places[side].at {
                At::Local(path) => {
                    let replica = self.local(path, &places[side], set_ids)?;
                    if !how.look_only {
                        locks.extend(replica.lock().map_err(held)?);
                    }
                    sides.push(paced(replica, &rate, &how, &places));
                }
                At::Bucket(url, store) => {
                    let home = state.join(format!("{}-bucket", side.name()));
                    let (replica, meter, note) = self
                        .bucket(url, store.as_deref(), Some(&home), rate.clone())
                        .await?;
                    sides.push(replica);
                    meters.push(meter);
                    notes.extend(note);
                }
            }
        }
        let (Some(right), Some(left)) = (sides.pop(), sides.pop()) else {
            return Err(Fault::new(Kind::Bug, "a session has two sides", "").into());
        };
        let sides = Pair::new(left, right);
        let sides = self.with_trash(sides, &places, &state, &how, &mut meters).await?;
        Ok(Opened {
            places,
            sides,
            state,
            own,
            known: was_known,
            made,
            notes,
            meters,
            _gate: gate,
            _locks: locks,
        })
    }

    /// Records that this session has been begun.
    pub fn begin(&self, opened: &Opened) -> Result<()> {
        self.states
            .begin(&opened.places.left.text, &opened.places.right.text)
            .map(drop)
    }

    /// Opens one place, to look at it.
    pub async fn open_one(&self, place: &Place) -> Result<(Arc<dyn Replica>, Meter)> {
        match &place.at {
            At::Local(path) => Ok((Arc::new(self.local(path, place, false)?), Meter::default())),
            At::Bucket(url, store) => {
                let rate = Rate::new(Arc::clone(&self.env.clock), None);
                let (replica, meter, _) = self.bucket(url, store.as_deref(), None, rate).await?;
                Ok((replica, meter))
            }
        }
    }

    /// One process at a time works on a session's state.
    fn gate(&self, state: &Path) -> Result<<OsDisk as Disk>::File, Shut> {
        let (disk, at) = (&self.files.disk, || shown(state.as_os_str()));
        let dir = self.files.dir(state)?;
        match disk.open(&dir, b"gate", true) {
            Err(fault) if !fault.is(Kind::Exists) => return Err(fault.at(at()).into()),
            _ => {}
        }
        let gate = disk.open(&dir, b"gate", false)?;
        match disk.lock(&gate) {
            Ok(()) => Ok(gate),
            Err(fault) if fault.is(Kind::Busy) => {
                let holder = self
                    .files
                    .read(&state.join("holder"))?
                    .map(|text| text.bytes)
                    .unwrap_or_default();
                let holder = String::from_utf8_lossy(&holder).trim().to_string();
                let who = if holder.is_empty() {
                    "another process".into()
                } else {
                    holder
                };
                Err(Shut::Held(
                    Fault::new(Kind::Busy, format!("this session is held by {who}"), at()).hint(
                        "wait for it to end, or stop it; --quiet-if-locked ends a second run without a word",
                    ),
                ))
            }
            Err(fault) => Err(fault.at(at()).into()),
        }
    }

    fn local(&self, path: &Path, place: &Place, set_ids: bool) -> Result<LocalReplica<OsDisk>> {
        let threads = std::thread::available_parallelism()
            .map_or(2, std::num::NonZero::get)
            .clamp(2, 16);
        let options = LocalOptions {
            label: place.label(),
            host: host(),
            threads,
            clock: Arc::clone(&self.env.clock),
            spawn: Arc::clone(&self.env.spawn),
            pid: std::process::id(),
            umask: self.umask,
            set_ids,
        };
        LocalReplica::open(Arc::clone(&self.files.disk), path, options)
    }
}

/// A local replica, read at a limited rate where no store limits it.
fn paced(replica: LocalReplica<OsDisk>, rate: &Rate, how: &How, places: &Pair<Place>) -> Arc<dyn Replica> {
    let inner: Arc<dyn Replica> = Arc::new(replica);
    let both_local = Side::BOTH.iter().all(|side| places[*side].dir().is_some());
    if how.bandwidth.is_some() && both_local {
        Arc::new(Paced {
            inner,
            rate: rate.clone(),
        })
    } else {
        inner
    }
}

fn held(fault: Fault) -> Shut {
    if fault.is(Kind::Busy) {
        Shut::Held(fault)
    } else {
        Shut::Failed(fault)
    }
}

/// This machine's name.
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// A root that is not there: refused where it once was (scenario S2), unreachable where it never was.
fn gone(places: &Pair<Place>, side: Side, known: bool) -> Fault {
    let (label, other) = (places[side].label(), places[side.other()].label());
    if known {
        let what = format!(
            "the {} root is gone; the other root is {other}. Nothing was changed",
            side.name()
        );
        Fault::new(Kind::Changed, what, label)
            .hint("look whether it is mounted; to begin anew with these places, end their binding with `syncline leave`")
    } else {
        Fault::new(
            Kind::NotFound,
            format!("the {} root is not there", side.name()),
            label,
        )
        .hint(
            "look at the spelling, or whether it is mounted; RIGHT is made if only its last name is missing",
        )
    }
}
