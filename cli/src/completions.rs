//! Shell completions and manual pages, both generated from the grammar in `args.rs`.

use crate::args::{Arguments, whole};
use std::path::Path;

/// Prints the completion script of one shell.
pub(crate) fn completions(shell: clap_complete::Shell) -> anyhow::Result<()> {
    clap_complete::generate(shell, &mut whole::<Arguments>(), "knarr", &mut std::io::stdout());
    Ok(())
}

/// Writes `knarr.1` and one page per subcommand.
pub(crate) fn man_pages(directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    Ok(clap_mangen::generate_to(whole::<Arguments>(), directory)?)
}
