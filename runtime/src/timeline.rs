//! `--timeline FILE`: what was done and how many microseconds it took, both sides on one clock, as Chrome trace events.
//!
//! While a container is made only numbers are taken down: which step, when, how long. Their names are looked up in the
//! plan when the program is at work already.

use crate::error::{Context, Error, Result};
use crate::plan::{Plan, Side, Step};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// A list of paths or limits can be of any length.
const MOST_LETTERS: usize = 500;

/// A message holds 65536 bytes.
const MARKS_PER_MESSAGE: usize = 3000;

/// Bytes of one mark in a message.
const MARK: usize = 18;

/// What one side has done; costs nothing unless it is wanted.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    marks: Option<Vec<Mark>>,
    init: bool,
    /// What an earlier command wrote.
    earlier: Vec<Event>,
}

/// What was done and when, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    init: bool,
    /// The number of a step among those of its side, or one of the moments.
    what: u16,
    begun: u64,
    took: u64,
}

/// What is no step of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Of `run` and `exec`.
    AwaitProgram = 0xffff,
    /// Of `start`.
    Start = 0xfffe,
}

impl Moment {
    fn name(what: u16) -> Option<&'static str> {
        [
            (Moment::AwaitProgram, "await the program: its execve closes the channel"),
            (Moment::Start, "write(<exec.fifo>, \"0\"), hooks poststart"),
        ]
        .iter()
        .find(|(moment, _)| *moment as u16 == what)
        .map(|(_, name)| *name)
    }
}

/// An event as it was written.
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
        let marks = wanted.then(|| Vec::with_capacity(128));
        Timeline { marks, init: side == Side::Init, earlier: vec![] }
    }

    /// When something begins, if anybody wants to know.
    pub(crate) fn begin(&self) -> Option<u64> {
        self.marks.as_ref().map(|_| now())
    }

    /// The step with this number on our side is done.
    pub(crate) fn end(&mut self, begun: Option<u64>, step: usize) {
        self.mark(begun, u16::try_from(step).unwrap_or(u16::MAX));
    }

    /// The same for what is no step.
    pub(crate) fn end_moment(&mut self, begun: Option<u64>, moment: Moment) {
        self.mark(begun, moment as u16);
    }

    fn mark(&mut self, begun: Option<u64>, what: u16) {
        let (Some(marks), Some(begun)) = (&mut self.marks, begun) else { return };
        marks.push(Mark { init: self.init, what, begun, took: now().saturating_sub(begun) });
    }

    /// What was taken down so far, for the way from init to the runtime, in pieces that fit into a message.
    pub(crate) fn take(&mut self) -> Vec<Vec<u8>> {
        let marks = self.marks.as_mut().map(std::mem::take).unwrap_or_default();
        marks.chunks(MARKS_PER_MESSAGE).map(|piece| piece.iter().flat_map(Mark::bytes).collect()).collect()
    }

    /// Adds what init took down.
    pub(crate) fn merge(&mut self, bytes: &[u8]) {
        if let Some(marks) = &mut self.marks {
            marks.extend(bytes.chunks_exact(MARK).filter_map(Mark::of_init));
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
        self.earlier.extend(trace.events);
        Ok(())
    }

    /// Writes the trace, in the order of time. The plan has the names of the steps.
    pub(crate) fn write(&self, file: &Path, plan: Option<&Plan>) -> Result<()> {
        let Some(marks) = &self.marks else { return Ok(()) };
        let side = |side| plan.into_iter().flat_map(|plan| plan.side(side)).collect();
        let steps: [Vec<&Step>; 2] = [side(Side::Runtime), side(Side::Init)];
        let mut events = self.earlier.clone();
        events.extend(marks.iter().filter_map(|mark| mark.event(&steps)));
        events.sort_by(|a, b| a.ts.total_cmp(&b.ts));
        let trace =
            Document { trace_events: events.iter().map(Line::from).collect(), display_time_unit: "ns" };
        let json = serde_json::to_vec(&trace).map_err(|error| Error::invalid(error.to_string()))?;
        overwrite(file, &json).context(|| format!("write {}", file.display()))
    }
}

/// Cut only afterwards, and only if it was longer: some file systems write a file out at once that was emptied before.
fn overwrite(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
    file.write_all(bytes)?;
    let (found, length) = (file.metadata()?, bytes.len() as u64);
    if found.is_file() && found.len() > length { file.set_len(length) } else { Ok(()) }
}

impl Mark {
    fn bytes(&self) -> impl Iterator<Item = u8> {
        let what = self.what.to_ne_bytes().into_iter();
        what.chain(self.begun.to_ne_bytes()).chain(self.took.to_ne_bytes())
    }

    fn of_init(bytes: &[u8]) -> Option<Mark> {
        let (what, rest) = bytes.split_first_chunk()?;
        let (begun, rest) = rest.split_first_chunk()?;
        let (took, _) = rest.split_first_chunk()?;
        Some(Mark {
            init: true,
            what: u16::from_ne_bytes(*what),
            begun: u64::from_ne_bytes(*begun),
            took: u64::from_ne_bytes(*took),
        })
    }

    /// With its name, by the steps of both sides.
    fn event(&self, steps: &[Vec<&Step>; 2]) -> Option<Event> {
        let [runtime, init] = steps;
        let own = if self.init { init } else { runtime };
        let step = || own.get(usize::from(self.what)).map(|step| step.description().operation);
        let name = Moment::name(self.what).map(String::from).or_else(step)?;
        Some(Event {
            name: if name.len() > MOST_LETTERS { name.chars().take(MOST_LETTERS).collect() } else { name },
            ts: self.begun as f64 / 1e3,
            dur: self.took as f64 / 1e3,
            side: if self.init { 2 } else { 1 },
        })
    }
}

/// The clock is the same in both processes.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_survive_the_way_from_init() {
        let mut init = Timeline::new(true, Side::Init);
        for step in 0..3001 {
            init.end(init.begin(), step);
        }
        let marks = init.marks.clone().unwrap();
        let mut runtime = Timeline::new(true, Side::Runtime);
        let messages = init.take();
        assert_eq!(messages.len(), 2);
        messages.iter().for_each(|message| runtime.merge(message));
        assert_eq!(runtime.marks.unwrap(), marks);
        assert_eq!(init.take(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn an_old_file_is_replaced_whole() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for text in ["a long text", "short", "longer again"] {
            overwrite(file.path(), text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
        }
        overwrite(Path::new("/dev/null"), b"no file").unwrap();
    }

    #[test]
    fn nothing_is_taken_down_unless_wanted() {
        let mut timeline = Timeline::new(false, Side::Init);
        timeline.end_moment(timeline.begin(), Moment::Start);
        timeline.merge(&[0; MARK]);
        assert_eq!((timeline.marks.is_none(), timeline.take().len()), (true, 0));
    }
}
