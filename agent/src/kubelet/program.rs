//! Programs of the machine that volumes need (`mount`, `iscsiadm`, `mkfs`): run with a deadline, and what they said is kept
//! for the person who reads the event.

use std::time::Duration;
use tokio::process::Command;

/// A program that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub output: String,
}

/// A program that did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// `exit status 32`, or why it could not be run at all.
    pub status: String,
    /// What it wrote.
    pub output: String,
}

impl Ended {
    /// The word for a failure.
    pub fn status(&self) -> String {
        self.code.map_or_else(|| "signal: killed".to_owned(), |code| format!("exit status {code}"))
    }
}

/// Runs a program to its end; the error says why there was none.
pub async fn run(program: &str, arguments: &[String], patience: Duration) -> Result<Ended, String> {
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true);
    match tokio::time::timeout(patience, command.output()).await {
        Ok(Ok(output)) => {
            let said = [output.stdout, output.stderr].concat();
            let output_text = String::from_utf8_lossy(&said).into_owned();
            Ok(Ended { code: output.status.code(), output: output_text })
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("exec: \"{program}\": executable file not found in $PATH"))
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
    }
}

/// The same, where only success counts; answers what it said.
pub async fn succeed(program: &str, arguments: &[String], patience: Duration) -> Result<String, Failed> {
    match run(program, arguments, patience).await {
        Ok(Ended { code: Some(0), output }) => Ok(output),
        Ok(ended) => Err(Failed { status: ended.status(), output: ended.output }),
        Err(status) => Err(Failed { status, output: String::new() }),
    }
}

/// Why `mount` failed, in a kubelet's words.
pub fn mount_failure(failed: &Failed, arguments: &[String]) -> String {
    let (status, output, words) = (&failed.status, &failed.output, arguments.join(" "));
    format!("mount failed: {status}\nMounting command: mount\nMounting arguments: {words}\nOutput: {output}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_failure_says_what_the_program_said() {
        let told = |script: &str| vec!["-c".to_owned(), script.to_owned()];
        assert_eq!(succeed("sh", &told("echo yes"), PATIENCE).await, Ok("yes\n".to_owned()));
        let failed = succeed("sh", &told("echo no; exit 32"), PATIENCE).await.unwrap_err();
        assert_eq!(failed, Failed { status: "exit status 32".into(), output: "no\n".into() });
        let text = mount_failure(&failed, &["-t".into(), "nfs".into()]);
        assert_eq!(
            text,
            "mount failed: exit status 32\nMounting command: mount\nMounting arguments: -t nfs\nOutput: no\n"
        );
        let missing = run("knarr-no-such-program", &[], PATIENCE).await.unwrap_err();
        assert_eq!(missing, "exec: \"knarr-no-such-program\": executable file not found in $PATH");
        let late = run("sh", &told("exec sleep 1000"), Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(late, "no answer within 0 s");
    }
}
