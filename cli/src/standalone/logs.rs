//! `knarr logs`: what a container wrote, from its CRI log.

use super::Standalone;
use super::facts::Facts;
use crate::args::Logs;
use crate::moment::moment;
use crate::settings::Settings;
use anyhow::{Context, bail};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

/// How often a followed log is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Prints the log, then what comes until the container has ended, or nobody reads any more.
pub(crate) async fn run(settings: Settings, arguments: Logs) -> anyhow::Result<()> {
    match show(settings, arguments).await {
        Err(error) if error.downcast_ref().is_some_and(is_closed) => Ok(()),
        result => result,
    }
}

fn is_closed(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::BrokenPipe
}

async fn show(settings: Settings, arguments: Logs) -> anyhow::Result<()> {
    let place = Standalone::find(&settings, &arguments.name).await?;
    let file = place.log_file();
    if Facts::expect(&place).await?.options["LogConfig"]["Type"] == "none" {
        bail!("configured logging driver does not support reading");
    }
    if !file.exists() {
        // It was never started.
        return Ok(());
    }
    let mut log = BufReader::new(File::open(&file).with_context(|| format!("open {}", file.display()))?);
    let wanted = Wanted::new(&arguments, Timestamp::now())?;
    let mut last: VecDeque<String> = VecDeque::new();
    while let Some(line) = next(&mut log)? {
        if wanted.has(&line) {
            last.push_back(line);
        }
        if wanted.tail.is_some_and(|count| last.len() > count) {
            last.pop_front();
        }
    }
    last.iter().try_for_each(|line| print(line, arguments.timestamps))?;
    if arguments.follow {
        follow(&place, &mut log, arguments.timestamps).await?;
    }
    Ok(())
}

/// Which lines are asked for.
struct Wanted {
    tail: Option<usize>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Wanted {
    fn new(arguments: &Logs, now: Timestamp) -> anyhow::Result<Self> {
        let tail = match arguments.tail.as_str() {
            "all" | "-1" => None,
            // As Docker has it: what is no number of lines is all of them.
            number => number.parse().ok(),
        };
        let time = |flag: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => moment(text, now).with_context(|| format!("--{flag} {text}")).map(Some),
        };
        Ok(Self { tail, since: time("since", &arguments.since)?, until: time("until", &arguments.until)? })
    }

    /// By the time that a line begins with.
    fn has(&self, line: &str) -> bool {
        let time = line.split(' ').next().and_then(|text| text.parse::<Timestamp>().ok());
        let Some(time) = time else { return true };
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time <= until)
    }
}

/// Prints what comes until the container has ended; the last look is after its end, so nothing is missed.
async fn follow(place: &Standalone, log: &mut BufReader<File>, timestamps: bool) -> anyhow::Result<()> {
    loop {
        let ended = place.running().await.is_err();
        while let Some(line) = next(log)? {
            print(&line, timestamps)?;
        }
        if ended {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_INTERVAL).await;
    }
}

/// The next whole line; a half-written one is left for the next call.
fn next(log: &mut BufReader<File>) -> anyhow::Result<Option<String>> {
    let mut bytes = Vec::new();
    let read = log.read_until(b'\n', &mut bytes)?;
    if bytes.last() != Some(&b'\n') {
        log.seek_relative(-i64::try_from(read)?)?;
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// One line of a CRI log: `TIME STREAM F|P TEXT`; after `P` the text goes on without a line break.
fn print(line: &str, timestamps: bool) -> anyhow::Result<()> {
    let mut fields = line.trim_end_matches('\n').splitn(4, ' ');
    let (time, stream) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let end = if fields.next() == Some("P") { "" } else { "\n" };
    let text = fields.next().unwrap_or_default();
    let shown = if timestamps { format!("{time} {text}{end}") } else { format!("{text}{end}") };
    if stream == "stderr" {
        std::io::stderr().write_all(shown.as_bytes())?;
    } else {
        std::io::stdout().write_all(shown.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_their_time() {
        let time = |seconds| Some(Timestamp::from_second(seconds).unwrap());
        let wanted = Wanted { tail: None, since: time(60), until: time(120) };
        for (line, has) in [
            ("1970-01-01T00:00:59.9Z stdout F a", false),
            ("1970-01-01T00:01:00.000000001Z stdout F a", true),
            ("1970-01-01T00:02:01Z stdout F a", false),
        ] {
            assert_eq!(wanted.has(line), has, "{line}");
        }
    }
}
