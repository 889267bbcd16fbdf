//! A container's log as one text, although rotation has cut it into files: which files hold the part that a client
//! wants, oldest first, the last of them the one that is still written to.

use super::log_file::LogFile;
use super::log_query::LogQuery;
use crate::kubelet::log_files;
use jiff::Timestamp;
use std::io;
use std::path::{Path, PathBuf};

/// Opens what `query` asks for.
pub(super) async fn open(log: &Path, query: &LogQuery) -> io::Result<Vec<LogFile>> {
    let mut current = LogFile::open_patiently(log).await?;
    // Listed after opening: a rotation in between shows the same file twice, never not at all.
    let older = older_than(log, &current).await?;
    let Some(mut wanted) = query.tail_lines else {
        let mut files = Vec::new();
        for path in older {
            if query.since.is_none_or(|since| is_newer(&path, since)) {
                files.extend(open_rotated(&path).await?);
            }
        }
        files.push(current);
        return Ok(files);
    };
    wanted -= current.seek_tail(wanted).await?.min(wanted);
    let mut files = vec![current];
    for path in older.iter().rev() {
        if wanted == 0 {
            break;
        }
        if let Some(mut file) = open_rotated(path).await? {
            wanted -= file.seek_tail(wanted).await?.min(wanted);
            files.push(file);
        }
    }
    files.reverse();
    Ok(files)
}

/// The files that were rotated between `file` and the present one, after `file` has itself been rotated.
pub(super) async fn since(log: &Path, file: &LogFile) -> io::Result<Vec<LogFile>> {
    let rotated = log_files::rotated(log)?;
    let mut files = Vec::new();
    if let Some(index) = rotated.iter().position(|path| file.is_at(path)) {
        for path in &rotated[index + 1..] {
            files.extend(open_rotated(path).await?);
        }
    }
    files.push(LogFile::open_patiently(log).await?);
    Ok(files)
}

async fn older_than(log: &Path, current: &LogFile) -> io::Result<Vec<PathBuf>> {
    let log = log.to_path_buf();
    let listed = tokio::task::spawn_blocking(move || log_files::rotated(&log)).await;
    let mut rotated = listed.map_err(io::Error::other)??;
    rotated.retain(|path| !current.is_at(path));
    Ok(rotated)
}

/// Written to after `since`.
fn is_newer(path: &Path, since: Timestamp) -> bool {
    let written = std::fs::metadata(path).and_then(|found| found.modified());
    let written = written.ok().and_then(|time| Timestamp::try_from(time).ok());
    written.is_none_or(|written| written >= since)
}

/// `None` when it is gone: compressed or removed a moment ago.
async fn open_rotated(path: &Path) -> io::Result<Option<LogFile>> {
    let opened = if log_files::is_compressed(path) {
        LogFile::open_compressed(path).await
    } else {
        LogFile::open(path).await
    };
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    async fn read(log: &Path, query: LogQuery) -> String {
        let mut text = Vec::new();
        for mut file in open(log, &query).await.unwrap() {
            while file.read_lines(|line| text.push(String::from_utf8(line.to_vec()).unwrap())).await.unwrap()
            {
            }
        }
        text.join(" ")
    }

    #[tokio::test]
    async fn rotated_files_are_part_of_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        let name = |suffix: &str| directory.path().join(format!("0.log.{suffix}"));
        let mut encoder =
            GzEncoder::new(std::fs::File::create(name("20200101-000001.gz")).unwrap(), Compression::fast());
        encoder.write_all(b"a\nb\n").unwrap();
        encoder.finish().unwrap();
        std::fs::write(name("20200101-000002"), "c\nd\n").unwrap();
        std::fs::write(name("20200101-000002.tmp"), "junk\n").unwrap();
        std::fs::write(&log, "e\n").unwrap();
        assert_eq!(read(&log, LogQuery::default()).await, "a b c d e");
        for (lines, expected) in
            [(0, ""), (1, "e"), (2, "d e"), (3, "c d e"), (4, "b c d e"), (9, "a b c d e")]
        {
            let query = LogQuery { tail_lines: Some(lines), ..LogQuery::default() };
            assert_eq!(read(&log, query).await, expected, "{lines}");
        }
    }
}
