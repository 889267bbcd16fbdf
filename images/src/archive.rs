//! Images as one file: the OCI image layout in a tar, and the older format of `docker save`.

/// What `save` writes. `load` recognises both by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// An OCI image layout in a tar (`oci-archive`).
    #[default]
    Oci,
    /// manifest.json beside uncompressed layer tars (`docker-archive`), which every version of Docker loads.
    Docker,
}
