//! Pull: from a name to a listed image, as a pipeline.
//!
//! The manifest and config are fetched and checked first; then layers come in parallel, the largest first. Each is
//! one stream: network, digest, blob file, decompression, diff id, files. Nothing waits for a whole layer. A layer
//! is committed after the layer beneath it (it may inherit directories from there), and the image is listed after
//! one `syncfs`. Whoever else pulls the same layer at the same time, in this process or another, waits for its lock
//! and then finds it there.

use crate::catalog::Catalog;
use crate::content::{ContentStore, put};
use crate::credentials::Credentials;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::{Image, Progress, Pull, tell};
use crate::inspect::read_bytes;
use crate::install::{Naming, Tee, list_image, unpack_into};
use crate::layer::unpack::Unpacked;
use crate::manifest::{ConfigCore, Descriptor, Document, LayerPlan, MAX_CONFIG, Manifest};
use crate::platform::Platform;
use crate::policy::signature::Signature;
use crate::reference::Reference;
use crate::registry::client::RegistryClient;
use crate::registry::download::{document, download};
use crate::registry::{Registry, Resolved};
use crate::snapshot::layers::Stage;
use crate::store::parts::Parts;
use bytes::Bytes;
use futures_util::future::try_join_all;
use std::io::Read;
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, UnboundedSender, channel};
use tokio::sync::{Semaphore, watch};

/// Pieces of a blob between the network and the disk; each is what one read gives, at most `transport::MAX_PIECE`.
const PIECES: usize = 16;

/// Pulls one image.
pub(crate) async fn pull(parts: Arc<Parts>, pull: Pull) -> Result<Image> {
    let reference = Reference::parse(&pull.reference)?;
    let platform = pull.platform.as_deref().map_or_else(|| Ok(Platform::host()), Platform::parse)?;
    let registry = parts.registry(&reference, pull.credentials).await?;
    let named = |error: Error| error.context(format_args!("failed to resolve reference \"{reference}\""));
    let source = Source::choose(registry.as_ref(), &reference, &platform).await.map_err(named)?;
    let signatures = parts.admit(registry.as_ref(), &reference, &source.digests()).await?;
    let progress = pull.progress;
    let work = Work { parts: parts.clone(), registry, reference, progress };
    let result = work.run(&source).await;
    match &result {
        // What was fetched in vain is given back; partial blobs stay for the next attempt.
        Err(_) => drop(blocking(move || parts.update_and_collect(|_| Ok(()))).await?),
        Ok(_) if signatures.is_empty() => {}
        Ok(image) => keep_signatures(parts, image.id.clone(), signatures).await?,
    }
    result
}

/// The config of the image that a name stands for; nothing is kept.
pub(crate) async fn config(
    parts: Arc<Parts>,
    name: &str,
    platform: &str,
    credentials: Option<Credentials>,
) -> Result<serde_json::Value> {
    let (reference, platform) = (Reference::parse(name)?, Platform::parse(platform)?);
    let registry = parts.registry(&reference, credentials).await?;
    let named = |error: Error| error.context(format_args!("failed to resolve reference \"{reference}\""));
    let source = Source::choose(registry.as_ref(), &reference, &platform).await.map_err(named)?;
    let descriptor = source.manifest.config.clone();
    let work = Work { parts, registry, reference, progress: None };
    let bytes = work.config(&descriptor).await?;
    serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("config of {name}: {e}")))
}

/// Before every run they are checked again, without the registry.
async fn keep_signatures(parts: Arc<Parts>, id: String, signatures: Vec<Signature>) -> Result<()> {
    let keep = move |catalog: &mut Catalog| {
        let record = catalog.images.iter_mut().find(|(known, _)| known.as_str() == id);
        if let Some((_, record)) = record {
            record.sign(signatures);
        }
        Ok(())
    };
    blocking(move || parts.update(keep)).await
}

/// Runs what blocks on a thread that may.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(|e| Error::new(ErrorKind::Io, format!("image store: worker failed: {e}")))?
}

/// The documents behind a name, for one platform.
struct Source {
    manifest: Manifest,
    manifest_bytes: Bytes,
    manifest_digest: Digest,
    /// The index it was chosen from.
    index: Option<Resolved>,
}

