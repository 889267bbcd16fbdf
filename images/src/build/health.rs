//! HEALTHCHECK: how an engine that cares finds out whether the container works. Kept in the image's config as Docker
//! writes it, times in nanoseconds.

use crate::build::flags::Flags;
use crate::build::instruction::{Command, command};
use crate::error::{Error, Result};
use serde_json::{Map, Value, json};

/// What the instruction says; `NONE` switches an inherited check off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// None: `NONE`.
    command: Option<Command>,
    times: Vec<(&'static str, u64)>,
    retries: u64,
}

const TIMES: [(&str, &str); 4] = [
    ("interval", "Interval"),
    ("timeout", "Timeout"),
    ("start-period", "StartPeriod"),
    ("start-interval", "StartInterval"),
];

impl Health {
    pub(crate) fn parse(text: &str, escape: char) -> Result<Self> {
        let (flags, rest) = Flags::take(text, escape);
        flags.only(&["interval", "timeout", "start-period", "start-interval", "retries"])?;
        let (kind, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let command = match (kind.to_ascii_uppercase().as_str(), arguments.trim()) {
            ("NONE", "") => None,
            ("NONE", _) => return Err(Error::invalid("HEALTHCHECK NONE takes no arguments")),
            ("CMD", "") => return Err(Error::invalid("Missing command after HEALTHCHECK CMD")),
            ("CMD", arguments) => Some(command(arguments)),
            (other, _) => {
                return Err(Error::invalid(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")));
            }
        };
        let mut times = Vec::new();
        for (flag, key) in TIMES {
            if let Some(value) = flags.get(flag) {
                times.push((key, nanoseconds(flag, value)?));
            }
        }
        let retries = flags.get("retries").unwrap_or("0");
        let retries = retries
            .parse()
            .map_err(|_| Error::invalid(format!("--retries={retries}: must be a number, at least 1")))?;
        Ok(Self { command, times, retries })
    }

    /// As the image's config has it.
    pub(crate) fn document(&self) -> Value {
        let test = match &self.command {
            None => json!(["NONE"]),
            Some(Command::Shell(line)) => json!(["CMD-SHELL", line]),
            Some(Command::Exec(words)) => json!([vec!["CMD".to_owned()], words.clone()].concat()),
        };
        let mut document = Map::from_iter([("Test".to_owned(), test)]);
        for (key, value) in &self.times {
            document.insert((*key).to_owned(), json!(value));
        }
        if self.retries > 0 {
            document.insert("Retries".to_owned(), json!(self.retries));
        }
        Value::Object(document)
    }
}

/// Nanoseconds of `1h2m3.5s`, `300ms`, ... as flags of health checks have them; at least one millisecond.
pub fn nanoseconds(flag: &str, text: &str) -> Result<u64> {
    let wrong = || Error::invalid(format!("--{flag}={text}: invalid duration (1m30s, 500ms)"));
    let mut total = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (value, unit) = rest.split_at(number);
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let scale = match &unit[..end] {
            "h" => 3600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return Err(wrong()),
        };
        total += value.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = &unit[end..];
    }
    if !(1e6..9e18).contains(&total) {
        return Err(Error::invalid(format!("--{flag}={text}: cannot be less than 1ms")));
    }
    Ok(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_writes_it() {
        let health =
            Health::parse("--interval=1m30s --retries=3 CMD curl -f localhost || exit 1", '\\').unwrap();
        let expected = json!({"Test": ["CMD-SHELL", "curl -f localhost || exit 1"], "Interval": 90_000_000_000u64, "Retries": 3});
        assert_eq!(health.document(), expected);
        let exec = Health::parse("CMD [\"a\", \"b\"]", '\\').unwrap().document();
        assert_eq!(exec, json!({"Test": ["CMD", "a", "b"]}));
        assert_eq!(Health::parse("none", '\\').unwrap().document(), json!({"Test": ["NONE"]}));
        for wrong in
            ["CMD", "NONE x", "CURL x", "--timeout=5 CMD x", "--timeout=1us CMD x", "--retries=x CMD x"]
        {
            assert!(Health::parse(wrong, '\\').is_err(), "{wrong}");
        }
    }
}
