//! `--timeline FILE`: what was done and how many microseconds it took, both sides on one clock, as Chrome trace events.

use crate::error::{Context, Error, Result};
use crate::plan::{Side, Step};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A list of paths or limits can be of any length.
const MOST_LETTERS: usize = 500;

/// A message holds 65536 bytes, a letter is at most 4 and, escaped, 6.
const EVENTS_PER_MESSAGE: usize = 16;

/// The events of one side; costs nothing unless it is wanted.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    events: Option<Vec<Event>>,
    side: u32,
}

/// What was done.
#[derive(Debug, Clone, Deserialize)]
struct Event {
    name: String,
    /// Microseconds, as is `dur`.
    ts: f64,
    dur: f64,
    #[serde(rename = "tid")]
    side: u32,
}

/// The same as a complete event of the trace format.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    cat: &'static str,
    ph: &'static str,
    ts: f64,
    dur: f64,
    pid: u32,
    tid: u32,
}

impl<'a> From<&'a Event> for Line<'a> {
    fn from(event: &'a Event) -> Self {
        let cat = if event.side == 1 { "runtime" } else { "init" };
        Line { name: &event.name, cat, ph: "X", ts: event.ts, dur: event.dur, pid: 1, tid: event.side }
    }
}

#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    trace_events: Vec<Line<'a>>,
    display_time_unit: &'static str,
}

impl Timeline {
    pub(crate) fn new(wanted: bool, side: Side) -> Self {
        Timeline { events: wanted.then(Vec::new), side: if side == Side::Runtime { 1 } else { 2 } }
    }

    /// When a step begins, if anybody wants to know.
    pub(crate) fn begin(&self) -> Option<f64> {
        self.events.as_ref().map(|_| now())
    }

    /// The step is done.
    pub(crate) fn end(&mut self, begun: Option<f64>, step: &Step) {
        self.end_named(begun, || step.description().operation);
    }

    /// The same for what is not a step of the plan.
    pub(crate) fn end_named(&mut self, begun: Option<f64>, name: impl FnOnce() -> String) {
        let (Some(events), Some(ts)) = (&mut self.events, begun) else { return };
        let dur = now() - ts;
        let name = name().chars().take(MOST_LETTERS).collect();
        events.push(Event { name, ts, dur, side: self.side });
    }

    /// What was recorded so far, for the way from init to the runtime, in pieces that fit into a message.
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        let events = self.events.as_mut().map(std::mem::take).unwrap_or_default();
        let message = |piece: &[Event]| {
            let short: Vec<_> = piece.iter().map(|event| (&event.name, event.ts, event.dur)).collect();
            serde_json::to_vec(&short).ok()
        };
        events.chunks(EVENTS_PER_MESSAGE).filter_map(message).collect()
    }

    /// Adds what the other side recorded.
    pub(crate) fn merge(&mut self, json: &[u8]) {
        let other = serde_json::from_slice::<Vec<(String, f64, f64)>>(json);
        if let (Some(events), Ok(other)) = (&mut self.events, other) {
            events.extend(other.into_iter().map(|(name, ts, dur)| Event { name, ts, dur, side: 2 }));
        }
    }

    /// Adds what an earlier command wrote about the same container; nothing where there is no such file.
    pub(crate) fn merge_file(&mut self, file: &Path) -> Result<()> {
        let bytes = match std::fs::read(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            read => read.context(|| format!("read {}", file.display()))?,
        };
        let trace: Trace = serde_json::from_slice(&bytes)
            .map_err(|error| Error::invalid(format!("{}: not a timeline: {error}", file.display())))?;
        if let Some(events) = &mut self.events {
            events.extend(trace.events);
        }
        Ok(())
    }

    /// Writes the trace, in the order of time.
    pub(crate) fn write(&mut self, file: &Path) -> Result<()> {
        let Some(events) = &mut self.events else { return Ok(()) };
        events.sort_by(|a, b| a.ts.total_cmp(&b.ts));
        let trace =
            Document { trace_events: events.iter().map(Line::from).collect(), display_time_unit: "ns" };
        let json = serde_json::to_vec(&trace).map_err(|error| Error::invalid(error.to_string()))?;
        std::fs::write(file, json).context(|| format!("write {}", file.display()))
    }
}

/// The clock is the same in both processes.
fn now() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
