//! Reads an archive of either format, from a pipe as well as from a file.

use crate::archive::{DOCKER_MANIFEST, DockerImage, INDEX, NAME_ANNOTATION, REF_ANNOTATION};
use crate::content::{ContentStore, put};
use crate::digest::{Digest, Hashing};
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::import::adopt;
use crate::inspect::read_bytes;
use crate::install::{Naming, install_stored, list_image};
use crate::layer::compression::{Compression, detect};
use crate::layer::entry::TreePath;
use crate::layer::expansion::expand;
use crate::layer::limits::{Limits, check_free_space};
use crate::layer::tar_reader::{RawEntry, TarReader};
use crate::lease::Lease;
use crate::manifest::{ConfigCore, Descriptor, Document, MAX_CONFIG, MAX_MANIFEST, Manifest};
use crate::media_type;
use crate::platform::Platform;
use crate::reference::Reference;
use crate::store::parts::Parts;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Write};

/// Members that are neither documents nor blobs by digest; each costs a file.
const MAX_MEMBERS: usize = 10_000;
/// The free space is looked at once per so many bytes.
const SPACE_CHECK: u64 = 64 << 20;
/// An index in an index in an index.
pub(super) const MAX_DEPTH: usize = 3;

/// Where a platform is asked for, an archive of several has the image for it; of one for another, nothing is kept.
pub(crate) fn load(parts: &Parts, reader: &mut dyn Read, platform: Option<&Platform>) -> Result<Vec<Image>> {
    let mut loading = Loading::new(parts, platform)?;
    let limits = Limits::default();
    let mut archive = TarReader::new(BufReader::with_capacity(256 << 10, expand(reader, limits)?), limits);
    while let Some(entry) = archive.next()? {
        let name = TreePath::clean(&entry.path).to_string();
        let result = loading.member(&entry, name.trim_start_matches('/'), &mut archive.data());
        result.map_err(|error| error.context(format_args!("archive member {name}")))?;
    }
    archive.drain()?;
    let names = loading.docker_names()?;
    match (loading.index.take(), loading.docker.take()) {
        (Some(index), _) => loading.oci(&index, &names),
        (None, Some(images)) => loading.docker(&images),
        (None, None) => Err(Error::invalid("archive: has neither index.json nor manifest.json")),
    }
}

pub(super) struct Loading<'a> {
    parts: &'a Parts,
    index: Option<Vec<u8>>,
    docker: Option<Vec<DockerImage>>,
    /// Where each member's bytes are now.
    members: HashMap<String, Descriptor>,
    /// `docker save` links layers that it has already written.
    links: HashMap<String, String>,
    lease: Lease,
    platform: Option<&'a Platform>,
}

impl<'a> Loading<'a> {
    pub(super) fn new(parts: &'a Parts, platform: Option<&'a Platform>) -> Result<Self> {
        Ok(Self {
            parts,
            index: None,
            docker: None,
            members: HashMap::new(),
            links: HashMap::new(),
            lease: parts.leases.take(std::iter::empty())?,
            platform,
        })
    }

    fn member(&mut self, entry: &RawEntry, name: &str, content: &mut dyn BufRead) -> Result<()> {
        if self.members.len() + self.links.len() >= MAX_MEMBERS {
            return Err(Error::invalid(format!("more than {MAX_MEMBERS} members")));
        }
        match entry.kind {
            b'1' | b'2' => {
                let base =
                    if entry.kind == b'1' { "" } else { name.rsplit_once('/').map_or("", |(dir, _)| dir) };
                let target = TreePath::clean(base.as_bytes()).join(&entry.link).to_string();
                self.links.insert(name.to_owned(), target.trim_start_matches('/').to_owned());
            }
            b'0' | 0 => match name {
                INDEX => self.index = Some(bounded(content, MAX_MANIFEST)?),
                DOCKER_MANIFEST => {
                    let text = bounded(content, MAX_MANIFEST)?;
                    let images = serde_json::from_slice(&text).map_err(|e| Error::invalid(e.to_string()))?;
                    self.docker = Some(images);
                }
                "oci-layout" | "repositories" | "VERSION" => {}
                name => self.keep(name, entry.size, content)?,
            },
            _ => {}
        }
        Ok(())
    }

