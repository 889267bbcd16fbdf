//! The `knarr-runtime` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    knarr_runtime::main()
}
