//! How a session ended, in the words that clients understand: a Status object, or (before v4) a line of text.

use serde_json::json;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    /// The process ended with this status, not 0.
    ExitCode(i32),
    /// It could not be started, or was lost.
    Failure(String),
}

impl Outcome {
    pub(super) fn of_exit(code: i32) -> Self {
        if code == 0 { Self::Success } else { Self::ExitCode(code) }
    }

    /// What goes over the error stream in this version of the protocol; before v4, success says nothing.
    pub(super) fn encode(&self, version: u8) -> Vec<u8> {
        if version < 4 { self.text().into_bytes() } else { self.status().to_string().into_bytes() }
    }

    fn text(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::ExitCode(code) => exit_message(*code),
            Self::Failure(message) => message.clone(),
        }
    }

    fn status(&self) -> serde_json::Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::ExitCode(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": exit_message(*code),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failure(message) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {message}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": message}]},
                "code": 500,
            }),
        }
    }
}

fn exit_message(code: i32) -> String {
    format!("command terminated with non-zero exit code: exit status {code}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_find_the_exit_code() {
        let status: serde_json::Value = serde_json::from_slice(&Outcome::of_exit(3).encode(4)).unwrap();
        assert_eq!(status["reason"], "NonZeroExitCode");
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(Outcome::of_exit(0).encode(3), b"");
        assert_eq!(
            Outcome::of_exit(1).encode(1),
            b"command terminated with non-zero exit code: exit status 1".to_vec()
        );
    }
}