    /// Keeps a member as a blob.
    pub(super) fn keep(&mut self, name: &str, size: u64, content: &mut dyn BufRead) -> Result<()> {
        let promised = name.strip_prefix("blobs/sha256/").map(|hex| Digest::parse(&format!("sha256:{hex}")));
        let failed = |e| Error::io("create a file in the store", e);
        let file = self.parts.temporary_file()?;
        let mut writer = Hashing::new(std::io::BufWriter::with_capacity(256 << 10, file));
        let root =
            std::fs::File::open(&self.parts.root).map_err(|e| Error::path("open", &self.parts.root, e))?;
        let mut part = || std::io::copy(&mut (&mut *content).take(SPACE_CHECK), &mut writer);
        while part().map_err(|e| Error::io("store", e))? > 0 {
            check_free_space(&root)?;
        }
        writer.flush().map_err(failed)?;
        let (digest, written, buffer) = writer.finish();
        let file = buffer.into_inner().map_err(|e| failed(e.into_error()))?;
        if let Some(promised) = promised {
            promised?.verify(&digest, "blob")?;
        }
        let blob = Descriptor::new("", digest, written);
        debug_assert!(written <= size || size == 0);
        self.parts.leases.extend(&self.lease, [&blob.digest].into_iter())?;
        adopt(self.parts, file, &blob)?;
        self.members.insert(name.to_owned(), blob);
        Ok(())
    }

