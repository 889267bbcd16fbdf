//! The same case on runc and on ours: where runc passes, so must we.

use crate::bundle::Bundle;
use std::path::PathBuf;

/// The reference runtime.
///
/// # Panics
/// When it is not installed.
pub fn runc() -> PathBuf {
    let paths = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc", "/usr/local/bin/runc"];
    let found = paths.iter().map(PathBuf::from).find(|path| path.exists());
    found.expect("runc, the reference, is not installed: apt-get install runc")
}

/// Runs a case on both and compares what it reports.
///
/// # Panics
/// When the reports differ.
pub fn same(script: &str, case: impl Fn(&mut Bundle) -> String) {
    let (ours, theirs) = both(script, case);
    assert_eq!(ours, theirs, "ours (left) and runc (right) differ");
}

/// Runs a case on both and answers our report and that of runc.
pub fn both(script: &str, case: impl Fn(&mut Bundle) -> String) -> (String, String) {
    let mut theirs = Bundle::with_runtime(runc(), script);
    let mut ours = Bundle::shell(script);
    // Names that differ between two bundles are not differences.
    let neutral = |bundle: &Bundle, text: String| {
        text.replace(&bundle.id, "ID").replace(&bundle.path().display().to_string(), "BUNDLE")
    };
    let expected = case(&mut theirs);
    let expected = neutral(&theirs, expected);
    let got = case(&mut ours);
    (neutral(&ours, got), expected)
}
