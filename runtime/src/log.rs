//! The one line that is printed when a command fails, in the two formats that callers of runc read.
//!
//! containerd decodes every line of the `--log` file as JSON and takes the last one whose level is `error`; podman and
//! people read the text on stderr.

use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// Where and how to report.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) file: Option<PathBuf>,
    pub(crate) json: bool,
    pub(crate) debug: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: String,
}

impl Log {
    /// The end of a failed command.
    pub(crate) fn error(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            // A closed stderr is no reason to fail once more.
            let _ = writeln!(std::io::stderr(), "{message}");
        }
    }

    /// Something was asked for in vain.
    pub(crate) fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    /// What happens, for `--debug`.
    pub(crate) fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            self.write("debug", &message());
        }
    }

    fn write(&self, level: &str, message: &str) {
        let line = if self.json { json_line(level, message) } else { text_line(level, message) };
        // A log that cannot be written has no other place to complain than stderr itself.
        let _ = match &self.file {
            Some(path) => std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|mut file| file.write_all(line.as_bytes())),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// RFC 3339 in UTC, whole seconds.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn json_line(level: &str, msg: &str) -> String {
    let line = serde_json::to_string(&Line { level, msg, time: now() });
    line.map(|line| line + "\n").unwrap_or_default()
}

fn text_line(level: &str, message: &str) -> String {
    format!("time=\"{}\" level={level} msg={message:?}\n", now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_line_has_exactly_the_three_keys() {
        let value: serde_json::Value = serde_json::from_str(&json_line("error", "a \"b\"\n")).unwrap();
        assert_eq!(value["level"], "error");
        assert_eq!(value["msg"], "a \"b\"\n");
        assert_eq!(value["time"].as_str().unwrap().len(), 20);
        assert_eq!(value.as_object().unwrap().len(), 3);
    }

    #[test]
    fn a_text_line_is_one_line() {
        let line = text_line("error", "a \"b\"\nc");
        assert!(line.ends_with("level=error msg=\"a \\\"b\\\"\\nc\"\n"), "{line}");
    }
}
