//! Text for people: one line a change, a bar on a terminal, a summary; faults with what to do next.
//!
//! Invariant: with `--quiet` nothing but errors is written; colours and the bar appear on a terminal only.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use syncline_model::{Action, Clash, Conflict, Entry, Fault, From as Origin, Side, Step, Time};
use syncline_sync::{Counts, Event, Exit, Monitor, RunInfo};

use super::{Check, Ending, Face, Item, Removed, clean, note_failure};
use crate::intent::Voice;
use crate::place::masked;

/// Writes text.
pub struct Text {
    voice: Voice,
    colour: bool,
    out: Mutex<Box<dyn Write + Send>>,
    errors: Mutex<Box<dyn Write + Send>>,
    bar: ProgressBar,
    scanned: AtomicU64,
    broken: AtomicBool,
}

#[derive(Clone, Copy)]
enum Colour {
    Red = 31,
    Yellow = 33,
}

impl Text {
    /// Writes to the standard streams.
    pub fn standard(voice: Voice) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let bar = if voice > Voice::Quiet && std::io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
            // Until there is something to measure there are only words.
            match ProgressStyle::with_template("{msg}") {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
        } else {
            ProgressBar::hidden()
        };
        let colour = std::io::stdout().is_terminal() && !no_color;
        Self {
            bar,
            ..Self::to(
                voice,
                colour,
                Box::new(std::io::stdout()),
                Box::new(std::io::stderr()),
            )
        }
    }

    fn to(voice: Voice, colour: bool, out: Box<dyn Write + Send>, errors: Box<dyn Write + Send>) -> Self {
        Self {
            voice,
            colour,
            out: Mutex::new(out),
            errors: Mutex::new(errors),
            bar: ProgressBar::hidden(),
            scanned: AtomicU64::new(0),
            broken: AtomicBool::new(false),
        }
    }

    fn line(&self, text: &str) {
        self.write(&self.out, text);
    }

    fn error(&self, text: &str) {
        self.write(&self.errors, text);
    }

    fn write(&self, to: &Mutex<Box<dyn Write + Send>>, text: &str) {
        let mut whole = clean(&masked(text));
        whole.push('\n');
        self.bar.suspend(|| {
            let mut to = to.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            note_failure(
                &self.broken,
                to.write_all(whole.as_bytes()).and_then(|()| to.flush()),
            );
        });
    }

    /// A word in colour. The escapes are our own: they are put around cleaned text, see [`Text::marked`].
    fn marked(&self, colour: Colour, word: &str, rest: &str) {
        if !self.colour {
            return self.line(&format!("{word} {rest}"));
        }
        let line = format!(
            "\u{1b}[{}m{word}\u{1b}[0m {}\n",
            colour as u8,
            clean(&masked(rest))
        );
        self.bar.suspend(|| {
            let mut out = self.out.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            note_failure(
                &self.broken,
                out.write_all(line.as_bytes()).and_then(|()| out.flush()),
            );
        });
    }

    fn phase(&self, name: &'static str) {
        self.bar.set_message(name);
        self.bar.tick();
        if self.voice == Voice::Loud {
            self.line(name);
        }
    }

    fn planned(&self, steps: u64, bytes: u64) {
        if self.voice == Voice::Loud {
            self.line(&format!("planned: {steps} steps, {}", HumanBytes(bytes)));
        }
        let template = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_length(bytes);
        self.bar.set_position(0);
        self.bar.reset_eta();
    }
}

impl Monitor for Text {
    fn event(&self, event: Event<'_>) {
        let loud = self.voice > Voice::Quiet;
        match event {
            Event::Phase(name) => self.phase(name),
            Event::Scanned(seen) => {
                let all = seen.left + seen.right;
                if all >= self.scanned.fetch_max(all, Ordering::Relaxed) {
                    self.bar.set_message(format!(
                        "scanning: {} on the left, {} on the right",
                        seen.left, seen.right
                    ));
                }
            }
            Event::Planned { steps, bytes } => self.planned(steps, bytes),
            Event::Step(step) if loud && step.action != Action::Times => self.line(&step_line(step)),
            Event::Waits(step) if loud && step.action != Action::Times => {
                self.line(&format!("waits    {}", step_line(step)));
            }
            Event::Copied(bytes) => self.bar.inc(bytes),
            Event::Conflict(conflict) if loud => {
                self.marked(Colour::Yellow, "conflict", &conflict_words(conflict))
            }
            Event::Problem(problem) => {
                let side = problem
                    .side
                    .map_or(String::new(), |side| format!("{} ", side.name()));
                let hint = problem
                    .hint
                    .as_ref()
                    .map_or(String::new(), |hint| format!("; {hint}"));
                self.error(&format!(
                    "problem {side}{}: {}{hint}",
                    problem.path, problem.message
                ));
            }
            Event::Yielded { path, side } if loud => {
                self.line(&format!(
                    "kept     {path} (edited; its deletion on the {} gave way)",
                    side.name()
                ));
            }
            Event::Note(text) if loud => self.line(&format!("note     {text}")),
            _ => {}
        }
    }
}

