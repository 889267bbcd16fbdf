//! An image of a container: what it wrote becomes one more layer, and the image's config may be changed on the way.

use crate::build::base;
use crate::build::config::{Draft, next_layer};
use crate::build::describe::{Words, describe};
use crate::build::instruction::{Instruction, parse};
use crate::build::listed::{Told, list_draft};
use crate::build::scope::Arguments;
use crate::build::source::read;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::import::{adopt, compress};
use crate::install::install_stored;
use crate::layer::entry::TreePath;
use crate::layer::pack::{Packed, Packing, pack_as};
use crate::lease::Lease;
use crate::reference::Reference;
use crate::store::parts::Parts;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What the image is to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// Its name; none where absent.
    pub name: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// What for.
    pub message: Option<String>,
    /// Dockerfile instructions that describe it.
    pub changes: Vec<String>,
    /// Places that were made to mount something at: left out where they are empty.
    pub mount_points: Vec<PathBuf>,
}

/// Commits the snapshot, which stands on the image. Nothing may write to it meanwhile.
pub(crate) fn commit(parts: &Parts, key: &str, image: &str, request: &Commit) -> Result<Image> {
    let tags = tags(request)?;
    let catalog = parts.catalog.read()?;
    let (id, record) = catalog.expect(image)?;
    let _base = parts.leases.take(record.content().chain(&record.chain).chain([id]))?;
    let mut draft = base::draft(parts, id, record)?;
    let (upper, parent) = parts.snapshots.writes(key)?;
    if draft.top() != parent.as_ref() {
        return Err(Error::invalid(format!("snapshot {key} does not stand on image {image}")));
    }
    let _layer = add_layer(parts, &mut draft, &upper, request)?;
    for text in &request.changes {
        change(&mut draft, text)?;
    }
    if let Some(author) = &request.author {
        draft.set_author(author);
    }
    let _documents = std::cell::RefCell::new(Vec::new());
    list_draft(parts, &draft, &tags, Told::default(), &|documents| {
        _documents.borrow_mut().push(parts.leases.take(documents.into_iter())?);
        Ok(())
    })
}

fn tags(request: &Commit) -> Result<BTreeSet<String>> {
    let Some(name) = &request.name else { return Ok(BTreeSet::new()) };
    let tag = Reference::parse(name)?.tagged();
    Ok([tag.ok_or_else(|| Error::invalid(format!("{name}: a tag cannot hold a digest")))?].into())
}

/// What was written, as a layer; none where nothing was.
fn add_layer(
    parts: &Parts,
    draft: &mut Draft,
    upper: &std::path::Path,
    request: &Commit,
) -> Result<Option<Lease>> {
    let mut packed = Packed::default();
    let packing = Packing { overlay: true, mount_points: &request.mount_points, ..Packing::default() };
    let (file, blob, diff_id) = compress(parts, |out| {
        packed = pack_as(upper, out, packing)?;
        Ok(())
    })?;
    let mut lease = None;
    if packed.entries > 0 {
        let layer = next_layer(draft.layers.last(), blob, diff_id);
        lease = Some(parts.leases.take([&layer.blob.digest, &layer.chain_id].into_iter())?);
        adopt(parts, file, &layer.blob)?;
        install_stored(parts, &layer)?;
        draft.push(layer.blob, layer.diff_id, packed.newest);
    }
    draft.remember("knarr commit", packed.entries > 0);
    if let Some(message) = &request.message {
        draft.comment(message);
    }
    Ok(lease)
}

/// Applies a Dockerfile instruction that only describes.
pub(crate) fn change(draft: &mut Draft, text: &str) -> Result<()> {
    describe_more(draft, text).map_err(|error| error.context(format_args!("--change {text:?}")))
}

fn describe_more(draft: &mut Draft, text: &str) -> Result<()> {
    let (arguments, given) = (Arguments::default(), BTreeMap::new());
    let words = Words { arguments: &arguments, given: &given, escape: '\\' };
    for line in read(text)?.lines {
        let located = parse(&line, '\\')?;
        match &located.instruction {
            Instruction::Workdir(path) => {
                let path = TreePath::clean(draft.workdir().as_bytes()).join(path.as_bytes());
                draft.set("WorkingDir", json!(path.to_string()));
            }
            Instruction::From { .. }
            | Instruction::Run { .. }
            | Instruction::Copy(_)
            | Instruction::Arg(_)
            | Instruction::Maintainer(_) => {
                let word = located.text.split_whitespace().next().unwrap_or_default();
                return Err(Error::invalid(format!("{word} is not a valid change command")));
            }
            other => describe(draft, &words, other)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_describe_and_do_nothing_else() {
        let mut draft = Draft::scratch(&crate::platform::Platform::host());
        for text in
            ["CMD [\"a\", \"b\"]", "ENV X=1 Y=two", "WORKDIR /a", "WORKDIR b", "EXPOSE 80", "LABEL l=m"]
        {
            change(&mut draft, text).unwrap();
        }
        let document: serde_json::Value = serde_json::from_slice(&draft.document(None).unwrap()).unwrap();
        let config = &document["config"];
        assert_eq!((&config["Cmd"], &config["WorkingDir"]), (&json!(["a", "b"]), &json!("/a/b")));
        assert_eq!(
            (&config["ExposedPorts"], &config["Labels"]),
            (&json!({"80/tcp": {}}), &json!({"l": "m"}))
        );
        for wrong in ["RUN x", "COPY a b", "NONSENSE x"] {
            assert!(change(&mut draft, wrong).is_err(), "{wrong}");
        }
    }
}
