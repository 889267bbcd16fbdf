//! Finding the container's program, with the messages that Docker and kubelet recognise.

use crate::error::{Error, Kind, Result};
use rustix::fs::{Access, AtFlags, CWD, FileType};
use rustix::io::Errno;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The path to execute: `name` itself when it has a slash, else the first match in the container's `PATH`.
pub(crate) fn find(name: &CStr, env: &[CString]) -> Result<CString> {
    let text = name.to_string_lossy();
    let wrong = |why: String| Error::new(Kind::Exec, format!("exec: {text:?}: {why}"));
    if name.to_bytes().contains(&b'/') {
        return match problem(name) {
            None => Ok(name.to_owned()),
            Some(Errno::NOENT) => Err(wrong(format!("stat {text}: no such file or directory"))),
            // The words that engines turn into exit status 126.
            Some(Errno::ISDIR) => Err(wrong("permission denied".into())),
            Some(errno) => Err(wrong(knarr_sys::error::description(errno))),
        };
    }
    let path = env.iter().find_map(|variable| variable.to_bytes().strip_prefix(b"PATH=")).unwrap_or_default();
    for directory in path.split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        let full = Path::new(OsStr::from_bytes(directory)).join(OsStr::from_bytes(name.to_bytes()));
        let Ok(full) = CString::new(full.as_os_str().as_bytes()) else { continue };
        if problem(&full).is_none() {
            return Ok(full);
        }
    }
    Err(wrong("executable file not found in $PATH".into()))
}

/// Why a path cannot be executed.
fn problem(path: &CStr) -> Option<Errno> {
    let stat = match rustix::fs::stat(path) {
        Ok(stat) => stat,
        Err(errno) => return Some(errno),
    };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Some(Errno::ISDIR);
    }
    match rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // Root may execute whatever anybody may; the check by mode says the same without asking for rights we gave up.
        Ok(()) => None,
        Err(Errno::NOSYS | Errno::PERM) => (stat.st_mode & 0o111 == 0).then_some(Errno::ACCESS),
        Err(errno) => Some(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, path: &str) -> String {
        let env = [CString::new(format!("PATH={path}")).unwrap()];
        match find(&CString::new(name).unwrap(), &env) {
            Ok(found) => found.into_string().unwrap(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn messages_are_those_that_engines_match_on() {
        for (name, path, expected) in [
            ("/nonexist", "", "exec: \"/nonexist\": stat /nonexist: no such file or directory"),
            ("nonexist", "/usr/bin", "exec: \"nonexist\": executable file not found in $PATH"),
            ("/etc/passwd", "", "exec: \"/etc/passwd\": permission denied"),
            ("/etc", "", "exec: \"/etc\": permission denied"),
            ("sh", "/nowhere:/bin", "/bin/sh"),
        ] {
            assert_eq!(text(name, path), expected);
        }
    }
}