impl Face for Text {
    fn fault(&self, fault: &Fault) {
        self.bar.finish_and_clear();
        self.error(&format!("syncline: {fault}"));
        let cause = fault.source.as_ref().map(ToString::to_string);
        if let Some(cause) = cause.filter(|cause| !fault.what.contains(cause)) {
            self.error(&format!("  cause: {cause}"));
        }
        if let Some(hint) = &fault.hint {
            self.error(&format!("  {hint}"));
        }
    }

    fn item(&self, item: &Item<'_>) {
        match item {
            Item::Run(run) => self.line(&run_line(run)),
            Item::Conflict(open, hosts) => {
                self.line(&format!("{}  (run {})", conflict_words(&open.conflict), open.run));
                for side in Side::BOTH {
                    if let Some(entry) = &open.conflict.sides[side] {
                        self.line(&version_line(side, &hosts[side], entry));
                    }
                }
            }
            Item::Trash(removed) => self.line(&removed_line(removed)),
            Item::Check(check) => self.check(check),
            Item::Session { left, right } => self.line(&format!("{left}  {right}")),
            Item::Note(text) if self.voice > Voice::Quiet => self.line(text),
            Item::Note(_) => {}
        }
    }

    fn suspend(&self, ask: &mut dyn FnMut()) {
        self.bar.suspend(ask);
    }

    fn ending(&self, ending: &Ending, list: bool) {
        self.bar.finish_and_clear();
        for reason in &ending.report.reasons {
            self.error(&format!("syncline: {reason}"));
        }
        if !list && self.voice > Voice::Quiet {
            self.line(&summary(ending));
        }
    }

