//! The image store: pull, keep by digest, unpack, snapshot.

mod error;
mod mount;
mod store;

pub use error::{Error, ErrorKind};
pub use mount::Mount;
pub use store::{Credentials, Image, ImageStore, Progress, Pull};
