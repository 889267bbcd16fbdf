//! criu, which needs a kernel that it knows.

use crate::skip::skip;
use std::process::{Command, Stdio};

/// Whether it can work here; else `test` is a named skip.
pub fn can_work(test: &str) -> bool {
    let mut check = Command::new("criu");
    check.arg("check").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match check.status() {
        Ok(status) if status.success() => return true,
        Ok(_) => skip(test, "criu cannot work on this kernel"),
        Err(error) => skip(test, &format!("criu: {error}")),
    }
    false
}