impl Source {
    async fn choose(registry: &RegistryClient, reference: &Reference, platform: &Platform) -> Result<Self> {
        let top = registry.resolve(reference).await?;
        match Document::parse(&top.bytes, top.content_type.as_deref())? {
            Document::Manifest(manifest) => {
                Ok(Self { manifest, manifest_bytes: top.bytes, manifest_digest: top.digest, index: None })
            }
            Document::Index(index) => {
                let chosen = platform.choose(&index.manifests)?;
                let exact = Reference { digest: Some(chosen.digest.clone()), ..reference.clone() };
                let resolved = registry.resolve(&exact).await?;
                if resolved.bytes.len() as u64 != chosen.size {
                    let (size, expected) = (resolved.bytes.len(), chosen.size);
                    let message = format!("manifest {}: {size} bytes, expected {expected}", chosen.digest);
                    return Err(Error::new(ErrorKind::Mismatch, message));
                }
                let Document::Manifest(manifest) =
                    Document::parse(&resolved.bytes, resolved.content_type.as_deref())?
                else {
                    return Err(Error::invalid("manifest: an index inside an index"));
                };
                let (manifest_bytes, manifest_digest) = (resolved.bytes, resolved.digest);
                Ok(Self { manifest, manifest_bytes, manifest_digest, index: Some(top) })
            }
        }
    }

    /// Those that a signature may be about.
    fn digests(&self) -> Vec<&Digest> {
        [&self.manifest_digest].into_iter().chain(self.index.as_ref().map(|index| &index.digest)).collect()
    }

    /// What the name itself stands for.
    fn top_digest(&self) -> &Digest {
        self.index.as_ref().map_or(&self.manifest_digest, |index| &index.digest)
    }
}

/// One pull at work.
struct Work {
    parts: Arc<Parts>,
    registry: Arc<RegistryClient>,
    reference: Reference,
    progress: Option<UnboundedSender<Progress>>,
}

