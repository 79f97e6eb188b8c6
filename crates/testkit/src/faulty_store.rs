//! A layer that lets things go wrong: by script, by rate, or all at once.
//!
//! Invariant: one seed and one sequence of calls give one sequence of faults; each kind is counted, so that a test can
//! prove that it met what it claims to withstand.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use syncline_model::{Dice, Fault, Kind, Result};
use syncline_store::layer::{Layer, Verb, Wanted};
use syncline_store::{Blob, Seen, Store};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrong {
    /// Refused before any effect, because of load (503).
    Busy,
    /// Lost before any effect.
    Lost,
    /// Done, but the answer never came.
    Unanswered,
    /// A body breaks off.
    Cut,
    /// A body turns out to be of another length or with other bytes than promised.
    Garbled,
    /// Refused as "changed" though nothing changed (409).
    Conflict,
    /// The credentials have expired; new ones are found.
    Expired,
    /// A listing breaks off, or runs in a circle and is found out.
    ListBroken,
    /// Everything is down.
    Outage,
}

/// The calls of the seam.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// `get`, and every `next` of its body.
    Get,
    /// `draft`.
    Draft,
    /// `Draft::write`.
    Write,
    /// `Draft::publish`.
    Publish,
    /// `stat`.
    Stat,
    /// `Listing::next`.
    List,
    /// `remove`.
    Remove,
    /// `reuse`.
    Reuse,
    /// `unfinished` and `discard`.
    Uploads,
}

impl Call {
    /// `None`: nothing goes wrong in it.
    fn of(verb: Verb) -> Option<Self> {
        Some(match verb {
            Verb::Open => Self::Get,
            Verb::Draft => Self::Draft,
            Verb::Write { .. } => Self::Write,
            Verb::Publish { .. } => Self::Publish,
            Verb::Stat => Self::Stat,
            Verb::Page => Self::List,
            Verb::Remove(_) | Verb::DropVersion => Self::Remove,
            Verb::Copy => Self::Reuse,
            Verb::Unfinished | Verb::Discard => Self::Uploads,
            Verb::Read | Verb::Drop | Verb::List | Verb::Space => return None,
        })
    }

    /// What can go wrong in this call.
    fn can(self) -> &'static [Wrong] {
        use Wrong::{Busy, Conflict, Cut, Expired, Garbled, ListBroken, Lost, Unanswered};
        match self {
            Self::Get => &[Busy, Lost, Expired, Cut, Garbled],
            Self::Publish | Self::Reuse => &[Busy, Lost, Expired, Unanswered, Conflict],
            Self::Remove => &[Busy, Lost, Expired, Unanswered],
            Self::List => &[Busy, Lost, Expired, ListBroken],
            Self::Draft | Self::Write | Self::Stat | Self::Uploads => &[Busy, Lost, Expired],
        }
    }
}

#[derive(Default)]
struct Plan {
    /// Faults in ten thousand calls.
    rate: u64,
    /// Kinds that come by rate; empty: all that fit the call.
    kinds: Vec<Wrong>,
    script: BTreeMap<Call, VecDeque<Option<Wrong>>>,
    storm: u64,
    outage: bool,
    /// Calls until nothing can be reached any more.
    left: Option<u64>,
    met: BTreeMap<Wrong, u64>,
    calls: BTreeMap<Call, u64>,
}

/// Wraps any store. Clones share plan and counts.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    dice: Arc<dyn Dice>,
    plan: Arc<Mutex<Plan>>,
}

