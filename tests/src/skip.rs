//! Skips that are counted and named: a machine that cannot run a test says so in the summary, never silently.

use std::io::Write;

/// Records that `test` was not run and why; the caller returns right after.
///
/// # Panics
/// When the record cannot be written: an unrecorded skip would be a silent one.
pub fn skip(test: &str, reason: &str) {
    eprintln!("SKIPPED {test}: {reason}");
    if let Some(file) = std::env::var_os("KNARR_SKIPS") {
        let mut record =
            std::fs::OpenOptions::new().create(true).append(true).open(file).expect("KNARR_SKIPS");
        // In one piece: tests that run side by side write to the same file.
        record.write_all(format!("{test}: {reason}\n").as_bytes()).expect("KNARR_SKIPS");
    }
}
