//! The `knarr-monitor` binary.

fn main() {}
