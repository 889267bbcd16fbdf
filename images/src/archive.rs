//! Images as one file: the OCI image layout in a tar, and the older format of `docker save`.

use crate::error::{Error, Result};
use crate::image::Image;
use crate::store::parts::Parts;
use std::io::{Read, Write};

/// What `save` writes. `load` recognises both by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// An OCI image layout in a tar (`oci-archive`).
    #[default]
    Oci,
    /// manifest.json beside uncompressed layer tars (`docker-archive`), which every version of Docker loads.
    Docker,
}

pub(crate) fn save(parts: &Parts, names: &[String], format: Format, writer: &mut dyn Write) -> Result<()> {
    let _ = (parts, names, format, writer);
    Err(Error::unsupported("save"))
}

pub(crate) fn load(parts: &Parts, reader: &mut dyn Read) -> Result<Vec<Image>> {
    let _ = (parts, reader);
    Err(Error::unsupported("load"))
}