    fn broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

impl Text {
    fn check(&self, check: &Check) {
        let line = format!("{}: {}", check.what, check.found);
        match check.ok {
            Some(true) => self.line(&format!("ok       {line}")),
            Some(false) => self.marked(Colour::Red, "missing ", &line),
            None => self.line(&format!("         {line}")),
        }
        for advice in check.advice.iter().flat_map(|text| text.lines()) {
            self.line(&format!("         {advice}"));
        }
    }
}

fn step_line(step: &Step) -> String {
    let action = match step.action {
        Action::Mkdir => "mkdir",
        Action::Create => "create",
        Action::Update => "update",
        Action::Move => "move",
        Action::Metadata => "metadata",
        Action::Remove => "remove",
        Action::Times => "times",
    };
    let mut line = format!("{:<5}  {action:<8}  ", step.side.name());
    match &step.change.from {
        // Writing to a string does not fail.
        Some(Origin::Move(from)) => _ = write!(line, "{from} -> {}", step.change.path),
        _ => _ = write!(line, "{}", step.change.path),
    }
    line
}

fn conflict_words(conflict: &Conflict) -> String {
    let why = match conflict.clash {
        Clash::Edited => "changed on both sides",
        Clash::Kind => "a directory on one side, something else on the other",
        Clash::Moved => "moved on both sides",
    };
    let mut words = format!("{}: {why}", conflict.path);
    match conflict.kept.as_slice() {
        [] => words.push_str("; held"),
        [_] => {
            let side = conflict.winner.map_or("one side", Side::name);
            _ = write!(words, "; {side} kept");
        }
        [_, others @ ..] => {
            words.push_str("; both kept, the other as ");
            for (at, path) in others.iter().enumerate() {
                _ = write!(words, "{}{path}", if at > 0 { ", " } else { "" });
            }
        }
    }
    words
}

/// One side's version of what is in conflict, so that two can be compared.
fn version_line(side: Side, host: &str, entry: &Entry) -> String {
    let mtime = entry.meta().and_then(|meta| meta.mtime);
    let size = entry
        .content()
        .map(|content| HumanBytes(content.size).to_string());
    format!(
        "  {:<5}  {}  {:>10}  {}  {host}",
        side.name(),
        mtime.map_or_else(|| "-".into(), time),
        size.unwrap_or_default(),
        entry.kind(),
    )
}

fn run_line(run: &RunInfo) -> String {
    let exit = match run.exit {
        None => "killed".to_string(),
        Some(Exit::Done) => "done".to_string(),
        Some(exit) => format!("exit {}", u8::from(exit)),
    };
    let did = format!("left: {}; right: {}", counts(&run.left), counts(&run.right));
    format!("{}  {}  {:<8} {exit:<8} {did}", run.run, time(run.time), run.what)
}

fn removed_line(removed: &Removed<'_>) -> String {
    let size = HumanBytes(removed.size).to_string();
    format!(
        "{:<5}  {}  {}  {size:>10}  {}",
        removed.side.name(),
        removed.run,
        time(removed.time),
        removed.path
    )
}

fn time(time: Time) -> String {
    let stamp = jiff::Timestamp::new(time.secs, i32::try_from(time.nanos).unwrap_or(0));
    stamp.map_or_else(
        |_| "-".into(),
        |stamp| {
            stamp
                .to_zoned(jiff::tz::TimeZone::system())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

fn counts(counts: &Counts) -> String {
    let parts: Vec<String> = [
        (counts.created, "created"),
        (counts.updated, "updated"),
        (counts.moved, "moved"),
        (counts.removed, "removed"),
        (counts.metadata, "attributes"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, word)| format!("{count} {word}"))
    .collect();
    if parts.is_empty() {
        "nothing".into()
    } else {
        parts.join(", ")
    }
}

fn summary(ending: &Ending) -> String {
    let report = &ending.report;
    let (left, right) = (counts(&report.left), counts(&report.right));
    let lead = if ending.dry_run { "would do: " } else { "" };
    let mut line = format!("{lead}left: {left}; right: {right}");
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    if report.conflicts > 0 {
        _ = write!(
            line,
            "; {} conflict{} (syncline conflicts)",
            report.conflicts,
            plural(report.conflicts)
        );
    }
    if report.problems > 0 {
        _ = write!(line, "; {} problem{}", report.problems, plural(report.problems));
    }
    let bytes = report.left.bytes + report.right.bytes;
    _ = write!(line, "; {} in {:.1} s", HumanBytes(bytes), report.seconds);
    if let Some(run) = &report.run {
        _ = write!(line, "; run {run}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Kept, conflict, ending, step};
    use super::*;
    use syncline_model::Kind;

    fn said(voice: Voice, act: impl FnOnce(&Text)) -> (String, String) {
        let (out, errors) = (Kept::default(), Kept::default());
        act(&Text::to(
            voice,
            false,
            Box::new(out.clone()),
            Box::new(errors.clone()),
        ));
        (out.text(), errors.text())
    }

    fn all(text: &Text) {
        text.event(Event::Phase("copying"));
        text.event(Event::Step(&step(Side::Right, Action::Create, b"a b", None)));
        text.event(Event::Step(&step(Side::Left, Action::Move, b"new", Some(b"old"))));
        text.event(Event::Step(&step(Side::Left, Action::Times, b"d", None)));
        text.event(Event::Conflict(&conflict(b"x")));
        text.event(Event::Note("owners stay"));
        text.ending(&ending(), false);
    }

    #[test]
    fn one_line_a_change_and_a_summary() {
        let (out, errors) = said(Voice::Normal, all);
        assert_eq!(
            out,
            "right  create    a b\nleft   move      old -> new\n\
             conflict x: changed on both sides; both kept, the other as x (conflict)\n\
             note     owners stay\n\
             left: 1 created; right: nothing; 1 conflict (syncline conflicts); 7 B in 0.5 s; run r1\n"
        );
        assert_eq!(errors, "");
    }

    #[test]
    fn quiet_says_nothing_but_errors() {
        let (out, errors) = said(Voice::Quiet, |text| {
            all(text);
            text.fault(&Fault::new(Kind::Offline, "no answer", "s3://b").hint("look at the network"));
        });
        assert_eq!(out, "");
        assert_eq!(errors, "syncline: s3://b: no answer\n  look at the network\n");
    }

    #[test]
    fn sx2_names_and_faults_move_no_cursor() {
        let (out, errors) = said(Voice::Normal, |text| {
            text.event(Event::Step(&step(
                Side::Left,
                Action::Create,
                "a\u{1b}[2J\u{202e}\n\u{9b}".as_bytes(),
                None,
            )));
            text.fault(&Fault::new(Kind::Denied, "no\u{1b}[2J", "x\n\u{202e}"));
        });
        assert_eq!((out.matches('\n').count(), errors.matches('\n').count()), (1, 1));
        assert!(
            !(out + &errors)
                .chars()
                .any(|c| super::super::is_risky(c) && c != '\n')
        );
    }

    #[test]
    fn colours_stand_around_words_of_ours_only() {
        let out = Kept::default();
        let text = Text::to(
            Voice::Normal,
            true,
            Box::new(out.clone()),
            Box::new(Kept::default()),
        );
        text.event(Event::Conflict(&conflict(b"\x1b[31m")));
        assert!(
            out.text().starts_with("\u{1b}[33mconflict\u{1b}[0m \\x1b[31m"),
            "{:?}",
            out.text()
        );
    }
}