    fn find(&self, name: &str) -> Result<&Descriptor> {
        let mut name = TreePath::clean(name.as_bytes()).to_string().trim_start_matches('/').to_owned();
        for _ in 0..MAX_DEPTH {
            if let Some(found) = self.members.get(&name) {
                return Ok(found);
            }
            match self.links.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        Err(Error::new(ErrorKind::NotFound, format!("archive: has no member {name}")))
    }

    /// Names by config digest, from the manifest.json that stands beside an OCI index.
    fn docker_names(&self) -> Result<HashMap<Digest, Vec<String>>> {
        let mut names: HashMap<Digest, Vec<String>> = HashMap::new();
        for image in self.docker.iter().flatten() {
            let tags = image.repo_tags.iter().flatten().cloned();
            names.entry(self.find(&image.config)?.digest.clone()).or_default().extend(tags);
        }
        Ok(names)
    }

    fn oci(&mut self, index: &[u8], names: &HashMap<Digest, Vec<String>>) -> Result<Vec<Image>> {
        let Document::Index(index) = Document::parse(index, Some(media_type::OCI_INDEX))? else {
            return Err(Error::invalid("index.json: is not an index"));
        };
        let mut found: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
        for descriptor in &index.manifests {
            let manifest = self.manifest_of(&descriptor.digest)?;
            found.entry(manifest).or_default().extend(annotated_name(&descriptor.annotations));
        }
        let mut images = Vec::new();
        for (digest, tags) in found {
            let bytes = read_bytes(self.parts, &digest, MAX_MANIFEST)?;
            let Document::Manifest(manifest) = Document::parse(&bytes, None)? else {
                return Err(Error::invalid("archive: manifest expected"));
            };
            let more = names.get(&manifest.config.digest).into_iter().flatten().cloned();
            images.push(self.install(&manifest, digest, tags.into_iter().chain(more).collect())?);
        }
        Ok(images)
    }

    /// Follows indexes to the manifest for this machine.
    fn manifest_of(&self, digest: &Digest) -> Result<Digest> {
        let mut digest = digest.clone();
        let wanted = self.platform.cloned().unwrap_or_else(Platform::host);
        for _ in 0..MAX_DEPTH {
            match Document::parse(&read_bytes(self.parts, &digest, MAX_MANIFEST)?, None)? {
                Document::Manifest(_) => return Ok(digest),
                Document::Index(index) => digest = wanted.choose(&index.manifests)?.digest.clone(),
            }
        }
        Err(Error::invalid("archive: too many nested indexes"))
    }

    fn docker(&mut self, images: &[DockerImage]) -> Result<Vec<Image>> {
        let mut loaded = Vec::new();
        for image in images {
            let mut config = self.find(&image.config)?.clone();
            media_type::OCI_CONFIG.clone_into(&mut config.media_type);
            let layers: Vec<Descriptor> =
                image.layers.iter().map(|name| self.layer(self.find(name)?)).collect::<Result<_>>()?;
            let bytes = Manifest::oci(config, layers, Default::default())?;
            self.parts.leases.extend(&self.lease, [&Digest::of(&bytes)].into_iter())?;
            let digest = put(&self.parts.content, &bytes)?;
            let Document::Manifest(manifest) = Document::parse(&bytes, None)? else {
                return Err(Error::invalid("archive: manifest expected"));
            };
            let tags = image.repo_tags.clone().unwrap_or_default();
            loaded.push(self.install(&manifest, digest, tags.into_iter().collect())?);
        }
        Ok(loaded)
    }

    fn layer(&self, blob: &Descriptor) -> Result<Descriptor> {
        let mut start = Vec::new();
        let mut file = self.parts.content.open(&blob.digest)?.take(8);
        file.read_to_end(&mut start).map_err(|e| Error::io("read layer", e))?;
        let media_type = match detect(&start)? {
            Compression::Plain => media_type::OCI_LAYER.to_owned(),
            Compression::Gzip => media_type::OCI_LAYER_GZIP.to_owned(),
            Compression::Zstd => format!("{}+zstd", media_type::OCI_LAYER),
        };
        Ok(Descriptor { media_type, ..blob.clone() })
    }

    /// Docker's refusal; an image that does not say what it is for is for any.
    fn fits(&self, config: &[u8], names: &BTreeSet<String>) -> Result<()> {
        let Some(wanted) = self.platform else { return Ok(()) };
        let own: Platform = serde_json::from_slice(config).unwrap_or_default();
        if own.architecture.is_empty() || (own.os == wanted.os && own.architecture == wanted.architecture) {
            return Ok(());
        }
        let name = names.first().cloned().unwrap_or_else(|| Digest::of(config).to_string());
        Err(Error::new(
            ErrorKind::NotFound,
            format!(
                "image with reference {name} was found but does not provide the specified platform ({wanted})"
            ),
        ))
    }

    pub(super) fn install(
        &mut self,
        manifest: &Manifest,
        digest: Digest,
        names: BTreeSet<String>,
    ) -> Result<Image> {
        manifest.check_layers()?;
        let config = read_bytes(self.parts, &manifest.config.digest, MAX_CONFIG)?;
        self.fits(&config, &names)?;
        let plan = ConfigCore::parse(&config, manifest)?;
        let tags: BTreeSet<String> = names
            .iter()
            .map(|name| Ok(Reference::parse(name)?.tagged()))
            .filter_map(Result::transpose)
            .collect::<Result<_>>()?;
        let protected: Vec<Digest> = plan.iter().map(|layer| layer.chain_id.clone()).collect();
        self.parts.leases.extend(&self.lease, protected.iter())?;
        plan.iter().try_for_each(|layer| install_stored(self.parts, layer))?;
        let naming = Naming {
            manifest: digest,
            index: None,
            config: manifest.config.digest.clone(),
            size: manifest.total_size(),
            tags: tags.clone(),
            digest: None,
        };
        let image = list_image(self.parts, &plan, naming)?;
        Ok(Image { tags: tags.into_iter().collect(), ..image })
    }
}

/// The whole name where there is one; a bare tag names nothing by itself.
fn annotated_name(annotations: &BTreeMap<String, String>) -> Option<String> {
    let whole = annotations.get(NAME_ANNOTATION);
    let short = annotations.get(REF_ANNOTATION).filter(|name| name.contains([':', '/']));
    whole.or(short).cloned()
}

pub(super) fn bounded(content: &mut dyn BufRead, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.take(limit + 1).read_to_end(&mut bytes).map_err(|e| Error::io("read", e))?;
    if bytes.len() as u64 > limit {
        Err(Error::invalid(format!("larger than {limit} bytes")))
    } else {
        Ok(bytes)
    }
}
