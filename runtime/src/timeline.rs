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

/// A complete event of the trace format.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Event {
    name: String,
    cat: String,
    ph: String,
    /// Microseconds, as is `dur`.
    ts: f64,
    dur: f64,
    pid: u32,
    tid: u32,
}

#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
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
        let cat = if self.side == 1 { "runtime" } else { "init" };
        let dur = now() - ts;
        let name = name().chars().take(MOST_LETTERS).collect();
        events.push(Event { name, cat: cat.into(), ph: "X".into(), ts, dur, pid: 1, tid: self.side });
    }

    /// What was recorded so far, for the way from init to the runtime, in pieces that fit into a message.
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        let events = self.events.as_mut().map(std::mem::take).unwrap_or_default();
        events.chunks(EVENTS_PER_MESSAGE).filter_map(|piece| serde_json::to_vec(piece).ok()).collect()
    }

    /// Adds what the other side recorded.
    pub(crate) fn merge(&mut self, json: &[u8]) {
        if let (Some(events), Ok(other)) = (&mut self.events, serde_json::from_slice::<Vec<Event>>(json)) {
            events.extend(other);
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
        let trace = serde_json::json!({"traceEvents": events, "displayTimeUnit": "ns"});
        std::fs::write(file, trace.to_string()).context(|| format!("write {}", file.display()))
    }
}

/// The clock is the same in both processes.
fn now() -> f64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}
