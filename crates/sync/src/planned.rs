//! Plans that are written, reviewed, and carried out later: exactly, or refused step by step.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use syncline_model::guard::Verdict;
use syncline_model::replica::Links;
use syncline_model::{Fault, Kind, Pair, RelPath, Result, Settle, Side, Slot, Time};

use crate::api::{Event, Monitor, Options, Report, Stop};
use crate::conflicts::{Looked, Met};
use crate::guarding::Answers;
use crate::plan::{Plan, Tally, phase_of, spare};
use crate::plan_file::{VERSION, bad_line, line, parse, part, path, text, to_part};
use crate::planning::{Planned, Planner, classes, scope};
use crate::rows::{decode, encode};
use crate::session::Session;
use crate::session::carried::Work;
use crate::session::told::{Preview, tell, texts};
use crate::shelf::Sort;
use crate::showing::Ground;
use crate::terms::Terms;
use crate::trust::Trust;

/// What a plan file says after its header.
struct Read {
    rows: Box<dyn Sort>,
    parts: HashMap<Slot, Settle>,
    unmoved: Vec<RelPath>,
    conflicts: Met,
    tally: Pair<Tally>,
    any: bool,
}

/// What its header says.
#[derive(Deserialize)]
struct Header {
    identities: Answers,
    /// Who was remembered when the plan was made: raised by every run that agrees on something.
    known: Answers,
    /// Files seen on each side: what a brake judges by.
    files: Pair<u64>,
    /// When each side was looked at, by its own clock.
    began: Pair<Option<Time>>,
    options: Terms,
}

impl Session {
    /// Plans and writes the plan to `out`; does nothing else.
    pub async fn write_plan(
        &self,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
        out: &mut (dyn Write + Send),
    ) -> Result<Report> {
        self.limited(options, self.write_within(options, monitor, stop, out))
            .await
    }

    async fn write_within(
        &self,
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
        out: &mut (dyn Write + Send),
    ) -> Result<Report> {
        let begun = self.begin()?;
        let terms = Terms::of(options);
        let options = &self.writable(options, monitor);
        let known = self.base.remembered()?.identity;
        let before = self.answers(&known).await?;
        let strangers = self.strangers(&known, &before, options)?;
        if !strangers.is_empty() {
            return Ok(self.refused(&begun, strangers));
        }
        self.recover(true, monitor).await?;
        let base = self.base_for(options);
        let planner = Planner {
            env: &self.env,
            sides: &self.sides,
            base: &base,
            shelf: &*self.shelf,
            options,
            monitor,
            stop,
        };
        let planned = planner.plan().await?;
        if stop.soft() {
            return Err(Fault::new(
                Kind::Cancelled,
                "stopped while planning: no plan was written",
                "",
            ));
        }
        let verdict = self.verdict(&before, &planned, options).await?;
        if let Verdict::Refuse(reasons) = verdict {
            return Ok(self.refused(&begun, reasons));
        }
        tell(&planned.draft, monitor)?;
        put(
            out,
            &self.header(
                &self.base.remembered()?.identity,
                &before,
                &planned,
                &verdict,
                &terms,
            ),
        )?;
        let Work {
            plan,
            conflicts,
            problems,
            ..
        } = Work::of(planned.draft, planned.trust, &self.base)?;
        for conflict in conflicts.rows() {
            let conflict = conflict?;
            let path = conflict.path.to_string();
            put(
                out,
                &json!({"event": "conflict", "path": path, "exact": STANDARD.encode(encode(&conflict)?)}),
            )?;
        }
        for path in &plan.broken {
            put(out, &json!({"event": "unmoved", "path": text(path.as_bytes())}))?;
        }
        for settle in plan.parts.values() {
            put(out, &part(settle))?;
        }
        let mut preview = Preview::of(&verdict, options, monitor, &plan);
        for row in plan.into_rows() {
            let (key, item) = row?;
            let waits = preview.waits(phase_of(&key), &item);
            put(out, &line(&key, &item, waits))?;
        }
        out.flush().map_err(|error| unwritten(&error))?;
        let conflicts = self.base.would_wait(&conflicts, &Looked::at(&options.only))?;
        Ok(self.would_do(&begun, preview, conflicts, problems, &verdict))
    }

    fn header(
        &self,
        known: &Answers,
        found: &Answers,
        planned: &Planned<'_>,
        verdict: &Verdict,
        terms: &Terms,
    ) -> Value {
        let label = |side: Side| &self.sides[side].profile().label;
        json!({
            "event": "plan", "version": VERSION, "left": label(Side::Left), "right": label(Side::Right),
            "identities": found, "known": known, "files": Pair::each(|side| planned.seen[side].leaves), "began": planned.trust.began,
            "reasons": texts(verdict), "options": terms,
        })
    }

    /// Carries out a plan file: nothing if either place is not the one that it was made for, and each step only where what it expects
    /// still stands. Of `options` only the limits count: copies at once, times, how much may go, and whether anything is to be done; all
    /// else is as the plan says.
    pub async fn apply(
        &self,
        plan: &mut (dyn BufRead + Send),
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        self.limited(options, self.apply_within(plan, options, monitor, stop))
            .await
    }