impl FaultyStore {
    /// Wraps `inner`; nothing goes wrong yet.
    pub fn new(inner: Arc<dyn Store>, dice: Arc<dyn Dice>) -> Self {
        Self {
            inner,
            dice,
            plan: Arc::default(),
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on so many of ten thousand calls go wrong, in one of `kinds` (empty: any that fits the call).
    pub fn rate(&self, per_10_000: u64, kinds: &[Wrong]) {
        let mut plan = self.plan();
        plan.rate = per_10_000;
        plan.kinds = kinds.to_vec();
    }

    /// Lets the next calls of this kind go as written, one after the other; `None`: well.
    pub fn script(&self, call: Call, wrongs: &[Option<Wrong>]) {
        self.plan().script.entry(call).or_default().extend(wrongs);
    }

    /// The next `calls` calls of whatever kind are refused as busy.
    pub fn storm(&self, calls: u64) {
        self.plan().storm = calls;
    }

    /// Nothing can be reached, until it can again.
    pub fn outage(&self, down: bool) {
        self.plan().outage = down;
    }

    /// Nothing can be reached after so many more calls.
    pub fn outage_after(&self, calls: u64) {
        self.plan().left = Some(calls);
    }

    /// What has gone wrong so far.
    pub fn met(&self) -> BTreeMap<Wrong, u64> {
        self.plan().met.clone()
    }

    /// Calls that came here so far, those that went wrong included.
    pub fn calls(&self) -> BTreeMap<Call, u64> {
        self.plan().calls.clone()
    }

    /// Decides how this call goes.
    fn fate(&self, call: Call) -> Option<Wrong> {
        let mut plan = self.plan();
        *plan.calls.entry(call).or_default() += 1;
        match &mut plan.left {
            Some(0) => plan.outage = true,
            Some(left) => *left -= 1,
            None => {}
        }
        let wrong = if plan.outage {
            Some(Wrong::Outage)
        } else if plan.storm > 0 {
            plan.storm -= 1;
            Some(Wrong::Busy)
        } else if let Some(scripted) = plan.script.get_mut(&call).and_then(VecDeque::pop_front) {
            scripted
        } else if plan.rate > 0 && self.dice.roll() % 10_000 < plan.rate {
            let fits = |wrong: &&Wrong| plan.kinds.is_empty() || plan.kinds.contains(wrong);
            let fitting: Vec<Wrong> = call.can().iter().filter(fits).copied().collect();
            let at = self.dice.roll() as usize % fitting.len().max(1);
            fitting.get(at).copied()
        } else {
            None
        };
        if let Some(wrong) = wrong {
            *plan.met.entry(wrong).or_default() += 1;
        }
        wrong
    }

    fn fault(&self, wrong: Wrong) -> Fault {
        let (kind, retry, what) = match wrong {
            Wrong::Busy => (Kind::Busy, true, "503 SlowDown"),
            Wrong::Lost => (Kind::Offline, true, "connection reset"),
            Wrong::Unanswered => (Kind::Offline, true, "no answer"),
            Wrong::Cut => (Kind::Offline, true, "the body broke off"),
            Wrong::Garbled => (Kind::Corrupt, true, "the bytes are not those of the tag"),
            Wrong::Conflict => (Kind::Changed, false, "409 ConditionalRequestConflict"),
            Wrong::Expired => (Kind::Denied, true, "403 ExpiredToken"),
            Wrong::ListBroken => (Kind::Corrupt, true, "the same page is named twice"),
            Wrong::Outage => (Kind::Offline, true, "unreachable"),
        };
        Fault::new(kind, format!("injected: {what}"), self.inner.label()).retry(retry)
    }

    /// Fails, unless the fault comes after the effect: then says so.
    fn before(&self, call: Call) -> Result<Option<Wrong>> {
        match self.fate(call) {
            None => Ok(None),
            Some(wrong @ (Wrong::Unanswered | Wrong::Cut | Wrong::Garbled)) => Ok(Some(wrong)),
            Some(wrong) => Err(self.fault(wrong)),
        }
    }
}

struct FaultySeen {
    inner: Box<dyn Seen>,
    store: FaultyStore,
    /// Goes wrong after so many more bytes.
    wrong: Option<(Wrong, usize)>,
}

#[async_trait]
impl Seen for FaultySeen {
    fn blob(&self) -> &Blob {
        self.inner.blob()
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        let bytes = self.inner.next().await?;
        let Some((wrong, left)) = &mut self.wrong else {
            return Ok(bytes);
        };
        match bytes {
            Some(mut bytes) if *left > 0 => {
                bytes.truncate(*left);
                *left -= bytes.len();
                Ok(Some(bytes))
            }
            _ => Err(self.store.fault(*wrong)),
        }
    }
}

impl Layer for FaultyStore {
    fn below(&self) -> &dyn Store {
        &*self.inner
    }

    async fn once<T: Send>(&self, verb: Verb, attempt: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let late = match Call::of(verb) {
            Some(call) => self.before(call)?,
            None => None,
        };
        let done = attempt.await?;
        late.map_or(Ok(done), |wrong| Err(self.fault(wrong)))
    }

    /// A body that goes wrong, goes wrong on its way.
    async fn open(&self, wanted: Wanted<'_>) -> Result<Box<dyn Seen>> {
        let late = self.before(Call::Get)?;
        let inner = wanted.open(self.below()).await?;
        let wrong = late.map(|wrong| {
            let size = usize::try_from(inner.blob().size).unwrap_or(usize::MAX).max(1);
            (wrong, self.dice.roll() as usize % size)
        });
        Ok(Box::new(FaultySeen {
            inner,
            store: self.clone(),
            wrong,
        }))
    }
}
