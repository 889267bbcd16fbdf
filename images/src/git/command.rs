//! The program `git`, run so that a repository or a Dockerfile decides nothing but which files it gives.
//!
//! What must hold: no settings of this machine or user count but its proxies and known hosts; nothing is asked of a
//! person; no key, agent or password is used that the caller did not lend; no local path is a remote; secrets stand in no
//! command line; the whole process group ends when nobody waits for it any more.

use crate::error::{Error, ErrorKind, Result};
use crate::git::{GitAccess, GitReference};
use crate::web_file::basic;
use rustix::process::{Pid, Signal, kill_process_group};
use std::path::Path;
use std::process::{Output, Stdio};
use tokio::process::Command;

const PROGRAM: &str = "git";

/// Variables of the caller's environment that count: where to go through, and where programs are.
const INHERITED: [&str; 9] = [
    "PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// Hooks never run. A server that sends less than a byte per second for a minute is given up.
const SETTINGS: [(&str, &str); 5] = [
    ("core.hooksPath", "/dev/null"),
    ("init.defaultBranch", "master"),
    ("advice.detachedHead", "false"),
    ("http.lowSpeedLimit", "1"),
    ("http.lowSpeedTime", "60"),
];

/// git at work in one directory, for one remote.
pub(crate) struct Git<'a> {
    pub(crate) reference: &'a GitReference,
    pub(crate) access: &'a GitAccess,
    pub(crate) directory: &'a Path,
}

/// Kills what is still there of a process group.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // Whoever is left; nobody is after a command that ended by itself.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

impl Git<'_> {
    /// Runs a command and answers what it prints. What it complained of is in the error.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).current_dir(self.directory).env_clear().envs(self.environment());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn().map_err(missing)?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let output = child.wait_with_output().await.map_err(|e| Error::io(PROGRAM, e))?;
        drop(group);
        answer(&output, arguments.first().copied().unwrap_or_default())
    }

    fn environment(&self) -> Vec<(String, String)> {
        let mut variables: Vec<(String, String)> = INHERITED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
            .collect();
        let mut set = |name: &str, value: &str| variables.push((name.to_owned(), value.to_owned()));
        for (name, value) in [
            ("LC_ALL", "C"),
            ("HOME", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ALLOW_PROTOCOL", "http:https:ssh:git"),
        ] {
            set(name, value);
        }
        set("GIT_SSH_COMMAND", &ssh(self.access.agent.is_some()));
        if let Some(agent) = self.access.agent.as_ref().and_then(|path| path.to_str()) {
            set("SSH_AUTH_SOCK", agent);
        }
        let settings = self.settings();
        set("GIT_CONFIG_COUNT", &settings.len().to_string());
        for (index, (name, value)) in settings.iter().enumerate() {
            set(&format!("GIT_CONFIG_KEY_{index}"), name);
            set(&format!("GIT_CONFIG_VALUE_{index}"), value);
        }
        variables
    }

    /// Credentials are for this remote only (those in a URL for its server), so submodules elsewhere do not get them.
    fn settings(&self) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> =
            SETTINGS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let lent =
            self.access.authorization.clone().map(|proof| (scope(&self.reference.shown()).to_owned(), proof));
        if let Some((scope, proof)) =
            lent.or_else(|| self.reference.user().map(|(user, server)| (server, basic(&user))))
        {
            settings.push((format!("http.{scope}.extraheader"), format!("Authorization: {proof}")));
        }
        settings
    }
}

/// Keys of the user are used by an agent that was lent only. A host that nobody knows yet is believed, as its key is
/// from then on; one that changed its key is not.
fn ssh(with_agent: bool) -> String {
    let agent = if with_agent { "" } else { " -o IdentityAgent=none" };
    format!(
        "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o ConnectTimeout=30 \
         -o ServerAliveInterval=15 -o IdentityFile=/dev/null{agent}"
    )
}

/// One token is good for all of GitHub; others are for what they were given for.
fn scope(remote: &str) -> &str {
    ["https://github.com/", "https://www.github.com/"]
        .into_iter()
        .find(|all| remote.starts_with(all))
        .unwrap_or(remote)
}

fn missing(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            Error::new(ErrorKind::Unsupported, "exec: \"git\": executable file not found in $PATH")
        }
        _ => Error::io(PROGRAM, error),
    }
}

fn answer(output: &Output, command: &str) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let message = format!("git {command}: {}: {}", output.status, words.trim());
    Err(Error::new(ErrorKind::Unavailable, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(url: &str, access: &GitAccess) -> Vec<(String, String)> {
        let reference = GitReference::parse(url).unwrap().unwrap();
        Git { reference: &reference, access, directory: Path::new("/") }.environment()
    }

    fn value(all: &[(String, String)], wanted: &str) -> Option<String> {
        all.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
    }

    #[test]
    fn nothing_is_lent_unasked() {
        let all = environment("git@h:a", &GitAccess::default());
        assert_eq!(value(&all, "SSH_AUTH_SOCK"), None);
        assert!(value(&all, "GIT_SSH_COMMAND").unwrap().ends_with("-o IdentityAgent=none"));
        assert!(
            !all.iter().any(|(name, value)| name.contains("extraheader") || value.contains("extraheader"))
        );
        let agent = GitAccess { agent: Some("/a".into()), ..GitAccess::default() };
        let all = environment("git@h:a", &agent);
        assert_eq!(value(&all, "SSH_AUTH_SOCK").as_deref(), Some("/a"));
        assert!(!value(&all, "GIT_SSH_COMMAND").unwrap().contains("IdentityAgent"));
    }

    #[test]
    fn credentials_are_for_one_remote() {
        let access = GitAccess { authorization: Some("basic x".into()), ..GitAccess::default() };
        for (url, scope) in [
            ("https://h/a/b.git#main", "http.https://h/a/b.git.extraheader"),
            ("https://u:p@h/b.git", "http.https://h/b.git.extraheader"),
            ("https://github.com/a/b.git", "http.https://github.com/.extraheader"),
        ] {
            let all = environment(url, &access);
            let last = SETTINGS.len();
            assert_eq!(value(&all, "GIT_CONFIG_COUNT"), Some((last + 1).to_string()));
            assert_eq!(value(&all, &format!("GIT_CONFIG_KEY_{last}")).as_deref(), Some(scope), "{url}");
            assert_eq!(
                value(&all, &format!("GIT_CONFIG_VALUE_{last}")).as_deref(),
                Some("Authorization: basic x")
            );
        }
        let all = environment("https://u:p%40@h:1/a/b.git", &GitAccess::default());
        let last = SETTINGS.len();
        assert_eq!(
            value(&all, &format!("GIT_CONFIG_KEY_{last}")).as_deref(),
            Some("http.https://h:1/.extraheader")
        );
        assert_eq!(
            value(&all, &format!("GIT_CONFIG_VALUE_{last}")).as_deref(),
            Some("Authorization: Basic dTpwQA==")
        );
    }
}
