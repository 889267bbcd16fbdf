//! `--timeline FILE`: what was done and how many microseconds it took, both sides on one clock, as Chrome trace events.
//!
//! While a container is made only numbers are taken down: which step, when, how long. The runtime puts the plan's steps
//! into words while it waits for init anyway; once the program is at work, only numbers are left to be written.

use crate::error::{Context, Error, Result};
use crate::plan::{Plan, Side};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// A list of paths or limits can be of any length.
const MOST_LETTERS: usize = 500;

/// Bytes of line breaks at the end.
const MOST_PADDING: usize = 4096;

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
    /// The steps of the runtime and of init in words, each a JSON string.
    names: [Vec<String>; 2],
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

#[derive(Deserialize)]
struct Trace {
    #[serde(rename = "traceEvents")]
    events: Vec<Event>,
}

/// A complete event of the trace format.
struct Line<'a> {
    /// As JSON.
    name: Cow<'a, str>,
    /// Nanoseconds, as is `took`.
    begun: u64,
    took: u64,
    init: bool,
}

impl Line<'_> {
    fn of(event: &Event) -> Self {
        let nanoseconds = |microseconds: f64| (microseconds * 1e3).round().max(0.0) as u64;
        Line {
            name: quoted(&event.name).into(),
            begun: nanoseconds(event.ts),
            took: nanoseconds(event.dur),
            init: event.side != 1,
        }
    }

    fn write(&self, text: &mut String) {
        let Line { name, begun, took, init } = self;
        let (side, number) = if *init { ("init", 2) } else { ("runtime", 1) };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{{\"name\":{name},\"cat\":\"{side}\",\"ph\":\"X\",\"ts\":{}.{:03},\"dur\":{}.{:03},\"pid\":1,\"tid\":{number}}}",
            begun / 1000,
            begun % 1000,
            took / 1000,
            took % 1000,
        );
    }
}

impl Timeline {
    pub(crate) fn new(wanted: bool, side: Side) -> Self {
        let marks = wanted.then(|| Vec::with_capacity(128));
        Timeline { marks, init: side == Side::Init, ..Timeline::default() }
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

    /// Puts the plan's steps into words, when there is time for it.
    pub(crate) fn name_steps(&mut self, plan: &Plan) {
        if self.marks.is_some() {
            let names = |side| plan.side(side).map(|step| quoted(&step.description().operation)).collect();
            self.names = [names(Side::Runtime), names(Side::Init)];
        }
    }

    /// Writes the trace, in the order of time.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let Some(marks) = &self.marks else { return Ok(()) };
        let mut lines: Vec<Line<'_>> = self.earlier.iter().map(Line::of).collect();
        lines.extend(marks.iter().filter_map(|mark| mark.line(&self.names)));
        lines.sort_by_key(|line| line.begun);
        let letters: usize = lines.iter().map(|line| line.name.len() + 110).sum();
        let mut text = String::with_capacity(letters + 64);
        text.push_str("{\"traceEvents\":[");
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                text.push(',');
            }
            line.write(&mut text);
        }
        text.push_str("],\"displayTimeUnit\":\"ns\"}");
        overwrite(file, text.into_bytes()).context(|| format!("write {}", file.display()))
    }
}

/// A JSON string of not too many letters.
fn quoted(text: &str) -> String {
    let cut = text.char_indices().nth(MOST_LETTERS).map_or(text, |(end, _)| text.get(..end).unwrap_or(text));
    serde_json::Value::from(cut).to_string()
}

/// Some file systems write a file out at once that was emptied before, and cutting it takes as long as writing it: what
/// is a little shorter than what was there is filled up with line breaks.
fn overwrite(path: &Path, mut bytes: Vec<u8>) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
    let found = file.metadata()?;
    let before = if found.is_file() { usize::try_from(found.len()).unwrap_or(usize::MAX) } else { 0 };
    let longer = before.saturating_sub(bytes.len());
    if longer <= MOST_PADDING {
        bytes.resize(bytes.len().max(before), b'\n');
    }
    file.write_all(&bytes)?;
    if longer > MOST_PADDING { file.set_len(bytes.len() as u64) } else { Ok(()) }
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
    fn line<'a>(&self, [runtime, init]: &'a [Vec<String>; 2]) -> Option<Line<'a>> {
        let own = if self.init { init } else { runtime };
        let step = || own.get(usize::from(self.what)).map(|name| Cow::Borrowed(name.as_str()));
        let name = Moment::name(self.what).map(|name| quoted(name).into()).or_else(step)?;
        Some(Line { name, begun: self.begun, took: self.took, init: self.init })
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
        let long = "x".repeat(2 * MOST_PADDING);
        for (text, padding) in
            [("a long text", 0), ("short", 6), ("longer again", 0), (&long, 0), ("short", 0)]
        {
            overwrite(file.path(), text.into()).unwrap();
            let expected = format!("{text}{}", "\n".repeat(padding));
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), expected);
        }
        overwrite(Path::new("/dev/null"), b"no file".into()).unwrap();
    }

    #[test]
    fn what_is_written_can_be_read_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut timeline = Timeline::new(true, Side::Runtime);
        timeline.names = [vec![quoted("a \"step\"\n"), quoted(&"é".repeat(1000))], vec![quoted("init's")]];
        for (init, what, begun) in [(false, 1, 3_000_000), (false, 0, 1_234_567), (true, 0, 2_000_001)] {
            timeline.marks.as_mut().unwrap().push(Mark { init, what, begun, took: 1050 });
        }
        timeline.write(file.path()).unwrap();
        let first = std::fs::read(file.path()).unwrap();
        let mut again = Timeline::new(true, Side::Runtime);
        again.merge_file(file.path()).unwrap();
        again.write(file.path()).unwrap();
        assert_eq!(std::fs::read(file.path()).unwrap(), first);
        let trace: serde_json::Value = serde_json::from_slice(&first).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let seen = |field: &str| events.iter().map(|event| event[field].clone()).collect::<Vec<_>>();
        assert_eq!(seen("name"), ["a \"step\"\n".into(), "init's".into(), "é".repeat(500)]);
        assert_eq!(
            (seen("ts"), seen("tid")),
            (vec![1234.567.into(), 2000.001.into(), 3000.0.into()], vec![1.into(), 2.into(), 1.into()])
        );
        assert_eq!((&events[0]["dur"], &events[1]["cat"]), (&1.05.into(), &"init".into()));
    }

    #[test]
    fn nothing_is_taken_down_unless_wanted() {
        let mut timeline = Timeline::new(false, Side::Init);
        timeline.end_moment(timeline.begin(), Moment::Start);
        timeline.merge(&[0; MARK]);
        assert_eq!((timeline.marks.is_none(), timeline.take().len()), (true, 0));
    }
}
