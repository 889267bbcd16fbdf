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
    let (mut current, older) = open_current(log).await?;
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
    if query.follow {
        current.goes_on();
    }
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

/// The files that were rotated between `file` and the present one, which comes last; for after `file` has itself been
/// rotated. Whoever lags finds it compressed, as another file: then it is the first that came after those that were
/// there when it was opened.
pub(super) async fn since(log: &Path, file: &LogFile) -> io::Result<Vec<LogFile>> {
    let (current, rotated) = open_current(log).await?;
    let known = file.older_end();
    let own = rotated.iter().position(|path| file.is_at(path));
    let own = own.or_else(|| rotated.iter().position(|path| uncompressed(path) > known));
    let mut files = Vec::new();
    for path in own.and_then(|own| rotated.get(own + 1..)).unwrap_or_default() {
        files.extend(open_rotated(path).await?);
    }
    files.push(current);
    Ok(files)
}

/// The file that is written to, and those that were rotated before it, oldest first.
async fn open_current(log: &Path) -> io::Result<(LogFile, Vec<PathBuf>)> {
    let mut current = LogFile::open_patiently(log).await?;
    // Listed after opening: a rotation in between shows the same file twice, never not at all.
    let path = log.to_path_buf();
    let listed = tokio::task::spawn_blocking(move || log_files::rotated(&path)).await;
    let mut rotated = listed.map_err(io::Error::other)??;
    rotated.retain(|path| !current.is_at(path));
    // One that is just being compressed is there twice for a moment, and then in its new shape.
    let all = rotated.clone();
    rotated.retain(|path| !all.contains(&compressed(path)));
    current.follows(rotated.last().map(|path| uncompressed(path).to_owned()).unwrap_or_default());
    Ok((current, rotated))
}

/// What a rotated file is called when it has been compressed.
fn compressed(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

/// What a rotated file is called as long as it is not compressed; these names have the order of time.
fn uncompressed(path: &Path) -> &Path {
    let text = path.to_str().and_then(|text| text.strip_suffix(".gz"));
    text.map_or(path, Path::new)
}

/// Written to after `since`.
fn is_newer(path: &Path, since: Timestamp) -> bool {
    let written = std::fs::metadata(path).and_then(|found| found.modified());
    let written = written.ok().and_then(|time| Timestamp::try_from(time).ok());
    written.is_none_or(|written| written >= since)
}

/// `None` when it is gone; one that was compressed a moment ago is not.
async fn open_rotated(path: &Path) -> io::Result<Option<LogFile>> {
    let is_gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let opened = if log_files::is_compressed(path) {
        LogFile::open_compressed(path).await
    } else {
        match LogFile::open(path).await {
            Err(error) if is_gone(&error) => LogFile::open_compressed(&compressed(path)).await,
            opened => opened,
        }
    };
    match opened {
        Err(error) if is_gone(&error) => Ok(None),
        opened => opened.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    async fn text(files: &mut [LogFile]) -> String {
        let mut text = Vec::new();
        for file in files {
            while file.read_lines(|line| text.push(String::from_utf8(line.to_vec()).unwrap())).await.unwrap()
            {
            }
        }
        text.join(" ")
    }

    async fn read(log: &Path, query: LogQuery) -> String {
        text(&mut open(log, &query).await.unwrap()).await
    }

    fn compress(path: &Path, text: &str) {
        let mut encoder = GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
    }

    /// However far it is behind: between two of its looks the log was rotated, twice, three times.
    #[tokio::test]
    async fn a_reader_that_lags_misses_no_file() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        let name = |suffix: &str| directory.path().join(format!("0.log.{suffix}"));
        compress(&name("20200101-000001.gz"), "old\n");
        std::fs::write(&log, "a\n").unwrap();
        let mut files = open(&log, &LogQuery { tail_lines: Some(1), ..LogQuery::default() }).await.unwrap();
        let rotate = |number: u32, next: &str| {
            std::fs::rename(&log, name(&format!("20200101-00000{number}"))).unwrap();
            std::fs::write(&log, next).unwrap();
        };
        rotate(2, "b\n");
        assert_eq!(text(&mut since(&log, &files[0]).await.unwrap()).await, "b");
        rotate(3, "c\n");
        assert_eq!(text(&mut since(&log, &files[0]).await.unwrap()).await, "b c");
        compress(&name("20200101-000002.gz"), "a\n");
        assert_eq!(text(&mut since(&log, &files[0]).await.unwrap()).await, "b c", "it is there twice");
        std::fs::remove_file(name("20200101-000002")).unwrap();
        let mut later = since(&log, &files[0]).await.unwrap();
        assert_eq!(text(&mut later).await, "b c");
        rotate(4, "d\n");
        assert_eq!(text(&mut since(&log, later.last().unwrap()).await.unwrap()).await, "d");
        assert_eq!(text(&mut files).await, "a", "what is open is read to its end");
    }

    #[tokio::test]
    async fn rotated_files_are_part_of_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        let name = |suffix: &str| directory.path().join(format!("0.log.{suffix}"));
        compress(&name("20200101-000001.gz"), "a\nb\n");
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
