//! `ps`: the processes in a container's cgroup.

use super::{Arguments, Flag, Global};
use crate::cgroups::control;
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use std::process::Command;

pub(super) const FLAGS: &[Flag] = &[Flag::value("format", Some('f'))];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
    let container = Container::peek(&global.root, &id)?;
    let pids = control::processes(&container.record.cgroups)?;
    match arguments.text("format")?.as_deref() {
        Some("json") => super::print(&serde_json::to_string(&pids).unwrap_or_default()),
        None | Some("table") => table(&pids, arguments),
        Some(_) => Err(Error::invalid("invalid format option")),
    }
}

/// The lines of ps(1) about these processes. Its options may come as one word, as containerd passes them.
fn table(pids: &[i32], arguments: &Arguments) -> Result<u8> {
    let given: Vec<String> =
        arguments.positionals.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let options: Vec<&str> = given.iter().flat_map(|word| word.split_whitespace()).collect();
    let options = if options.is_empty() { vec!["-ef"] } else { options };
    let output = Command::new("ps").args(&options).output().context(|| "ps")?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim_end().to_string();
        return Err(Error::new(Kind::Os, format!("ps: {why}")));
    }
    super::print(&select(&String::from_utf8_lossy(&output.stdout), pids)?)
}

/// The header and the lines whose PID column names one of them.
fn select(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header.split_whitespace().position(|word| word == "PID");
    let column = column.ok_or_else(|| Error::invalid("couldn't find PID field in ps output"))?;
    let ours = |line: &&str| {
        line.split_whitespace()
            .nth(column)
            .and_then(|word| word.parse().ok())
            .is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(header).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_container() {
        let text = "UID PID PPID CMD\nroot 7 1 a 8\nroot 8 1 b 7\n";
        assert_eq!(select(text, &[8]).unwrap(), "UID PID PPID CMD\nroot 8 1 b 7\n");
        assert!(select("UID CMD\n", &[1]).is_err());
    }
}
