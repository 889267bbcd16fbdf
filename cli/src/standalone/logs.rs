//! `knarr logs`: what a container wrote, from its CRI log.

use super::Standalone;
use crate::args::Logs;
use crate::settings::Settings;
use anyhow::Context;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

/// How often a followed log is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Prints the log, then what comes until the container has ended.
pub(crate) async fn run(settings: Settings, arguments: Logs) -> anyhow::Result<()> {
    let place = Standalone::find(&settings, &arguments.name).await?;
    let file = place.log_file();
    let mut log = BufReader::new(File::open(&file).with_context(|| format!("open {}", file.display()))?);
    let mut last: VecDeque<String> = VecDeque::new();
    while let Some(line) = next(&mut log)? {
        last.push_back(line);
        if arguments.tail.is_some_and(|count| last.len() > count) {
            last.pop_front();
        }
    }
    last.iter().try_for_each(|line| print(line, arguments.timestamps))?;
    if arguments.follow {
        follow(&place, &mut log, arguments.timestamps).await?;
    }
    Ok(())
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
