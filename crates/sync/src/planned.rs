//! Plans that are written, reviewed, and carried out later: exactly, or refused step by step.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use syncline_model::guard::Verdict;
use syncline_model::{Fault, Kind, Pair, Result, Settle, Side, Slot};

use crate::api::{Event, Monitor, Options, Report, Stop};
use crate::conflicts::Met;
use crate::guarding::Answers;
use crate::plan::Plan;
use crate::plan_file::{VERSION, bad_line, line, parse, part, to_part};
use crate::planning::Planner;
use crate::rows::{decode, encode};
use crate::session::Session;
use crate::shelf::Sort;
use crate::trust::Trust;

/// What a plan file says.
struct Read {
    rows: Box<dyn Sort>,
    parts: HashMap<Slot, Settle>,
    conflicts: Met,
    writes: Pair<bool>,
}

impl Session {
    /// Plans and writes the plan to `out`; does nothing else.
    pub async fn write_plan(
        &self,
        options: &Options,
        monitor: &dyn Monitor,
        out: &mut (dyn Write + Send),
    ) -> Result<Report> {
        let begun = self.begin()?;
        let known = self.base.remembered()?.identity;
        let before = self.answers(&known).await?;
        let strangers = self.strangers(&known, &before, options)?;
        if !strangers.is_empty() {
            return Ok(self.refused(&begun, strangers));
        }
        self.recover().await?;
        let (env, sides, base, shelf) = (&self.env, &self.sides, &self.base, &*self.shelf);
        let stop = Stop::default();
        let planner = Planner {
            env,
            sides,
            base,
            shelf,
            options,
            monitor,
            stop: &stop,
        };
        let planned = planner.plan().await?;
        let verdict = self.verdict(&before, &planned, options).await?;
        if let Verdict::Refuse(reasons) = verdict {
            return Ok(self.refused(&begun, reasons));
        }
        self.tell_plan(&planned.draft, monitor)?;
        let report = self.would_do(&begun, &planned.draft, &verdict);
        put(out, &self.header(&before, options))?;
        for conflict in planned.draft.conflicts.rows() {
            let conflict = conflict?;
            let path = conflict.path.to_string();
            put(
                out,
                &json!({"event": "conflict", "path": path, "exact": STANDARD.encode(encode(&conflict)?)}),
            )?;
        }
        let plan = planned.draft.finish()?;
        for settle in plan.parts.values() {
            put(out, &part(settle))?;
        }
        for row in plan.into_rows() {
            let (key, item) = row?;
            if let Some(step) = &item.step {
                monitor.event(Event::Step(step));
            }
            put(out, &line(&key, &item))?;
        }
        out.flush().map_err(|error| unwritten(&error))?;
        Ok(report)
    }

    fn header(&self, found: &Answers, options: &Options) -> Value {
        let label = |side: Side| &self.sides[side].profile().label;
        json!({
            "event": "plan", "version": VERSION, "left": label(Side::Left), "right": label(Side::Right),
            "identities": found, "base": self.shelf.runs().map_or(0, |runs| runs.len()),
            "options": {"mode": options.mode, "conflict": options.policy, "trash": options.trash},
        })
    }

    /// Carries out a plan file: nothing if either place is not the one that it was made for, and each step only where what it expects
    /// still stands.
    pub async fn apply(
        &self,
        plan: &mut (dyn BufRead + Send),
        options: &Options,
        monitor: &dyn Monitor,
        stop: &Stop,
    ) -> Result<Report> {
        let begun = self.begin()?;
        let mut lines = numbered(plan);
        let header = lines.next().transpose()?.ok_or_else(|| bad_line(1))?.1;
        let wanted = self.check_header(&header)?;
        let before = self.answers(&wanted).await?;
        let strangers = self.strangers(&wanted, &before, options)?;
        if !strangers.is_empty() {
            return Ok(self.refused(&begun, strangers));
        }
        self.recover().await?;
        let read = self.read_plan(lines)?;
        self.raise(&before, &read.writes, options, monitor).await?;
        let trust = Trust {
            began: Pair::new(self.sides.left.clock().await?, self.sides.right.clock().await?),
        };
        let execution = self
            .execution("apply", &begun, &Verdict::Go, trust, options, monitor, stop)
            .await?;
        let report = self
            .perform(&begun, execution, Plan::of(read.rows.finish()?, read.parts))
            .await?;
        self.wind_up(
            &begun,
            report,
            &read.conflicts,
            0,
            &Verdict::Go,
            true,
            options,
            monitor,
        )
        .await
    }

    fn check_header(&self, header: &Value) -> Result<Answers> {
        if header["event"] != "plan" || header["version"] != VERSION {
            return Err(Fault::new(
                Kind::Invalid,
                "this is no plan file of a version that this program knows",
                "",
            )
            .hint("write one with --plan FILE"));
        }
        serde_json::from_value(header["identities"].clone()).map_err(|_| bad_line(1))
    }

    fn read_plan(&self, lines: impl Iterator<Item = Result<(usize, Value)>>) -> Result<Read> {
        let mut read = Read {
            rows: self.shelf.sorter()?,
            parts: HashMap::new(),
            conflicts: Met::new(&self.base),
            writes: Pair::default(),
        };
        for line in lines {
            let (number, value) = line?;
            match value["event"].as_str() {
                Some("step" | "row") => {
                    let (key, item) = parse(&value).ok_or_else(|| bad_line(number))?;
                    if let Some(step) = &item.step {
                        read.writes[step.side] = true;
                    }
                    read.rows.push(&key, &encode(&item)?)?;
                }
                Some("part") => {
                    let settle = to_part(&value).ok_or_else(|| bad_line(number))?;
                    read.parts.insert(settle.slot.clone(), settle);
                }
                Some("conflict") => {
                    let exact = value["exact"]
                        .as_str()
                        .and_then(|text| STANDARD.decode(text).ok());
                    read.conflicts
                        .add(&decode(&exact.ok_or_else(|| bad_line(number))?)?)?;
                }
                _ => return Err(bad_line(number)),
            }
        }
        Ok(read)
    }
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
