//! Turns a compressed stream into a committed layer, and a set of installed layers into a listed image.
//!
//! This is the one way in which a layer comes to exist, whether its bytes come from a registry, an archive or a
//! directory: hash what is compressed, decompress, hash what is not, unpack, and compare both digests before the
//! layer gets its name.

use crate::catalog::Record;
use crate::content::{ContentStore, Ingest};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::Image;
use crate::layer::ahead::Ahead;
use crate::layer::checked::Checked;
use crate::layer::compression::decompress;
use crate::layer::expansion::Compressed;
use crate::layer::limits::Limits;
use crate::layer::unpack::{Unpacked, unpack};
use crate::manifest::LayerPlan;
use crate::snapshot::layers::Stage;
use crate::store::parts::Parts;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};

/// The uncompressed stream of a small layer is read in pieces of this size.
const BUFFER: usize = 64 << 10;
/// Smaller layers are done before threads for them have started.
const WORTH_THREADS: u64 = 1 << 20;

/// Unpacks a compressed stream into a stage and checks its diff id. The stream is read to its end.
pub(crate) fn unpack_into(stage: &Stage, plan: &LayerPlan, mut stream: impl Read + Send) -> Result<Unpacked> {
    let compressed = Compressed::default();
    let counting = compressed.count(&mut stream);
    let (unpacked, digest) = if plan.blob.size < WORTH_THREADS {
        unpack_plain(stage, BufReader::with_capacity(BUFFER, decompress(counting)?), compressed)?
    } else {
        let failed = |e| Error::io("unpack layer", e);
        std::thread::scope(|scope| {
            let arriving = Ahead::start(scope, move || Ok(Box::new(counting))).map_err(failed)?;
            let open = move || Ok(Box::new(decompress(arriving)?) as Box<dyn Read>);
            let plain = Ahead::start(scope, open).map_err(failed)?;
            unpack_plain(stage, plain, compressed)
        })?
    };
    // Whatever follows the compressed data belongs to the blob's digest all the same.
    std::io::copy(&mut stream, &mut std::io::sink()).map_err(|e| Error::io("read layer", e))?;
    plan.diff_id.verify(&digest, &format!("layer {}: diff id", plan.blob.digest))?;
    Ok(unpacked)
}

/// What comes out of the decompression: held against its limits, hashed, unpacked.
fn unpack_plain(stage: &Stage, stream: impl BufRead, compressed: Compressed) -> Result<(Unpacked, Digest)> {
    let limits = Limits::default();
    let mut checked = Checked::new(stream, limits, compressed);
    let mut sink = stage.sink()?;
    let unpacked = unpack(&mut checked, limits, sink.as_mut())?;
    Ok((unpacked, checked.digest()))
}

/// Reads what an earlier attempt kept, then what arrives; writes the latter down. Both are hashed by the ingest.
pub(crate) struct Tee<'a, R> {
    pub(crate) ingest: &'a mut dyn Ingest,
    pub(crate) arriving: R,
    pub(crate) replayed: bool,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if !self.replayed {
            let count = self.ingest.replay(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.replayed = true;
        }
        let count = self.arriving.read(buffer)?;
        self.ingest.write(buffer.get(..count).unwrap_or_default())?;
        Ok(count)
    }
}

/// Installs a layer whose blob is in the content store.
pub(crate) fn install_stored(parts: &Parts, plan: &LayerPlan) -> Result<()> {
    let Some(stage) = parts.layers.stage(plan)? else { return Ok(()) };
    let blob = parts.content.open(&plan.blob.digest)?;
    let unpacked = unpack_into(&stage, plan, blob)?;
    stage.commit(unpacked)
}

/// What a new record says besides its layers.
pub(crate) struct Naming {
    pub(crate) manifest: Digest,
    pub(crate) index: Option<Digest>,
    pub(crate) config: Digest,
    pub(crate) size: u64,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) digest: Option<String>,
}

/// Lists an image whose content is all there: makes it durable first.
pub(crate) fn list_image(parts: &Parts, plan: &[LayerPlan], naming: Naming) -> Result<Image> {
    let record = Record {
        manifest: naming.manifest,
        index: naming.index,
        blobs: plan.iter().map(|layer| layer.blob.digest.clone()).collect(),
        chain: plan.iter().map(|layer| layer.chain_id.clone()).collect(),
        size: naming.size,
        pinned: false,
        pulled: std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        tags: naming.tags,
        digests: naming.digest.into_iter().collect::<BTreeSet<_>>(),
        signatures: Vec::new(),
    };
    parts.sync()?;
    parts.update(|catalog| {
        catalog.insert(&naming.config, record);
        let record = catalog.images.get(&naming.config);
        let record = record.ok_or_else(|| Error::new(ErrorKind::Io, "the image was not listed"))?;
        Ok(record.image(&naming.config))
    })
}
