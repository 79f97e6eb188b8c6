//! Markers: raised before the first change, so that one is never ahead of what is remembered by more than its own step.

use syncline_model::{Identity, Kind, Marker, Pair, Result, Side};

use super::Session;
use crate::api::{Event, Monitor, Options};
use crate::guarding::Answers;
use crate::rows::Remembered;

impl Session {
    /// Raises the markers where the base will move on, and remembers who answered.
    pub(crate) async fn raise(
        &self,
        before: &Answers,
        writes: &Pair<bool>,
        options: &Options,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let mut now = before.clone();
        for side in Side::BOTH {
            let Some(identity) = &mut now[side] else { continue };
            let readable = identity.marker.as_ref().is_some_and(Marker::is_readable);
            let wanted = !readable || writes[side];
            if wanted && !self.sides[side].profile().read_only {
                identity.marker = self.mark(side, identity.marker.take(), monitor).await?;
            }
        }
        self.remember(now, options)
    }

    /// Raises the generation of a side's marker before the first change there.
    pub(super) async fn mark(
        &self,
        side: Side,
        had: Option<Marker>,
        monitor: &dyn Monitor,
    ) -> Result<Option<Marker>> {
        let marker = match &had {
            Some(marker) if marker.is_readable() => Marker {
                id: marker.id.clone(),
                generation: marker.generation + 1,
            },
            _ => {
                let id = format!("{:016x}{:016x}", self.env.dice.roll(), self.env.dice.roll());
                Marker { id, generation: 1 }
            }
        };
        match self.sides[side].mark(&marker).await {
            Err(fault) if matches!(fault.kind, Kind::Denied | Kind::Unsupported) => {
                monitor.event(Event::Note(&format!(
                    "{}: no marker can be written there, so a restored copy of it could not be recognised",
                    self.sides[side].profile().label
                )));
                Ok(had)
            }
            // Who deletes makes room: a full disk must not keep him from it.
            Err(fault) if fault.is(Kind::Full) && had.is_some() => {
                monitor.event(Event::Note(&format!(
                    "{} is full: the marker there stays as it was, so a copy of it from before this run could not be recognised",
                    self.sides[side].profile().label
                )));
                Ok(had)
            }
            marked => marked.map(|()| Some(marker)),
        }
    }

    /// Who answers now is who must answer next time: remembered before the first change, so that a marker that was
    /// raised is never ahead of what a killed run remembers by more than its own step.
    pub(super) fn remember(&self, now: Pair<Option<Identity>>, options: &Options) -> Result<()> {
        let known = self.base.remembered()?;
        let told = Remembered {
            identity: now,
            skip_deletes: options.skip_deletes,
        };
        if told == known {
            Ok(())
        } else {
            self.base.remember(&told)
        }
    }
}
