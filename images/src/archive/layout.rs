//! Reads one image out of a directory in the OCI image layout, as skopeo, umoci and BuildKit write it.

use super::load::{Loading, MAX_DEPTH, bounded};
use crate::archive::{INDEX, NAME_ANNOTATION, REF_ANNOTATION};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::manifest::{Descriptor, Document, Index, MAX_MANIFEST, Manifest};
use crate::platform::Platform;
use crate::store::parts::Parts;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

const BUFFER: usize = 256 << 10;

/// The image with this tag or digest; where neither is said, `latest`, or the only one.
pub(crate) fn load_layout(
    parts: &Parts,
    directory: &Path,
    wanted: Option<&str>,
    platform: &Platform,
) -> Result<Image> {
    let failed = |error: Error| error.context(format_args!("OCI layout {}", directory.display()));
    let layout = Layout { directory };
    layout.load(parts, wanted, platform).map_err(failed)
}

struct Layout<'a> {
    directory: &'a Path,
}

impl Layout<'_> {
    fn load(&self, parts: &Parts, wanted: Option<&str>, platform: &Platform) -> Result<Image> {
        let index = self.read(&self.directory.join(INDEX))?;
        let Document::Index(index) = Document::parse(&index, None)? else {
            return Err(Error::invalid("index.json: is not an index"));
        };
        let (digest, manifest) = self.manifest(choose(&index, wanted)?, platform)?;
        let mut loading = Loading::new(parts, Some(platform))?;
        let named = [&digest, &manifest.config.digest];
        for blob in named.into_iter().chain(manifest.layers.iter().map(|layer| &layer.digest)) {
            let file = self.open(&self.blob(blob))?;
            let size = file.metadata().map_err(|e| Error::io("fstat", e))?.len();
            let mut content = BufReader::with_capacity(BUFFER, file);
            loading.keep(&format!("blobs/sha256/{}", blob.hex()), size, &mut content)?;
        }
        loading.install(&manifest, digest, BTreeSet::new())
    }

    /// Follows indexes to the manifest for the platform.
    fn manifest(&self, start: &Descriptor, platform: &Platform) -> Result<(Digest, Manifest)> {
        let mut digest = start.digest.clone();
        for _ in 0..MAX_DEPTH {
            let bytes = self.read(&self.blob(&digest))?;
            match Document::parse(&bytes, None)? {
                Document::Manifest(manifest) => return Ok((digest, manifest)),
                Document::Index(index) => digest = platform.choose(&index.manifests)?.digest.clone(),
            }
        }
        Err(Error::invalid("too many nested indexes"))
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join("blobs/sha256").join(digest.hex())
    }

    fn open(&self, path: &Path) -> Result<File> {
        File::open(path).map_err(|error| Error::path("open", path, error))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        bounded(&mut BufReader::new(self.open(path)?), MAX_MANIFEST)
    }
}

fn choose<'a>(index: &'a Index, wanted: Option<&str>) -> Result<&'a Descriptor> {
    let called = |one: &&Descriptor, name: &str| {
        let names = [REF_ANNOTATION, NAME_ANNOTATION].map(|key| one.annotations.get(key));
        one.digest.as_str() == name || names.into_iter().flatten().any(|known| known == name)
    };
    let found = |name: &str| index.manifests.iter().find(|one| called(one, name));
    match (wanted, &index.manifests[..]) {
        (None, [only]) => Ok(only),
        (wanted, _) => {
            let name = wanted.unwrap_or("latest");
            found(name).ok_or_else(|| Error::new(ErrorKind::NotFound, format!("has no image {name}")))
        }
    }
}