impl Work {
    async fn run(&self, source: &Source) -> Result<Image> {
        let manifest = &source.manifest;
        manifest.check_layers()?;
        let config = self.config(&manifest.config).await?;
        let plan = ConfigCore::parse(&config, manifest)?;
        let parts = self.parts.clone();
        let protected = protected(source, &plan);
        let _lease = blocking(move || parts.leases.take(protected.iter())).await?;
        tell(
            self.progress.as_ref(),
            Progress::Resolved {
                digest: source.top_digest().to_string(),
                layers: plan.iter().map(|layer| (layer.blob.digest.to_string(), layer.blob.size)).collect(),
            },
        );
        self.layers(&plan).await?;
        let documents: Vec<Bytes> = [config, source.manifest_bytes.clone()]
            .into_iter()
            .chain(source.index.as_ref().map(|index| index.bytes.clone()))
            .collect();
        let parts = self.parts.clone();
        let naming = Naming {
            manifest: source.manifest_digest.clone(),
            index: source.index.as_ref().map(|index| index.digest.clone()),
            config: manifest.config.digest.clone(),
            size: manifest.total_size(),
            tags: self.reference.tagged().into_iter().collect(),
            digest: Some(format!("{}@{}", self.reference.name(), source.top_digest())),
        };
        blocking(move || {
            documents.iter().try_for_each(|bytes| put(&parts.content, bytes).map(drop))?;
            list_if_new(&parts, &plan, naming)
        })
        .await
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<Bytes> {
        let (parts, digest) = (self.parts.clone(), descriptor.digest.clone());
        let stored = blocking(move || match parts.content.stat(&digest)? {
            Some(size) if size <= MAX_CONFIG => {
                read_bytes(&parts, &digest, MAX_CONFIG).map(|bytes| Some(Bytes::from(bytes)))
            }
            _ => Ok(None),
        });
        if let Some(bytes) = stored.await? {
            return Ok(bytes);
        }
        let patience = self.parts.transport.patience();
        document(self.registry.as_ref(), &self.reference, descriptor, "config", patience).await
    }

    /// The layers that are there, whole, in the store; nobody takes them away while the lease stands.
    async fn present(&self, plan: &[LayerPlan]) -> Result<Vec<bool>> {
        let (parts, plan) = (self.parts.clone(), plan.to_vec());
        let is_here = move |layer: &LayerPlan| {
            Ok(parts.layers.has(&layer.chain_id) && parts.content.stat(&layer.blob.digest)?.is_some())
        };
        blocking(move || plan.iter().map(is_here).collect()).await
    }

    /// All layers; the first failure stops the others.
    async fn layers(&self, plan: &[LayerPlan]) -> Result<()> {
        let present = self.present(plan).await?;
        let permits = Semaphore::new(parallelism(self.parts.options.parallel));
        let done: Vec<watch::Sender<bool>> = plan.iter().map(|_| watch::Sender::new(false)).collect();
        let mut order: Vec<usize> = (0..plan.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(plan.get(*index).map(|layer| layer.blob.size)));
        let tasks = order.into_iter().filter_map(|index| {
            let (layer, finished) = (plan.get(index)?, done.get(index)?);
            if present.get(index) == Some(&true) {
                self.finish(layer, finished, true);
                return None;
            }
            let below = index.checked_sub(1).and_then(|below| done.get(below)).map(watch::Sender::subscribe);
            Some(self.layer(layer, &permits, below, finished))
        });
        try_join_all(tasks).await.map(drop)
    }

    async fn layer(
        &self,
        layer: &LayerPlan,
        permits: &Semaphore,
        below: Option<watch::Receiver<bool>>,
        finished: &watch::Sender<bool>,
    ) -> Result<()> {
        let stopped = |_| Error::new(ErrorKind::Io, "pull stopped");
        let unpacked = {
            let _permit = permits.acquire().await.map_err(stopped)?;
            self.fetch_and_unpack(layer).await?
        };
        let already_present = unpacked.is_none();
        if let Some(mut below) = below {
            below.wait_for(|done| *done).await.map_err(|_| Error::new(ErrorKind::Io, "pull stopped"))?;
        }
        if let Some((Some(stage), unpacked)) = unpacked {
            blocking(move || stage.commit(unpacked)).await?;
        }
        self.finish(layer, finished, already_present);
        Ok(())
    }

    fn finish(&self, layer: &LayerPlan, finished: &watch::Sender<bool>, already_present: bool) {
        finished.send_replace(true);
        let layer = layer.blob.digest.to_string();
        tell(self.progress.as_ref(), Progress::Done { layer, already_present });
    }

    /// None where both the blob and the unpacked layer are there already.
    async fn fetch_and_unpack(&self, layer: &LayerPlan) -> Result<Option<(Option<Stage>, Unpacked)>> {
        let (parts, plan) = (self.parts.clone(), layer.clone());
        let mut wanted =
            blocking(move || Ok((parts.layers.stage(&plan)?, parts.content.ingest(&plan.blob.digest)?)))
                .await?;
        let (sender, receiver) = channel(PIECES);
        let offset = wanted.1.as_ref().map_or(layer.blob.size, |ingest| ingest.kept().min(layer.blob.size));
        if wanted.0.is_none() && wanted.1.is_none() {
            return Ok(None);
        }
        let (parts, plan) = (self.parts.clone(), layer.clone());
        let disk = blocking(move || match wanted.1.take() {
            Some(ingest) => receive(wanted.0, ingest, &plan, receiver),
            None => unpack_stored(&parts, wanted.0, &plan),
        });
        let network = self.transfer(layer, offset, sender);
        let (disk, network) = tokio::join!(disk, network);
        // A disk error cuts the network off, so it is the cause; a network error reaches the disk as an early end.
        match (disk, network) {
            (disk, Ok(())) => disk.map(Some),
            (Err(disk), Err(network)) if network.kind() == ErrorKind::Io => Err(disk),
            (_, Err(network)) => Err(network),
        }
    }

    async fn transfer(
        &self,
        layer: &LayerPlan,
        offset: u64,
        sender: tokio::sync::mpsc::Sender<Piece>,
    ) -> Result<()> {
        let name = layer.blob.digest.to_string();
        let mut bytes = offset;
        let deliver = |piece: Bytes| {
            bytes += piece.len() as u64;
            tell(self.progress.as_ref(), Progress::Downloaded { layer: name.clone(), bytes });
            let sent = sender.send(Piece::Bytes(piece));
            async move { sent.await.map_err(|_| Error::new(ErrorKind::Io, "unpacking stopped")) }
        };
        let patience = self.parts.transport.patience();
        download(self.registry.as_ref(), &self.reference, &layer.blob, offset, patience, deliver).await?;
        // If nobody listens any more, the disk has its own error to report.
        let _ = sender.send(Piece::End).await;
        Ok(())
    }
}

/// How many layers at once: as many as there are processors to unpack them, and enough to fill a slow network.
fn parallelism(wanted: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    if wanted == 0 { processors.clamp(3, 8) } else { wanted.min(64) }
}

fn protected(source: &Source, plan: &[LayerPlan]) -> Vec<Digest> {
    let documents = [source.top_digest(), &source.manifest_digest, &source.manifest.config.digest];
    let layers = plan.iter().flat_map(|layer| [&layer.blob.digest, &layer.chain_id]);
    documents.into_iter().chain(layers).cloned().collect()
}

/// A pull of what is already listed changes nothing on disk.
fn list_if_new(parts: &Parts, plan: &[LayerPlan], naming: Naming) -> Result<Image> {
    let catalog = parts.catalog.read()?;
    if let Some(record) = catalog.images.get(&naming.config) {
        let same = record.manifest == naming.manifest && record.index == naming.index;
        let named = naming.digest.as_ref().is_none_or(|digest| record.digests.contains(digest));
        if same && named && naming.tags.is_subset(&record.tags) {
            return Ok(record.image(&naming.config));
        }
    }
    list_image(parts, plan, naming)
}

/// Network to disk: the end is said explicitly, so that a broken transfer is never taken for a complete one.
enum Piece {
    Bytes(Bytes),
    End,
}

/// The disk's side of the channel.
struct Arriving {
    receiver: Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::End) => self.ended = true,
                None => return Err(Error::new(ErrorKind::Unavailable, "download ended early").into()),
            }
        }
        let count = self.current.len().min(buffer.len());
        let piece = self.current.split_to(count);
        buffer.get_mut(..count).unwrap_or_default().copy_from_slice(&piece);
        Ok(count)
    }
}

