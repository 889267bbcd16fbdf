//! Health checks as they are asked for: Docker's options over what the image says.

use crate::args::Health as Options;
use anyhow::bail;
use knarr_images::health_time;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Docker's own, where neither the image nor the user says anything.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const RETRIES: u64 = 3;

/// What the image's config says.
#[derive(Debug, Clone, Default)]
pub(in crate::standalone) struct OfImage {
    /// `Healthcheck`, or null.
    pub(in crate::standalone) check: Value,
    /// `Shell`, or null.
    pub(in crate::standalone) shell: Value,
}

/// What is kept on the container: the check as `docker inspect` shows it, and the shell it is run by. None without a check.
pub(super) fn document(options: &Options, image: &OfImage) -> anyhow::Result<Option<Value>> {
    let mut check = image.check.as_object().cloned().unwrap_or_default();
    let own = changes(options)?;
    if options.no_healthcheck {
        if !own.is_empty() {
            bail!("--no-healthcheck conflicts with --health-* options");
        }
        return Ok(None);
    }
    check.extend(own);
    let wanted = match check.get("Test").and_then(|test| test.get(0)).and_then(Value::as_str) {
        None | Some("NONE" | "") => false,
        Some("CMD" | "CMD-SHELL") => true,
        Some(other) => bail!("Unknown health check type: {other}"),
    };
    Ok(wanted.then(|| json!({"Healthcheck": check, "Shell": image.shell})))
}

fn changes(options: &Options) -> anyhow::Result<Map<String, Value>> {
    let mut own = Map::new();
    if let Some(command) = options.health_cmd.as_ref().filter(|command| !command.is_empty()) {
        own.insert("Test".to_owned(), json!(["CMD-SHELL", command]));
    }
    for (flag, key, text) in [
        ("health-interval", "Interval", &options.health_interval),
        ("health-timeout", "Timeout", &options.health_timeout),
        ("health-start-period", "StartPeriod", &options.health_start_period),
        ("health-start-interval", "StartInterval", &options.health_start_interval),
    ] {
        if let Some(text) = text {
            own.insert(key.to_owned(), json!(health_time(flag, text)?));
        }
    }
    if let Some(retries) = options.health_retries {
        own.insert("Retries".to_owned(), json!(retries));
    }
    Ok(own)
}

/// A check, ready to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::standalone) struct Check {
    pub(in crate::standalone) command: Vec<String>,
    pub(in crate::standalone) interval: Duration,
    pub(in crate::standalone) timeout: Duration,
    /// For so long failures do not count.
    pub(in crate::standalone) start_period: Duration,
    /// Between two checks, meanwhile.
    pub(in crate::standalone) start_interval: Duration,
    /// So many failures in a row are an unhealthy container.
    pub(in crate::standalone) retries: u64,
}

impl Check {
    /// From what is kept on the container; none where there is no check.
    pub(in crate::standalone) fn of(document: &Value) -> Option<Self> {
        let check = &document["Healthcheck"];
        let words: Vec<String> = strings(&check["Test"]);
        let (kind, words) = words.split_first()?;
        let command = match kind.as_str() {
            "CMD" => words.to_vec(),
            _ => [shell(&document["Shell"]), words.to_vec()].concat(),
        };
        let time = |key: &str, otherwise: Duration| match check[key].as_u64() {
            None | Some(0) => otherwise,
            Some(nanoseconds) => Duration::from_nanos(nanoseconds),
        };
        Some(Self {
            command,
            interval: time("Interval", INTERVAL),
            timeout: time("Timeout", TIMEOUT),
            start_period: time("StartPeriod", Duration::ZERO),
            start_interval: time("StartInterval", START_INTERVAL),
            retries: check["Retries"].as_u64().filter(|count| *count > 0).unwrap_or(RETRIES),
        })
    }
}

fn shell(of_image: &Value) -> Vec<String> {
    match strings(of_image) {
        words if words.is_empty() => ["/bin/sh", "-c"].map(str::to_owned).to_vec(),
        words => words,
    }
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(check: Value) -> OfImage {
        OfImage { check, shell: Value::Null }
    }

    #[test]
    fn options_stand_over_the_image() {
        let of_image = image(json!({"Test": ["CMD", "a"], "Interval": 7_000_000_000_u64, "Retries": 9}));
        let none = Options::default();
        let check = Check::of(&document(&none, &of_image).unwrap().unwrap()).unwrap();
        assert_eq!((check.command, check.interval.as_secs(), check.retries), (vec!["a".to_owned()], 7, 9));
        assert_eq!((check.timeout, check.start_period), (TIMEOUT, Duration::ZERO));
        let own = Options {
            health_cmd: Some("b || c".into()),
            health_timeout: Some("1m30s".into()),
            health_retries: Some(1),
            ..Options::default()
        };
        let check = Check::of(&document(&own, &of_image).unwrap().unwrap()).unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "b || c"]);
        assert_eq!((check.timeout.as_secs(), check.interval.as_secs(), check.retries), (90, 7, 1));
    }

    #[test]
    fn there_may_be_none() {
        let of_image = image(json!({"Test": ["CMD", "a"]}));
        let off = Options { no_healthcheck: true, ..Options::default() };
        assert_eq!(document(&off, &of_image).unwrap(), None);
        assert_eq!(document(&Options::default(), &image(Value::Null)).unwrap(), None);
        assert_eq!(document(&Options::default(), &image(json!({"Test": ["NONE"]}))).unwrap(), None);
        let both = Options { health_cmd: Some("x".into()), ..off };
        assert!(document(&both, &of_image).unwrap_err().to_string().contains("conflicts with --health-*"));
        let wrong = Options { health_interval: Some("5".into()), ..Options::default() };
        assert!(document(&wrong, &of_image).unwrap_err().to_string().contains("--health-interval=5"));
    }
}
