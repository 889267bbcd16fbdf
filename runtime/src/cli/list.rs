//! `list`: all containers below the root.

use super::{Arguments, Flag, Global};
use crate::container::Container;
use crate::error::{Context, Error, Result};
use crate::state::State;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub(super) const FLAGS: &[Flag] = &[Flag::value("format", Some('f')), Flag::switch("quiet", Some('q'))];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let states = states(&global.root, global.root_given)?;
    if arguments.has("quiet") {
        return super::print(&states.iter().map(|state| format!("{}\n", state.id)).collect::<String>());
    }
    match arguments.text("format")?.as_deref() {
        None | Some("table") => super::print(&table(&states)),
        Some("json") if states.is_empty() => super::print("null"),
        Some("json") => {
            super::print(&serde_json::to_string(&states).map_err(|error| Error::invalid(error.to_string()))?)
        }
        Some(_) => Err(Error::invalid("invalid format option")),
    }
}

/// What disappears while we look is left out; what cannot be read does not hide the others. The usual root need not be there
/// yet; one that was named must.
fn states(root: &Path, named: bool) -> Result<Vec<State>> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => return Ok(vec![]),
        Err(error) => return Err(error).context(|| format!("open {}", root.display())),
    };
    let mut names: Vec<_> = entries.flatten().filter(|entry| entry.path().is_dir()).collect();
    names.sort_by_key(std::fs::DirEntry::file_name);
    let state = |entry: &std::fs::DirEntry| {
        let container = Container::peek(root, &entry.file_name().to_string_lossy()).ok()?;
        let mut state = container.state().ok()?;
        state.owner = owner(entry.metadata().ok()?.uid());
        Some(state)
    };
    Ok(names.iter().filter_map(state).collect())
}

/// A user's name, from the password file; the number in its absence.
fn owner(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)? == &uid.to_string()).then(|| (*fields.first().unwrap_or(&"")).to_string())
    });
    name.unwrap_or_else(|| format!("#{uid}"))
}

fn table(states: &[State]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let row = |state: &State| {
        let State { id, pid, status, bundle, created, owner, .. } = state;
        [id.clone(), pid.to_string(), status.as_str().into(), bundle.clone(), created.clone(), owner.clone()]
    };
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(states.iter().map(row)).collect();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.len() + 3).max();
    let widths: Vec<usize> = (0..5).map(|column| width(column).unwrap_or(0).max(12)).collect();
    let line = |row: &[String; 6]| {
        let padded = row.iter().zip(widths.iter().map(Some).chain(std::iter::once(None)));
        let cells = padded.map(|(cell, width)| match width {
            Some(width) => format!("{cell:width$}"),
            None => cell.clone(),
        });
        cells.collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}
