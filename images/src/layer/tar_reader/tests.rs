//! Archives of every dialect, and bytes that are none.

use super::*;
use crate::layer::archive_builder::{ArchiveBuilder, Item};
use proptest::prelude::*;

fn names(archive: &[u8]) -> Result<Vec<String>> {
    let mut reader = TarReader::new(archive, Limits::default());
    let mut names = Vec::new();
    while let Some(entry) = reader.next()? {
        names.push(String::from_utf8_lossy(&entry.path).into_owned());
    }
    Ok(names)
}

#[test]
fn what_the_tar_crate_writes() {
    let mut builder = tar::Builder::new(Vec::new());
    let long = "long/".repeat(60) + "name";
    for name in ["short", &long] {
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        builder.append_data(&mut header, name, &b"abc"[..]).unwrap();
    }
    let archive = builder.into_inner().unwrap();
    assert_eq!(names(&archive).unwrap(), ["short".to_owned(), long]);
}

/// An extension header without the entry it belongs to.
fn extension(kind: u8, content: &str) -> Vec<u8> {
    let mut archive = ArchiveBuilder::of(&[Item::file("extension", content)]);
    archive.truncate(archive.len() - 1024);
    archive[156] = kind;
    ArchiveBuilder::mend_checksums(&mut archive);
    archive
}

/// Each is short enough, and all of them would be kept: before one entry, or for ever.
#[test]
fn many_headers_before_one_entry_are_refused() {
    let record = format!("500011 comment={}\n", "x".repeat(500_011 - 16));
    for kind in *b"xgLK" {
        let few = [extension(kind, &record), ArchiveBuilder::of(&[Item::file("f", "")])].concat();
        assert_eq!(names(&few).unwrap().len(), 1, "{}", char::from(kind));
        let many = [extension(kind, &record).repeat(3), ArchiveBuilder::of(&[Item::file("f", "")])].concat();
        let error = names(&many).unwrap_err().to_string();
        assert!(error.contains("too long"), "{}: {error}", char::from(kind));
    }
    let apart =
        [extension(b'x', &record), ArchiveBuilder::of(&[Item::file("f", "")])[..512].to_vec()].concat();
    assert_eq!(names(&apart.repeat(5)).unwrap().len(), 5, "before several entries they may stand");
}

/// The size in a PAX record moves the walk: reading the header's own would show an entry hidden in the content.
#[test]
fn a_pax_size_decides_where_the_next_entry_is() {
    let hidden = ArchiveBuilder::of(&[Item::file("hidden", "")]);
    let mut outer = ArchiveBuilder::of(&[Item::file("outer", "")]);
    outer.truncate(512);
    let body = format!("size={}\n", hidden.len());
    let pax = extension(b'x', &format!("{} {body}", body.len() + 3));
    let archive = [pax, outer, hidden, ArchiveBuilder::of(&[Item::file("last", "")])].concat();
    assert_eq!(names(&archive).unwrap(), ["outer", "last"]);
}

#[test]
fn positions_point_at_the_content() {
    let archive =
        ArchiveBuilder::of(&[Item::file("a", "first"), Item::file("b", "second").xattr("user.x", b"y")]);
    let mut reader = TarReader::new(&archive[..], Limits::default());
    let mut found = Vec::new();
    while let Some(entry) = reader.next().unwrap() {
        let start = usize::try_from(reader.position()).unwrap();
        found.push(archive[start..][..usize::try_from(entry.size).unwrap()].to_vec());
    }
    assert_eq!(found, [b"first".to_vec(), b"second".to_vec()]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = names(&bytes);
    }

    #[test]
    fn damaged_archives_never_panic(at in 0usize..4096, byte in any::<u8>()) {
        let mut archive = ArchiveBuilder::of(&[
            Item::sparse("s", 4096, &[(0, b"ab"), (100, b"c")]),
            Item::file("f", "content").xattr("user.a", b"b"),
            Item::symlink("l", "f"),
        ]);
        let at = at % archive.len();
        archive[at] = byte;
        let _ = names(&archive);
    }
}
