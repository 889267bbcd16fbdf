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
        let loaded = there.store.load(&mut &archive[..], None).unwrap();
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
        assert!(store.store.load(&mut &bytes[..], None).is_err());
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
    let error = store.store.load(&mut &archive[..], None).unwrap_err();
    assert!(error.to_string().contains("digest is"), "{error}");
    assert_eq!(store.store.list().unwrap(), []);
    assert_eq!(store.names("staging"), [""; 0]);
}

/// One member after the other: name, link target where it is a link, content.
fn members(all: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, link, content) in all {
        let mut header = tar::Header::new_gnu();
        let bytes = &mut header.as_gnu_mut().unwrap().name;
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        if let Some(target) = link {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_link_name_literal(target).unwrap();
        }
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// CVE-2025-11395: no member's name or link is a path of this machine, and a layer inside stays inside.
#[test]
fn members_that_lead_outside_are_only_names() {
    let victim = tempfile::tempdir().unwrap();
    let secret = victim.path().join("secret").display().to_string();
    std::fs::write(&secret, "secret").unwrap();
    let elsewhere = format!("{secret}-directory");
    let climbing = format!("{}{}", "../".repeat(12), secret.trim_start_matches('/'));
    let config = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["DIFF"]}}"#;
    let manifest =
        |layer: &str| format!(r#"[{{"Config":"c.json","RepoTags":["evil:1"],"Layers":["{layer}"]}}]"#);
    let layer =
        members(&[(&climbing, None, b"overwritten"), ("out", Some(&elsewhere), b""), ("out/x", None, b"1")]);
    let config = config.replace("DIFF", &crate::fake_registry::sha256(&layer));
    // The layer is a member with a climbing name of its own, once directly and once by a link.
    for (name, link) in [(climbing.as_str(), None), ("layer.tar", Some(climbing.as_str()))] {
        let there = Store::new();
        let named = manifest(name);
        let mut all = vec![(climbing.as_str(), None, &layer[..]), ("c.json", None, config.as_bytes())];
        if link.is_some() {
            all.push((name, link, b""));
        }
        all.push(("manifest.json", None, named.as_bytes()));
        let loaded = there.store.load(&mut &members(&all)[..], None).unwrap();
        let mounts = there.store.view("v", &loaded[0]).unwrap();
        there.with_mount(&mounts, |root| {
            let inside =
                |path: &str| std::fs::read_to_string(root.join(path.trim_start_matches('/'))).unwrap();
            assert_eq!(inside(&secret), "overwritten");
            assert_eq!(inside(&format!("{elsewhere}/x")), "1", "the link was followed inside");
        });
        there.store.remove_snapshot("v").unwrap();
    }
    // A link to a file of this machine finds no member of that name.
    let there = Store::new();
    let named = manifest("layer.tar");
    let all = [
        ("layer.tar", Some(secret.as_str()), &b""[..]),
        ("c.json", None, config.as_bytes()),
        ("manifest.json", None, named.as_bytes()),
    ];
    let error = there.store.load(&mut &members(&all)[..], None).unwrap_err();
    assert!(error.to_string().contains("has no member"), "{error}");
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
    assert_eq!(std::fs::read_dir(victim.path()).unwrap().count(), 1);
}

/// CVE-2023-25153: documents are read into memory, so they have a limit, compressed or not.
#[test]
fn documents_without_an_end_are_refused() {
    let there = Store::new();
    for name in ["index.json", "manifest.json"] {
        let archive = members(&[(name, None, &vec![b' '; 5 << 20])]);
        for bytes in [archive.clone(), crate::fake_registry::gzip(&archive)] {
            let error = there.store.load(&mut &bytes[..], None).unwrap_err();
            assert!(error.to_string().contains("larger than 4194304 bytes"), "{error}");
        }
    }
    assert_eq!(there.names("staging"), [""; 0]);
}

/// CVE-2024-25621: layers hold setuid programs of strangers.
#[test]
fn nobody_else_on_the_host_reaches_a_layer() {
    use std::os::unix::fs::PermissionsExt;
    let there = Store::new();
    assert_eq!(std::fs::metadata(there.root()).unwrap().permissions().mode() & 0o777, 0o700);
}
