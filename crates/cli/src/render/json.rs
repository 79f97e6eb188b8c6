//! JSON lines as `cli.md` settles them: steps, conflicts, problems, notes; last the summary.
//!
//! Invariant: each line is one object, written whole; characters that a terminal would obey are escaped.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use serde_json::{Value, json};
use syncline_model::{Action, Clash, Conflict, Fault, From as Origin, RelPath, Side, Step, Time};
use syncline_sync::{Event, Monitor};

use super::{Ending, Face, Item, clean, is_risky, note_failure};
use crate::exit;
use crate::intent::Voice;
use crate::place::masked;

/// Writes JSON lines.
pub struct Json {
    voice: Voice,
    out: Mutex<Box<dyn Write + Send>>,
    broken: AtomicBool,
}

impl Json {
    /// Writes to `out`.
    pub fn new(voice: Voice, out: Box<dyn Write + Send>) -> Self {
        Self {
            voice,
            out: Mutex::new(out),
            broken: AtomicBool::new(false),
        }
    }

    fn line(&self, value: &Value) {
        let mut text = safe(&value.to_string());
        text.push('\n');
        let mut out = self.out.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        note_failure(
            &self.broken,
            out.write_all(text.as_bytes()).and_then(|()| out.flush()),
        );
    }
}

impl Monitor for Json {
    fn event(&self, event: Event<'_>) {
        let value = match event {
            Event::Step(step) if step.action != Action::Times && self.voice > Voice::Quiet => {
                step_value(step)
            }
            Event::Waits(step) if step.action != Action::Times && self.voice > Voice::Quiet => {
                let mut value = step_value(step);
                value["event"] = json!("waits");
                value
            }
            Event::Conflict(conflict) => conflict_value(conflict),
            Event::Problem(problem) => json!({
                "event": "problem", "path": path(&problem.path), "side": problem.side,
                "kind": exit::word(problem.kind), "message": clean(&masked(&problem.message)),
                "hint": problem.hint.as_deref().map(|hint| clean(&masked(hint))),
            }),
            Event::Yielded { path: at, side } => json!({"event": "yielded", "path": path(at), "side": side}),
            Event::Note(text) => json!({"event": "note", "message": masked(text)}),
            Event::Phase(name) if self.voice == Voice::Loud => json!({"event": "phase", "phase": name}),
            Event::Planned { steps, bytes } if self.voice == Voice::Loud => {
                json!({"event": "planned", "steps": steps, "bytes": bytes})
            }
            _ => return,
        };
        self.line(&value);
    }
}

impl Face for Json {
    fn fault(&self, fault: &Fault) {
        self.line(&json!({
            "event": "fault", "kind": exit::word(fault.kind), "at": masked(&fault.at),
            "message": masked(&fault.what), "hint": fault.hint.as_deref().map(masked),
            "cause": fault.source.as_ref().map(|source| masked(&source.to_string())),
        }));
    }

    fn item(&self, item: &Item<'_>) {
        self.line(&match item {
            Item::Run(run) => json!({
                "event": "run", "run": run.run, "time": time(run.time), "what": run.what,
                "exit": run.exit.map(u8::from), "left": run.left, "right": run.right,
            }),
            Item::Conflict(open, hosts) => {
                let mut value = conflict_value(&open.conflict);
                value["run"] = json!(open.run);
                let version = |side: Side| {
                    open.conflict.sides[side].as_ref().map(|entry| {
                        json!({
                            "host": hosts[side], "kind": entry.kind(),
                            "size": entry.content().map(|content| content.size),
                            "time": entry.meta().and_then(|meta| meta.mtime).map(time),
                        })
                    })
                };
                value["versions"] = json!({"left": version(Side::Left), "right": version(Side::Right)});
                value
            }
            Item::Trash(removed) => json!({
                "event": "trash", "side": removed.side, "run": removed.run, "path": path(removed.path),
                "size": removed.size, "time": time(removed.time),
            }),
            Item::Check(check) => {
                let mut value = json!(check);
                value["event"] = json!("check");
                value
            }
            Item::Session { left, right } => json!({"event": "session", "left": left, "right": right}),
            Item::Note(text) => json!({"event": "note", "message": masked(text)}),
        });
    }

    fn suspend(&self, ask: &mut dyn FnMut()) {
        ask();
    }

    fn ending(&self, ending: &Ending, _list: bool) {
        let report = &ending.report;
        self.line(&json!({
            "event": "summary", "run": report.run, "exit": u8::from(report.exit),
            "left": report.left, "right": report.right,
            "conflicts": report.conflicts, "problems": report.problems, "seconds": report.seconds,
            "bytes_sent": ending.traffic.bytes_sent, "bytes_received": ending.traffic.bytes_received,
            "requests": ending.traffic.requests,
            "reasons": report.reasons.iter().map(|reason| masked(reason)).collect::<Vec<_>>(),
        }));
    }

    fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

/// A path: a string where it is UTF-8, else its bytes.
pub fn path(path: &RelPath) -> Value {
    match std::str::from_utf8(path.as_bytes()) {
        Ok(text) => json!(text),
        Err(_) => json!({"bytes": base64::engine::general_purpose::STANDARD.encode(path.as_bytes())}),
    }
}

fn step_value(step: &Step) -> Value {
    let mut value = json!({
        "event": "step", "side": step.side, "action": step.action, "path": path(&step.change.path),
    });
    match &step.change.from {
        Some(Origin::Move(from) | Origin::Exchange(from) | Origin::Link(from)) => value["from"] = path(from),
        Some(Origin::Trash(_)) | None => {}
    }
    let entry = step
        .change
        .new
        .as_ref()
        .or(step.change.old.as_ref().map(|old| &old.entry));
    if let Some(content) = entry.and_then(|entry| entry.content()) {
        value["size"] = json!(content.size);
    }
    value
}

fn conflict_value(conflict: &Conflict) -> Value {
    let why = match conflict.clash {
        Clash::Edited => "edited",
        Clash::Kind => "kind",
        Clash::Moved => "moved",
    };
    let kept: Vec<Value> = conflict.kept.iter().map(path).collect();
    let sides = |entry: &Option<syncline_model::Entry>| entry.as_ref().map(|entry| entry.kind());
    json!({
        "event": "conflict", "path": path(&conflict.path), "kept": kept, "why": why, "winner": conflict.winner,
        "left": sides(&conflict.sides.left), "right": sides(&conflict.sides.right),
    })
}

fn time(time: Time) -> Value {
    let stamp = jiff::Timestamp::new(time.secs, i32::try_from(time.nanos).unwrap_or(0));
    stamp.map_or(Value::Null, |stamp| json!(stamp.to_string()))
}

/// Escapes what JSON lets through and a terminal would obey. Such characters stand within strings only.
fn safe(line: &str) -> String {
    use std::fmt::Write as _;
    if !line.chars().any(is_risky) {
        return line.to_string();
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if is_risky(c) {
            // Writing to a string does not fail; all of them lie below U+FFFF.
            let _ = write!(out, "\\u{:04x}", c as u32);
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Kept, conflict, ending, step};
    use super::*;
    use syncline_model::{Kind, Problem, Side};

    fn lines(act: impl FnOnce(&Json)) -> Vec<Value> {
        let kept = Kept::default();
        act(&Json::new(Voice::Normal, Box::new(kept.clone())));
        kept.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn steps_conflicts_and_problems_have_the_settled_shape() {
        let found = lines(|json| {
            json.event(Event::Step(&step(Side::Right, Action::Create, b"a b", None)));
            json.event(Event::Step(&step(Side::Left, Action::Move, b"new", Some(b"old"))));
            json.event(Event::Step(&step(Side::Left, Action::Times, b"d", None)));
            json.event(Event::Conflict(&conflict(b"x")));
            json.event(Event::Problem(&Problem {
                path: RelPath::try_from("p").unwrap(),
                side: None,
                kind: Kind::Denied,
                message: "cannot".into(),
                hint: Some("chmod".into()),
            }));
            json.event(Event::Phase("scanning"));
        });
        assert_eq!(found.len(), 4);
        assert_eq!(
            found[0],
            json!({"event": "step", "side": "right", "action": "create", "path": "a b", "size": 7})
        );
        assert_eq!(
            (&found[1]["action"], &found[1]["from"]),
            (&json!("move"), &json!("old"))
        );
        assert_eq!(
            (&found[2]["why"], &found[2]["kept"]),
            (&json!("edited"), &json!(["x", "x (conflict)"]))
        );
        assert_eq!(
            (&found[3]["kind"], &found[3]["message"], &found[3]["hint"]),
            (&json!("denied"), &json!("cannot"), &json!("chmod"))
        );
    }

    #[test]
    fn s17_names_that_are_not_utf8_come_as_bytes() {
        let found = lines(|json| json.event(Event::Step(&step(Side::Left, Action::Mkdir, b"a\xff", None))));
        assert_eq!(found[0]["path"], json!({"bytes": "Yf8="}));
    }

    #[test]
    fn sx2_no_raw_control_or_bidi_character_is_written() {
        let kept = Kept::default();
        let json = Json::new(Voice::Normal, Box::new(kept.clone()));
        let name = "a\u{1b}[31m\u{9b}\u{7f}\u{202e}\n";
        json.event(Event::Step(&step(
            Side::Left,
            Action::Mkdir,
            name.as_bytes(),
            None,
        )));
        json.fault(&Fault::new(Kind::Denied, "no\u{1b}", "x\u{202e}"));
        let text = kept.text();
        assert_eq!(text.matches('\n').count(), 2);
        assert!(!text.chars().any(|c| is_risky(c) && c != '\n'), "{text:?}");
        let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["path"], json!(name));
    }

    #[test]
    fn the_summary_has_all_that_is_settled() {
        let found = lines(|json| json.ending(&ending(), false));
        for key in [
            "run",
            "exit",
            "left",
            "right",
            "conflicts",
            "problems",
            "seconds",
            "bytes_sent",
            "bytes_received",
            "requests",
        ] {
            assert!(!found[0][key].is_null(), "{key}");
        }
        for key in ["created", "updated", "moved", "removed", "metadata", "bytes"] {
            assert!(found[0]["left"][key].is_u64(), "{key}");
        }
        for key in ["put", "get", "list", "head", "delete"] {
            assert!(found[0]["requests"][key].is_u64(), "{key}");
        }
        assert_eq!(found[0]["exit"], json!(1));
    }

    #[test]
    fn sk1_faults_hide_users_of_urls() {
        let found = lines(|json| {
            json.fault(&Fault::new(
                Kind::Denied,
                "GET http://u:CANARY@h/x",
                "s3://CANARY@b",
            ))
        });
        assert!(!found[0].to_string().contains("CANARY"));
    }
}