/// Unpacks while it arrives, where the layer is wanted; else only stores the blob.
fn receive(
    stage: Option<Stage>,
    mut ingest: Box<dyn crate::content::Ingest>,
    plan: &LayerPlan,
    receiver: Receiver<Piece>,
) -> Result<(Option<Stage>, Unpacked)> {
    let arriving = Arriving { receiver, current: Bytes::new(), ended: false };
    let mut tee = Tee { ingest: ingest.as_mut(), arriving, replayed: false };
    let unpacked = match &stage {
        Some(stage) => unpack_into(stage, plan, &mut tee),
        None => std::io::copy(&mut tee, &mut std::io::sink())
            .map(|_| Unpacked::default())
            .map_err(|e| Error::io("store layer", e)),
    };
    match unpacked {
        Ok(unpacked) => {
            ingest.commit(plan.blob.size)?;
            Ok((stage, unpacked))
        }
        // Broken off by the network or the disk: the rest would be no proof of anything.
        Err(error) if error.is_from_outside() => Err(error),
        // The bytes may be at fault: hear them to the end, so that a wrong digest is called a wrong digest and a
        // blob that is wrong is not kept.
        Err(error) => {
            std::io::copy(&mut tee, &mut std::io::sink()).map_err(|e| Error::io("store layer", e))?;
            ingest.commit(plan.blob.size)?;
            Err(error)
        }
    }
}

fn unpack_stored(parts: &Parts, stage: Option<Stage>, plan: &LayerPlan) -> Result<(Option<Stage>, Unpacked)> {
    let Some(stage) = stage else { return Ok((None, Unpacked::default())) };
    let blob = parts.content.open(&plan.blob.digest)?;
    let unpacked = unpack_into(&stage, plan, blob)?;
    Ok((Some(stage), unpacked))
}
