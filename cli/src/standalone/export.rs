//! `knarr export`: a container's root file system as a tar archive, without what is mounted in it.

use super::Standalone;
use crate::settings::Settings;
use anyhow::{Context, bail};
use knarr_images::Files;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::Path;

/// Writes the archive to a file, or to stdout if that is no terminal.
pub(crate) async fn run(settings: &Settings, name: &str, file: Option<&Path>) -> anyhow::Result<()> {
    let place = Standalone::find(settings, name).await?;
    let root = place.engine.root_of(&place.expect().await?.id)?;
    let out: Box<dyn Write + Send> = match file {
        Some(file) => Box::new(File::create(file).with_context(|| format!("{}", file.display()))?),
        None if std::io::stdout().is_terminal() => {
            bail!("cowardly refusing to save to a terminal. Use the -o flag or redirect")
        }
        None => Box::new(std::io::stdout()),
    };
    tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let mut out = BufWriter::new(out);
        Files::open(&root)?.export(&mut out)?;
        Ok(out.flush()?)
    })
    .await??;
    place.tell("export", &[]).await;
    Ok(())
}
