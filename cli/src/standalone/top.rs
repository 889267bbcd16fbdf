//! `knarr top CONTAINER`: its processes, as this machine's `ps` shows them.

use super::Standalone;
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, bail};
use std::collections::BTreeSet;

/// Asks `ps` about all processes (a list of pids would take away its other options) and shows those of the container.
pub(crate) async fn run(settings: &Settings, name: &str, options: &[String]) -> anyhow::Result<()> {
    let place = Standalone::find(settings, name).await?;
    let container = place.running().await?;
    let pids: BTreeSet<i32> = place.engine.processes(&container.id)?.into_iter().collect();
    let default = ["-ef".to_owned()];
    let options = if options.is_empty() { &default[..] } else { options };
    let asked = tokio::process::Command::new("ps").args(options).output().await.context("ps")?;
    if !asked.status.success() {
        bail!("ps: {}", String::from_utf8_lossy(&asked.stderr).trim());
    }
    let text = String::from_utf8_lossy(&asked.stdout);
    place.tell_of(&container, "top", &[]);
    chosen(&text, &pids)?.iter().for_each(|line| output::line(line));
    Ok(())
}

/// The header and the lines of these processes.
fn chosen<'a>(text: &'a str, pids: &BTreeSet<i32>) -> anyhow::Result<Vec<&'a str>> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|word| word == "PID");
    let column = column.context("Couldn't find PID field in ps output")?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(header).chain(lines.filter(is_ours)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_the_pid_column() {
        let text = "UID  PID PPID CMD\nroot   1    0 init\nroot  17    1 sh 1\n";
        assert_eq!(chosen(text, &[17].into()).unwrap(), ["UID  PID PPID CMD", "root  17    1 sh 1"]);
        assert!(chosen("CMD\nx\n", &BTreeSet::new()).is_err());
    }
}
