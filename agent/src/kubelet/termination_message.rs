//! A dead container's last words: the file it may have written, or the end of its log.

use crate::kubelet::observed::ObservedContainer;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Most bytes read from the file.
const FILE_LIMIT: u64 = 4096;
/// Most bytes, and lines, taken from the log.
const LOG_LIMIT: u64 = 2048;
const LOG_LINES: usize = 80;

/// Reads the message; what cannot be read is no message.
pub fn read(container: &ObservedContainer) -> String {
    let Some(source) = &container.termination_message else { return String::new() };
    let message = head(Path::new(&source.host_path)).unwrap_or_default();
    if message.is_empty() && source.fall_back_to_logs && container.exit_code != 0 {
        return log_end(Path::new(&container.log_path)).unwrap_or_default();
    }
    message
}

fn head(path: &Path) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of the last lines of a CRI log (`TIME STREAM TAG TEXT`).
fn log_end(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    // Room for the prefixes of all lines beside the text itself.
    let window = LOG_LIMIT + LOG_LINES as u64 * 64;
    file.seek(SeekFrom::Start(length.saturating_sub(window)))?;
    let mut bytes = Vec::new();
    file.take(window).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<String> = text.lines().filter_map(text_of).collect();
    let kept = lines[lines.len().saturating_sub(LOG_LINES)..].concat();
    let mut from = kept.len().saturating_sub(usize::try_from(LOG_LIMIT).unwrap_or(usize::MAX));
    while !kept.is_char_boundary(from) {
        from += 1;
    }
    Ok(kept[from..].trim_end_matches('\0').to_string())
}

/// What a line of the log adds to the text: a partial one has no end.
fn text_of(line: &str) -> Option<String> {
    let mut fields = line.splitn(4, ' ').skip(2);
    let end = if fields.next()?.starts_with('P') { "" } else { "\n" };
    Some(format!("{}{end}", fields.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_what_was_written() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let lines =
            ["T stdout F one", "T stderr P two ", "T stderr F halves", "T stdout P no end"].join("\n");
        std::fs::write(log.path(), lines + "\n").unwrap();
        assert_eq!(log_end(log.path()).unwrap(), "one\ntwo halves\nno end");
    }
}
