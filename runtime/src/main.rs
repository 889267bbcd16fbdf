//! The `knarr-runtime` binary; everything is in the library.

fn main() {}
