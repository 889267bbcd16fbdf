//! `knarr logs`: what a container wrote, from its CRI log.

use super::Standalone;
use super::facts::Facts;
use crate::args::Logs;
use crate::moment::moment;
use crate::settings::Settings;
use anyhow::{Context, bail};
use jiff::Timestamp;
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
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
    let (file, facts) = (place.log_file(), Facts::expect(&place).await?);
    if facts.options["LogConfig"]["Type"] == "none" {
        bail!("configured logging driver does not support reading");
    }
    let details = arguments.details.then(|| details(&facts)).transpose()?;
    let shown = Shown { timestamps: arguments.timestamps, details };
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
    last.iter().try_for_each(|line| shown.print(line))?;
    if arguments.follow {
        follow(&place, &mut log, &shown).await?;
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
async fn follow(place: &Standalone, log: &mut BufReader<File>, shown: &Shown) -> anyhow::Result<()> {
    loop {
        let ended = place.running().await.is_err();
        while let Some(line) = next(log)? {
            shown.print(&line)?;
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

/// What the log driver was told to add to each line (`--log-opt labels=`, `env=`): `name=value,...`, sorted.
fn details(facts: &Facts) -> anyhow::Result<String> {
    let options = &facts.options["LogConfig"]["Config"];
    let labels: Vec<(&str, &str)> =
        facts.status.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut found = wanted_of("labels", options, &labels)?;
    found.extend(wanted_of("env", options, &facts.variables().collect::<Vec<_>>())?);
    let quoted = found.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value)));
    Ok(quoted.collect::<Vec<_>>().join(","))
}

/// Those that an option names, or that the pattern of its `-regex` fits.
fn wanted_of(
    option: &str,
    options: &Value,
    all: &[(&str, &str)],
) -> anyhow::Result<BTreeMap<String, String>> {
    let text = |name: &str| options[name].as_str().filter(|text| !text.is_empty());
    let pattern = text(&format!("{option}-regex")).map(Regex::new).transpose()?;
    let names: Vec<&str> = text(option).unwrap_or_default().split(',').collect();
    let wanted =
        |name: &str| names.contains(&name) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name));
    let found = all.iter().filter(|(name, _)| wanted(name));
    Ok(found.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

/// As in the query of a URL.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte: u8| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        b' ' => "+".to_owned(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// What is shown of each line.
struct Shown {
    timestamps: bool,
    details: Option<String>,
}

impl Shown {
    /// One line of a CRI log: `TIME STREAM F|P TEXT`; after `P` the text goes on without a line break.
    fn print(&self, line: &str) -> anyhow::Result<()> {
        let mut fields = line.trim_end_matches('\n').splitn(4, ' ');
        let (time, stream) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let end = if fields.next() == Some("P") { "" } else { "\n" };
        let text = fields.next().unwrap_or_default();
        let time = if self.timestamps { format!("{time} ") } else { String::new() };
        let details = self.details.as_ref().map(|details| format!("{details} ")).unwrap_or_default();
        let shown = format!("{time}{details}{text}{end}");
        if stream == "stderr" {
            std::io::stderr().write_all(shown.as_bytes())?;
        } else {
            std::io::stdout().write_all(shown.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_what_the_driver_was_told() {
        let options = serde_json::json!({"labels": "b,none", "labels-regex": "^x"});
        let all = [("a", "1"), ("b", "two words"), ("xy", "=")];
        let found = wanted_of("labels", &options, &all).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["b", "xy"]);
        assert_eq!((escaped(&found["b"]), escaped(&found["xy"])), ("two+words".to_owned(), "%3D".to_owned()));
        assert!(wanted_of("env", &options, &all).unwrap().is_empty());
    }

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
