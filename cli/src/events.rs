//! `knarr events`: what happens to containers, images and volumes, as `docker events` tells it, and what has happened.

mod event;
mod filter;
mod journal;

pub(crate) use event::{Event, Kind};
pub(crate) use journal::Journal;

use crate::args::Events;
use crate::moment::moment;
use crate::settings::Settings;
use crate::template::Template;
use anyhow::Context;
use filter::Filters;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::Write;
use std::os::fd::OwnedFd;

/// Tells past events where a time is given, and those to come, until the end that is given.
pub(crate) async fn run(settings: Settings, arguments: Events) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let time = |flag: &str, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => moment(text, now).with_context(|| format!("--{flag} {text}")).map(Some),
    };
    let teller = Teller {
        since: time("since", &arguments.since)?,
        until: time("until", &arguments.until)?,
        filters: Filters::parse(&arguments.filter)?,
        format: Format::parse(arguments.format.as_deref())?,
    };
    let journal = Journal::of(&settings);
    // A terminal's Ctrl-C ends the process, and with it this.
    tokio::task::spawn_blocking(move || teller.tell(&journal)).await?
}

/// An image's name as Docker tells it: with a tag.
pub(crate) fn familiar(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

enum Format {
    Text(TimeZone),
    Json,
    Template(Template),
}

impl Format {
    fn parse(text: Option<&str>) -> anyhow::Result<Self> {
        Ok(match text {
            None => Self::Text(TimeZone::try_system().unwrap_or(TimeZone::UTC)),
            Some("json" | "{{json .}}") => Self::Json,
            Some(text) => Self::Template(Template::parse(text)?),
        })
    }

    fn line(&self, event: &Event) -> anyhow::Result<String> {
        match self {
            Self::Text(zone) => Ok(event.text(zone)),
            Self::Json => Ok(serde_json::to_string(event)?),
            Self::Template(template) => template.render(&event.fields()),
        }
    }
}

struct Teller {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    filters: Filters,
    format: Format,
}

impl Teller {
    fn tell(&self, journal: &Journal) -> anyhow::Result<()> {
        let mut reader = journal.read(self.since.is_none())?;
        let watch = journal.watch()?;
        loop {
            // Looked at before reading: what is written after the last read is seen next time, if there is one.
            let over = self.until.is_some_and(|until| until <= Timestamp::now());
            journal::drain(&watch);
            while let Some(event) = reader.next()? {
                if self.wants(&event) && !print(&self.format.line(&event)?)? {
                    return Ok(());
                }
            }
            if over {
                return Ok(());
            }
            self.wait(&watch)?;
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let time = Timestamp::from_nanosecond(event.time_nano.into()).unwrap_or_default();
        self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time <= until)
            && self.filters.pass(event)
    }

    /// Until something is written, or the end has come.
    fn wait(&self, watch: &OwnedFd) -> anyhow::Result<()> {
        let left = self.until.map(|until| {
            let left = until.duration_since(Timestamp::now());
            Timespec { tv_sec: left.as_secs().max(0), tv_nsec: i64::from(left.subsec_nanos()).max(0) }
        });
        match poll(&mut [PollFd::new(watch, PollFlags::IN)], left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("poll"),
        }
    }
}

/// False where nobody reads any more.
fn print(line: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("write"),
    }
}
