//! Programs that tests write. They are written by another process: a child of a parallel test has this one's descriptors
//! until it begins its own program, and what somebody has open for writing cannot be executed (ETXTBSY).

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) fn write(path: &Path, text: &str) {
    let mut shell = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success(), "{}", path.display());
}
