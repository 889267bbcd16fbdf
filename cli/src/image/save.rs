//! `knarr image save`: images as one archive, for `load` here or there.

use crate::args::Save;
use crate::events::Journal;
use anyhow::{Context, bail};
use knarr_images::{Format, ImageStore};
use std::io::{BufWriter, IsTerminal, Write};

/// Writes to a file or to stdout. A file that could not be finished is removed.
pub(crate) fn run(store: &ImageStore, journal: &Journal, arguments: &Save) -> anyhow::Result<()> {
    let format = match arguments.format.as_str() {
        "oci" | "oci-archive" => Format::Oci,
        "docker" | "docker-archive" => Format::Docker,
        other => bail!("--format {other}: not known; oci or docker"),
    };
    for name in &arguments.names {
        super::expect_platform(store, &super::find(store, name)?, name, arguments.platform.as_deref())?;
    }
    let Some(file) = &arguments.output else {
        if std::io::stdout().is_terminal() {
            bail!("refusing to write an archive to a terminal; use --output FILE");
        }
        let mut out = BufWriter::new(std::io::stdout().lock());
        store.save(&arguments.names, format, &mut out)?;
        out.flush()?;
        told(journal, arguments);
        return Ok(());
    };
    let mut out =
        BufWriter::new(std::fs::File::create(file).with_context(|| format!("create {}", file.display()))?);
    let saved = store.save(&arguments.names, format, &mut out).map_err(anyhow::Error::from);
    let saved = saved.and_then(|()| Ok(out.flush()?));
    match &saved {
        Ok(()) => told(journal, arguments),
        Err(_) => std::fs::remove_file(file).with_context(|| format!("remove {}", file.display()))?,
    }
    saved
}

fn told(journal: &Journal, arguments: &Save) {
    arguments.names.iter().for_each(|name| journal.image("save", name, name));
}
