//! `--env`, `--env-file`, `--label-file`: NAME=VALUE from the command line and from files.

use anyhow::{Context, bail};
use knarr_agent::cri::v1::KeyValue;
use std::path::{Path, PathBuf};

/// `NAME=VALUE`, or `NAME` with this process' own value; a NAME that is not set here is left out, as Docker does.
pub(super) fn environment(files: &[PathBuf], given: &[String]) -> anyhow::Result<Vec<KeyValue>> {
    let words = variables(files, given)?;
    let split = |word: &String| {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        KeyValue { key: key.into(), value: value.as_bytes().to_vec() }
    };
    Ok(words.iter().map(split).collect())
}

/// The same as `NAME=VALUE`.
pub(in crate::standalone) fn variables(files: &[PathBuf], given: &[String]) -> anyhow::Result<Vec<String>> {
    let mut variables = Vec::new();
    for text in lines_of(files, "env-file")?.iter().chain(given) {
        match text.split_once('=') {
            Some(("", _)) => bail!("invalid environment variable: {text}"),
            Some(_) => variables.push(text.clone()),
            None if text.is_empty() => bail!("invalid environment variable: {text}"),
            None => variables.extend(std::env::var(text).ok().map(|value| format!("{text}={value}"))),
        }
    }
    Ok(variables)
}

/// Lines of such files: comments and empty lines aside, values taken as they are.
pub(super) fn lines_of(files: &[PathBuf], flag: &str) -> anyhow::Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        let lines = lines(file).with_context(|| format!("--{flag} {}", file.display()))?;
        all.extend(lines);
    }
    Ok(all)
}

fn lines(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file)?;
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut found = Vec::new();
    for line in lines {
        let name = line.split('=').next().unwrap_or_default();
        if name.contains(char::is_whitespace) {
            bail!("variable '{name}' contains whitespaces");
        }
        found.push(line.to_owned());
    }
    Ok(found)
}

/// `NAME=VALUE`, both needed.
pub(super) fn pairs(flag: &str, given: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => bail!("--{flag} {text}: not of the form NAME=VALUE"),
    };
    given.iter().map(pair).collect()
}
