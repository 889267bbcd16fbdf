//! Which image a user means.

use crate::catalog::{Catalog, Record};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::reference::Reference;

/// By name first, then by digest, then by id or a prefix of it that only one image has.
pub(crate) fn find(catalog: &Catalog, name: &str) -> Result<Option<Image>> {
    Ok(locate(catalog, name)?.and_then(|id| catalog.images.get(&id).map(|record| record.image(&id))))
}

fn locate(catalog: &Catalog, name: &str) -> Result<Option<Digest>> {
    if let Ok(reference) = Reference::parse(name)
        && let Some(id) = by_reference(catalog, &reference)
    {
        return Ok(Some(id));
    }
    let prefix = name.strip_prefix("sha256:").unwrap_or(name);
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut ids = catalog.images.iter().filter(|(id, record)| {
        id.hex().starts_with(prefix)
            || record.manifest.hex() == prefix
            || record.index.as_ref().is_some_and(|index| index.hex() == prefix)
    });
    match (ids.next(), ids.next()) {
        (Some(_), Some(_)) => Err(Error::invalid(format!("image id {name} is ambiguous"))),
        (found, _) => Ok(found.map(|(id, _)| id.clone())),
    }
}

fn by_reference(catalog: &Catalog, reference: &Reference) -> Option<Digest> {
    let wanted = reference.to_string();
    let has = |(_, record): &(&Digest, &crate::catalog::Record)| {
        record.tags.contains(&wanted) || record.digests.contains(&wanted)
    };
    catalog.images.iter().find(has).map(|(id, _)| id.clone())
}

/// Takes one name away; an image without any name goes, unless it is pinned. By id: all names.
pub(crate) fn untag(catalog: &mut Catalog, name: &str) -> Result<()> {
    let id = take_name(catalog, name)?;
    let nameless = |record: &Record| record.tags.is_empty() && record.digests.is_empty() && !record.pinned;
    if catalog.images.get(&id).is_some_and(nameless) {
        catalog.images.remove(&id);
    }
    Ok(())
}

/// The same for the name alone; answers whose it was.
pub(crate) fn take_name(catalog: &mut Catalog, name: &str) -> Result<Digest> {
    let missing = || Error::new(ErrorKind::NotFound, format!("{name}: image not known"));
    let id = locate(catalog, name)?.ok_or_else(missing)?;
    let Some(record) = catalog.images.get_mut(&id) else { return Err(missing()) };
    let reference = Reference::parse(name).ok().map(|reference| reference.to_string());
    let named = reference.filter(|name| record.tags.contains(name) || record.digests.contains(name));
    match named {
        None => {
            record.tags.clear();
            record.digests.clear();
        }
        Some(name) => {
            record.tags.remove(&name);
            record.digests.remove(&name);
            // A digest alone keeps no image that was pulled by its tag.
            if record.tags.is_empty() && !name.contains('@') {
                record.digests.clear();
            }
        }
    }
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> (Catalog, Digest) {
        let mut catalog = Catalog::default();
        let record = |tag: &str| Record {
            manifest: Digest::of(tag.as_bytes()),
            index: None,
            blobs: Vec::new(),
            chain: Vec::new(),
            size: 0,
            pinned: false,
            pulled: 0,
            tags: [tag.to_owned()].into(),
            digests: [format!("docker.io/library/busybox@{}", Digest::of(tag.as_bytes()))].into(),
            signatures: Vec::new(),
        };
        let id = Digest::of(b"1");
        catalog.insert(&id, record("docker.io/library/busybox:latest"));
        catalog.insert(&Digest::of(b"2"), record("127.0.0.1:5000/app:1"));
        (catalog, id)
    }

    #[test]
    fn by_every_name() {
        let (catalog, id) = catalog();
        let digest = format!("busybox@{}", Digest::of(b"docker.io/library/busybox:latest"));
        for name in ["busybox", "docker.io/library/busybox", id.as_str(), id.hex(), &id.hex()[..12], &digest]
        {
            assert_eq!(find(&catalog, name).unwrap().unwrap().id, id.as_str(), "{name}");
        }
        for name in ["busybox:2", "nothing", "", "ffffffffffff", "!!"] {
            assert_eq!(find(&catalog, name).unwrap(), None, "{name}");
        }
    }

    #[test]
    fn an_ambiguous_prefix_is_an_error() {
        // Both ids of the catalog, found by a search over their first digits.
        let (mut catalog, id) = catalog();
        let record = catalog.images[&id].clone();
        let first = &id.hex()[..1];
        let twin =
            (0u32..).map(|n| Digest::of(&n.to_le_bytes())).find(|d| d.hex().starts_with(first)).unwrap();
        catalog.images.insert(twin, record);
        assert!(find(&catalog, first).unwrap_err().to_string().contains("ambiguous"));
    }

    #[test]
    fn the_last_name_takes_the_image_along() {
        let (mut catalog, id) = catalog();
        catalog.images.get_mut(&id).unwrap().tags.insert("docker.io/library/busybox:2".into());
        untag(&mut catalog, "busybox:2").unwrap();
        assert!(catalog.images.contains_key(&id));
        untag(&mut catalog, "busybox").unwrap();
        assert!(!catalog.images.contains_key(&id));
        assert_eq!(untag(&mut catalog, "busybox").unwrap_err().kind(), ErrorKind::NotFound);
    }
}
