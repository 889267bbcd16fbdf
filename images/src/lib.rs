//! The image store: pull, keep by digest, unpack, snapshot.

mod archive;
mod credentials;
mod error;
mod import;
mod inspect;
mod mount;
mod options;
mod prune;
mod store;

pub use archive::Format;
pub use credentials::Credentials;
pub use error::{Error, ErrorKind};
pub use import::ImportConfig;
pub use inspect::{Inspect, LayerInfo};
pub use mount::Mount;
pub use options::{LayerKind, Options};
pub use prune::{Prune, Pruned};
pub use store::{Image, ImageStore, Progress, Pull};
