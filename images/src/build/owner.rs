//! `--chown`, and whose directories WORKDIR makes: names are looked up in the image's own files.

use crate::build::tree::Tree;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::entry::TreePath;
use std::io::Read;

/// Far more than any real passwd or group file.
const LIMIT: u64 = 1 << 20;

/// `user[:group]`, names or numbers. A number without a group is its own group; a name has its group of passwd.
pub(crate) fn resolve(text: &str, root: &Tree) -> Result<(u32, u32)> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let (uid, own_group) = match user.parse::<u32>() {
        Ok(uid) => (uid, uid),
        Err(_) if user.is_empty() => (0, 0),
        Err(_) => entry(root, "etc/passwd", user)?,
    };
    let gid = match group.filter(|group| !group.is_empty()) {
        None => own_group,
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => entry(root, "etc/group", group)?.0,
        },
    };
    Ok((uid, gid))
}

/// The same, but a name that the image does not know is root: whom USER names may come with a later layer.
pub(crate) fn resolve_or_root(text: &str, root: &Tree) -> Result<(u32, u32)> {
    match resolve(text, root) {
        Err(error) if error.kind() == ErrorKind::Invalid => Ok((0, 0)),
        resolved => resolved,
    }
}

/// The third and fourth field of the line that begins with a name.
fn entry(root: &Tree, file: &str, name: &str) -> Result<(u32, u32)> {
    let mut text = String::new();
    let missing =
        || Error::invalid(format!("--chown: unable to convert {name:?} to an id: no such name in /{file}"));
    let found = root.find(file, &Default::default()).map_err(|_| missing())?;
    let path = found
        .first()
        .and_then(|named| named.files.first())
        .map_or_else(TreePath::default, |file| file.path.clone());
    let opened = root.file(&path)?;
    opened.take(LIMIT).read_to_string(&mut text).map_err(|e| Error::io(format_args!("read /{file}"), e))?;
    let line = text
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name));
    let field = |index: usize| line.as_ref().and_then(|fields| fields.get(index)?.parse::<u32>().ok());
    Ok((field(2).ok_or_else(missing)?, field(3).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_images() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/:\nwww:x:33:44::/:\n").unwrap();
        std::fs::write(dir.path().join("etc/group"), "audio:x:29:\n").unwrap();
        let root = Tree::open(dir.path(), Default::default()).unwrap();
        for (text, expected) in [
            ("1000", (1000, 1000)),
            ("www", (33, 44)),
            ("www:audio", (33, 29)),
            ("5:6", (5, 6)),
            (":7", (0, 7)),
        ] {
            assert_eq!(resolve(text, &root).unwrap(), expected, "{text}");
        }
        assert_eq!(resolve_or_root("nobody:audio", &root).unwrap(), (0, 0));
        assert_eq!(resolve_or_root("www", &root).unwrap(), (33, 44));
        assert!(resolve("nobody", &root).unwrap_err().to_string().contains("no such name in /etc/passwd"));
    }
}
