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

/// The size in a PAX record moves the walk: reading the header's own would show an entry hidden in the content.
#[test]
fn a_pax_size_decides_where_the_next_entry_is() {
    let hidden = ArchiveBuilder::of(&[Item::file("hidden", "")]);
    let mut outer = ArchiveBuilder::of(&[Item::file("outer", "")]);
    outer.truncate(512);
    let pax = {
        let body = format!("size={}\n", hidden.len());
        let length = body.len() + 3;
        let mut archive = ArchiveBuilder::of(&[Item::file("pax", &format!("{length} {body}"))]);
        archive.truncate(1024);
        archive[156] = b'x';
        let sum: u32 =
            archive[..148].iter().chain(b"        ").chain(&archive[156..512]).map(|b| u32::from(*b)).sum();
        archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive
    };
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
