//! A plan as a file: one JSON object a line, a header and then what is to be done, in the order in which it is done.
//!
//! Invariant: a line read back is the line written; what does not parse is refused with its number, and nothing is executed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use syncline_model::{
    Action, Change, Content, Digest, Entry, Fault, From, Kind, LinkId, Meta, Observation, Owner, Pair,
    RelPath, Row, Side, Slot, Source, Special, Stamp, Step, Tag, Time, Was,
};

use crate::plan::Item;

/// Version of the format.
pub const VERSION: u64 = 3;

/// Bytes as text where they are UTF-8.
pub fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| json!({"bytes": STANDARD.encode(bytes)}), |text| json!(text))
}

/// Reads them back.
pub fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => Some(text.clone().into_bytes()),
        other => STANDARD.decode(other.get("bytes")?.as_str()?).ok(),
    }
}

/// Reads a path back.
pub fn path(value: &Value) -> Option<RelPath> {
    RelPath::new(bytes(value)?).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(value: &Value) -> Option<[u8; N]> {
    let text = value.as_str()?.as_bytes();
    let mut out = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (at, pair) in text.chunks(2).enumerate() {
        out[at] = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

fn time(time: Time) -> Value {
    json!([time.secs, time.nanos])
}

fn to_time(value: &Value) -> Option<Time> {
    Some(Time {
        secs: value.get(0)?.as_i64()?,
        nanos: value.get(1)?.as_u64()?.try_into().ok()?,
    })
}

fn tag(tag: &Tag) -> Value {
    match tag {
        Tag::None => Value::Null,
        Tag::Stamp(stamp) => json!({"fs": stamp.fs, "inode": stamp.inode, "ctime": time(stamp.ctime)}),
        Tag::Store(bytes) => text(bytes),
    }
}

fn to_tag(value: &Value) -> Option<Tag> {
    if value.is_null() {
        return Some(Tag::None);
    }
    match value.get("inode") {
        Some(inode) => Some(Tag::Stamp(Stamp {
            fs: value.get("fs")?.as_u64()?,
            inode: inode.as_u64()?,
            ctime: to_time(value.get("ctime")?)?,
        })),
        None => Some(Tag::Store(bytes(value)?.into())),
    }
}

fn entry(entry: &Entry) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("kind".into(), json!(entry.kind()));
    if let Entry::File(_, content, link) = entry {
        out.insert("size".into(), json!(content.size));
        content
            .digest
            .iter()
            .for_each(|digest| drop(out.insert("digest".into(), json!(digest.to_string()))));
        content
            .md5
            .iter()
            .for_each(|md5| drop(out.insert("md5".into(), json!(hex(md5)))));
        link.iter()
            .for_each(|link| drop(out.insert("link".into(), json!(link.0))));
    }
    match entry {
        Entry::Link(_, target) => drop(out.insert("target".into(), text(target))),
        Entry::Special(_, Special::Block(a, b) | Special::Char(a, b)) => {
            drop(out.insert("device".into(), json!([a, b])))
        }
        _ => {}
    }
    let Some(meta) = entry.meta() else { return out };
    meta.mode
        .iter()
        .for_each(|mode| drop(out.insert("mode".into(), json!(format!("{mode:o}")))));
    meta.owner
        .iter()
        .for_each(|owner| drop(out.insert("owner".into(), json!([owner.uid, owner.gid]))));
    meta.mtime
        .iter()
        .for_each(|mtime| drop(out.insert("mtime".into(), time(*mtime))));
    if let Some(xattrs) = &meta.xattrs {
        let pairs: Vec<_> = xattrs
            .iter()
            .map(|(name, value)| json!([text(name), STANDARD.encode(value)]))
            .collect();
        out.insert("xattrs".into(), json!(pairs));
    }
    out
}

fn to_meta(value: &Value) -> Option<Meta> {
    let mut meta = Meta::default();
    if let Some(mode) = value.get("mode") {
        meta.mode = Some(u32::from_str_radix(mode.as_str()?, 8).ok()?);
    }
    if let Some(owner) = value.get("owner") {
        let id = |at: usize| owner.get(at)?.as_u64()?.try_into().ok();
        meta.owner = Some(Owner {
            uid: id(0)?,
            gid: id(1)?,
        });
    }
    if let Some(mtime) = value.get("mtime") {
        meta.mtime = Some(to_time(mtime)?);
    }
    if let Some(xattrs) = value.get("xattrs") {
        let pair = |pair: &Value| {
            Some((
                bytes(pair.get(0)?)?,
                STANDARD.decode(pair.get(1)?.as_str()?).ok()?,
            ))
        };
        meta.xattrs = Some(Box::new(
            xattrs.as_array()?.iter().map(pair).collect::<Option<_>>()?,
        ));
    }
    Some(meta)
}

fn to_entry(value: &Value) -> Option<Entry> {
    let meta = to_meta(value)?;
    let device = |at: usize| value.get("device")?.get(at)?.as_u64()?.try_into().ok();
    Some(match value.get("kind")?.as_str()? {
        "directory" => Entry::Dir(meta),
        "file" => {
            let digest = value
                .get("digest")
                .map(|digest| unhex(digest).map(Digest).ok_or(()))
                .transpose()
                .ok()?;
            let md5 = value
                .get("md5")
                .map(|md5| unhex(md5).ok_or(()))
                .transpose()
                .ok()?;
            let link = value
                .get("link")
                .map(|link| link.as_u64().map(LinkId).ok_or(()))
                .transpose()
                .ok()?;
            Entry::File(
                meta,
                Content {
                    size: value.get("size")?.as_u64()?,
                    digest,
                    md5,
                },
                link,
            )
        }
        "symlink" => Entry::Link(meta, bytes(value.get("target")?)?.into()),
        "fifo" => Entry::Special(meta, Special::Fifo),
        "socket" => Entry::Special(meta, Special::Socket),
        "block device" => Entry::Special(meta, Special::Block(device(0)?, device(1)?)),
        "character device" => Entry::Special(meta, Special::Char(device(0)?, device(1)?)),
        _ => return None,
    })
}

fn observation(seen: &Observation) -> Value {
    let mut out = entry(&seen.entry);
    out.insert("tag".into(), tag(&seen.tag));
    Value::Object(out)
}

fn to_observation(value: &Value) -> Option<Observation> {
    Some(Observation {
        entry: to_entry(value)?,
        tag: to_tag(value.get("tag")?)?,
    })
}

/// `Some(None)` for null, `None` for what does not parse.
fn maybe<T>(value: Option<&Value>, read: impl Fn(&Value) -> Option<T>) -> Option<Option<T>> {
    match value {
        None | Some(Value::Null) => Some(None),
        Some(value) => read(value).map(Some),
    }
}

fn row(row: &Row) -> Value {
    json!({"left": row.left.as_ref().map(observation), "right": row.right.as_ref().map(observation)})
}

fn to_row(value: &Value) -> Option<Row> {
    Some(Pair::new(
        maybe(value.get("left"), to_observation)?,
        maybe(value.get("right"), to_observation)?,
    ))
}

fn to_side(value: &Value) -> Option<Side> {
    serde_json::from_value(value.clone()).ok()
}

fn step(step: &Step, out: &mut Map<String, Value>) {
    let change = &step.change;
    out.insert("side".into(), json!(step.side));
    out.insert("action".into(), json!(step.action));
    out.insert("path".into(), text(change.path.as_bytes()));
    match &change.from {
        Some(From::Move(from)) => drop(out.insert("from".into(), text(from.as_bytes()))),
        Some(From::Link(from)) => drop(out.insert("link_of".into(), text(from.as_bytes()))),
        Some(From::Exchange(with)) => drop(out.insert("exchange".into(), text(with.as_bytes()))),
        Some(From::Trash(_)) | None => {}
    }
    if let Some(content) = change.new.as_ref().and_then(Entry::content) {
        out.insert("size".into(), json!(content.size));
    }
    out.insert("old".into(), change.old.as_ref().map_or(Value::Null, observation));
    out.insert(
        "new".into(),
        change
            .new
            .as_ref()
            .map_or(Value::Null, |new| Value::Object(entry(new))),
    );
    if let Some(source) = &step.source {
        let seen = observation(&source.seen);
        let source = json!({"side": source.side, "path": text(source.path.as_bytes()), "seen": seen});
        out.insert("source".into(), source);
    }
}

fn to_step(value: &Value) -> Option<Step> {
    let action: Action = serde_json::from_value(value.get("action")?.clone()).ok()?;
    let from = match (value.get("from"), value.get("link_of"), value.get("exchange")) {
        (Some(from), ..) => Some(From::Move(path(from)?)),
        (_, Some(from), _) => Some(From::Link(path(from)?)),
        (.., Some(with)) => Some(From::Exchange(path(with)?)),
        (None, None, None) => None,
    };
    let source = |value: &Value| {
        Some(Source {
            side: to_side(value.get("side")?)?,
            path: path(value.get("path")?)?,
            seen: to_observation(value.get("seen")?)?,
        })
    };
    let change = Change {
        path: path(value.get("path")?)?,
        old: maybe(value.get("old"), to_observation)?,
        new: maybe(value.get("new"), to_entry)?,
        from,
    };
    Some(Step {
        side: to_side(value.get("side")?)?,
        action,
        change,
        source: maybe(value.get("source"), source)?,
    })
}

/// Where something was: its slot, in a list of one where another thing takes that.
fn place(was: &Was) -> Value {
    let slot = text(was.slot.as_bytes());
    if was.reused { json!([slot]) } else { slot }
}

fn to_place(value: &Value) -> Option<Was> {
    let reused = value.as_array().and_then(|list| list.first());
    let slot = Slot::new(bytes(reused.unwrap_or(value))?).ok()?;
    let reused = reused.is_some();
    Some(Was {
        slot,
        reused,
        carried: false,
    })
}

/// One line for one row of a plan; `key` is its place in the order. That it waits is said to who reads it; whoever carries the plan out
/// judges anew.
pub fn line(key: &[u8], item: &Item, waits: bool) -> Value {
    let mut out = Map::new();
    out.insert(
        "event".into(),
        json!(if item.step.is_some() { "step" } else { "row" }),
    );
    if let Some(made) = &item.step {
        step(made, &mut out);
    }
    out.insert("slot".into(), text(item.slot.as_bytes()));
    item.member
        .iter()
        .for_each(|side| drop(out.insert("member".into(), json!(side))));
    if let Some((agreed, was)) = &item.sole {
        out.insert("row".into(), agreed.as_ref().map_or(Value::Null, row));
        was.iter()
            .for_each(|was| drop(out.insert("was".into(), place(was))));
    }
    if waits {
        out.insert("waits".into(), json!(true));
    }
    out.insert("key".into(), json!(STANDARD.encode(key)));
    Value::Object(out)
}

/// Reads a line back.
pub fn parse(value: &Value) -> Option<(Vec<u8>, Item)> {
    let slot = |value: &Value| Slot::new(bytes(value)?).ok();
    let sole = match value.get("row") {
        None => None,
        Some(agreed) => Some((maybe(Some(agreed), to_row)?, maybe(value.get("was"), to_place)?)),
    };
    let made = if value.get("event")? == "step" {
        Some(to_step(value)?)
    } else {
        None
    };
    let item = Item {
        slot: slot(value.get("slot")?)?,
        step: made,
        member: maybe(value.get("member"), to_side)?,
        sole,
    };
    Some((STANDARD.decode(value.get("key")?.as_str()?).ok()?, item))
}

/// A line of settled rows of which several steps must be done.
pub fn part(settle: &syncline_model::Settle) -> Value {
    json!({
        "event": "part",
        "slot": text(settle.slot.as_bytes()),
        "row": settle.row.as_ref().map(row),
        "was": settle.was.as_ref().map(place),
        "steps": settle.steps.iter().map(|made| {
            let mut out = Map::new();
            step(made, &mut out);
            Value::Object(out)
        }).collect::<Vec<_>>(),
    })
}

/// Reads such a line back.
pub fn to_part(value: &Value) -> Option<syncline_model::Settle> {
    let slot = |value: &Value| Slot::new(bytes(value)?).ok();
    Some(syncline_model::Settle {
        slot: slot(value.get("slot")?)?,
        row: maybe(value.get("row"), to_row)?,
        was: maybe(value.get("was"), to_place)?,
        steps: value
            .get("steps")?
            .as_array()?
            .iter()
            .map(to_step)
            .collect::<Option<_>>()?,
    })
}

/// A line that cannot be read.
pub fn bad_line(number: usize) -> Fault {
    Fault::new(
        Kind::Invalid,
        format!("the plan file's line {number} cannot be read; nothing was done"),
        "",
    )
    .hint("write a new plan with --plan FILE")
}
