//! Saving and loading, with our own eyes and with those of Docker's older format.

use crate::lab::{Store, busybox_tree};
use knarr_images::{Format, ImportConfig};

#[test]
fn what_is_saved_loads_again() {
    let tree = busybox_tree();
    let here = Store::new();
    let image = here.store.import(tree.path(), "example.com/busybox:1", ImportConfig::default()).unwrap();
    here.store.tag(&image, "example.com/other:2").unwrap();
    let names = ["example.com/busybox:1".to_owned(), "example.com/other:2".to_owned()];
    for format in [Format::Oci, Format::Docker] {
        let mut archive = Vec::new();
        here.store.save(&names, format, &mut archive).unwrap();
        let mut again = Vec::new();
        here.store.save(&names, format, &mut again).unwrap();
        assert!(archive == again, "the same images, the same bytes");
        let there = Store::new();
        let loaded = there.store.load(&mut &archive[..]).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].id, image.id, "{format:?}");
        assert_eq!(loaded[0].tags, names);
        let mounts = there.store.prepare("c", &loaded[0]).unwrap();
        there.with_mount(&mounts, |root| {
            assert_eq!(std::fs::read_to_string(root.join("etc/motd")).unwrap(), "hello from knarr\n");
        });
    }
}

#[test]
fn archives_that_are_none() {
    let store = Store::new();
    for bytes in [&b""[..], b"no tar at all", &[0; 1024]] {
        assert!(store.store.load(&mut &bytes[..]).is_err());
    }
    let mut builder = tar::Builder::new(Vec::new());
    let mut member = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        builder.append_data(&mut header, name, data).unwrap();
    };
    member("index.json", br#"{"schemaVersion":2,"manifests":[]}"#);
    member(&format!("blobs/sha256/{}", "a".repeat(64)), b"not what it says");
    let archive = builder.into_inner().unwrap();
    let error = store.store.load(&mut &archive[..]).unwrap_err();
    assert!(error.to_string().contains("digest is"), "{error}");
    assert_eq!(store.store.list().unwrap(), []);
    assert_eq!(store.names("staging"), [""; 0]);
}