    async fn apply_within(
        &self,
        plan: &mut (dyn BufRead + Send),
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        let begun = self.begin()?;
        let mut lines = numbered(plan);
        let first = lines.next().transpose()?.ok_or_else(|| bad_line(1))?.1;
        let header = header_of(first)?;
        let options = &self.writable(&header.options.within(options)?, monitor);
        let before = self.answers(&header.identities).await?;
        // A root that was accepted when the plan was made is the one that it was made for.
        let no_other = Options {
            accept: None,
            ..options.clone()
        };
        let mut strangers = self.strangers(&header.identities, &before, &no_other)?;
        if !strangers.is_empty() {
            for reason in &mut strangers {
                reason.text += ", and write a new plan: this one was made for the roots as they were";
            }
            return Ok(self.refused(&begun, strangers));
        }
        self.recover(options.dry_run, monitor).await?;
        self.view(options).await?;
        let overtaken = self.base.remembered()?.identity != header.known;
        let read = self.read_plan(lines, overtaken)?;
        let verdict = self.brakes_of(&header.files, &read.tally, options);
        let work = Work {
            plan: Plan::of(read.rows.finish()?, read.parts, read.unmoved),
            conflicts: read.conflicts,
            problems: 0,
            tally: read.tally,
            shifted: read.any,
            trust: Trust { began: header.began },
        };
        for conflict in work.conflicts.rows() {
            monitor.event(Event::Conflict(&conflict?));
        }
        if options.dry_run {
            let ground = Some(Ground::default());
            let looked = Looked::at(&options.only);
            let conflicts = self.base.would_wait(&work.conflicts, &looked)?;
            return self
                .show(&begun, work, conflicts, &verdict, options, monitor, ground)
                .await;
        }
        if options.accept.is_some() {
            self.base.drop_rows()?;
        }
        self.carry_out("apply", &begun, work, &verdict, &before, options, monitor, stop)
            .await
    }

    /// Lets both sides take symlinks as they were taken when the plan was made: they learn it when they are looked at.
    async fn view(&self, options: &Options) -> Result<()> {
        if options.links == Links::Keep {
            return Ok(());
        }
        let scope = scope(options, classes(options, &self.sides));
        for side in Side::BOTH {
            drop(self.sides[side].scan(&scope).await?);
        }
        Ok(())
    }

    /// With `overtaken`, later runs have agreed on something: what the plan would only note may be older than that, and the next run finds it
    /// again.
    fn read_plan(
        &self,
        lines: impl Iterator<Item = Result<(usize, Value)>>,
        overtaken: bool,
    ) -> Result<Read> {
        let mut read = Read {
            rows: self.shelf.sorter()?,
            parts: HashMap::new(),
            unmoved: Vec::new(),
            conflicts: Met::new(&self.base),
            tally: Pair::default(),
            any: false,
        };
        for line in lines {
            let (number, value) = line?;
            match value["event"].as_str() {
                Some("step" | "row") => {
                    let (key, item) = parse(&value).ok_or_else(|| bad_line(number))?;
                    match &item.step {
                        Some(step) => read.tally[step.side].add(step),
                        None if overtaken && item.member.is_none() => continue,
                        None => (),
                    }
                    read.any = true;
                    read.rows.push(&key, &encode(&item)?)?;
                }
                Some("part") => {
                    let settle = to_part(&value).ok_or_else(|| bad_line(number))?;
                    read.parts.insert(settle.slot.clone(), settle);
                }
                Some("unmoved") => {
                    let path = path(&value["path"]).ok_or_else(|| bad_line(number))?;
                    read.unmoved.push(path);
                }
                Some("conflict") => {
                    let exact = value["exact"]
                        .as_str()
                        .and_then(|text| STANDARD.decode(text).ok());
                    let conflict = decode(&exact.ok_or_else(|| bad_line(number))?)?;
                    spare(&mut read.tally, &conflict);
                    read.conflicts.add(&conflict)?;
                }
                _ => return Err(bad_line(number)),
            }
        }
        Ok(read)
    }
}

fn header_of(line: Value) -> Result<Header> {
    if line["event"] != "plan" || line["version"] != VERSION {
        return Err(Fault::new(
            Kind::Invalid,
            format!(
                "this is no plan file of version {VERSION}, the one that this program knows; nothing was done"
            ),
            "",
        )
        .hint("write one with --plan FILE"));
    }
    serde_json::from_value(line).map_err(|_| bad_line(1))
}

fn put(out: &mut (dyn Write + Send), value: &Value) -> Result<()> {
    writeln!(out, "{value}").map_err(|error| unwritten(&error))
}

fn unwritten(error: &std::io::Error) -> Fault {
    Fault::new(
        Kind::Full,
        format!("the plan file cannot be written: {error}"),
        "",
    )
}

/// The lines of a plan file with their numbers, empty ones left out.
fn numbered(plan: &mut (dyn BufRead + Send)) -> impl Iterator<Item = Result<(usize, Value)>> + Send {
    plan.lines().enumerate().filter_map(|(at, line)| match line {
        Ok(text) if text.trim().is_empty() => None,
        Ok(text) => Some(
            serde_json::from_str(&text)
                .map(|value| (at + 1, value))
                .map_err(|_| bad_line(at + 1)),
        ),
        Err(error) => Some(Err(Fault::new(
            Kind::Invalid,
            format!("the plan file cannot be read: {error}"),
            "",
        ))),
    })
}
