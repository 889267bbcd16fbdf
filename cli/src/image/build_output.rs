//! `knarr image build --output`: the result as a directory or an archive, besides the image in the store.

use anyhow::{Context, bail};
use knarr_images::{Format, Image, ImageStore};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// Where one result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    kind: Kind,
    /// `-` is stdout.
    pub(super) destination: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The files, as a directory.
    Local,
    /// The files, as a tar archive.
    Tar,
    Oci,
    Docker,
}

impl Output {
    /// `DIR`, `-`, or `type=local|tar|oci|docker,dest=PATH`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if !text.contains('=') {
            let kind = if text == "-" { Kind::Tar } else { Kind::Local };
            return Ok(Self { kind, destination: text.into() });
        }
        let (mut kind, mut destination) = (None, None);
        for field in text.split(',') {
            match field.split_once('=') {
                Some(("type", "local")) => kind = Some(Kind::Local),
                Some(("type", "tar")) => kind = Some(Kind::Tar),
                Some(("type", "oci")) => kind = Some(Kind::Oci),
                Some(("type", "docker")) => kind = Some(Kind::Docker),
                Some(("type", other)) => {
                    bail!("--output: type {other} is not supported: local, tar, oci or docker")
                }
                Some(("dest", path)) => destination = Some(PathBuf::from(path)),
                _ => bail!("--output: {field:?} is not known: type=...,dest=..."),
            }
        }
        let kind = kind.with_context(|| format!("--output {text}: type is required"))?;
        match (kind, destination) {
            (kind, Some(destination)) => Ok(Self { kind, destination }),
            (Kind::Local, None) => bail!("--output {text}: dest is required"),
            (kind, None) => Ok(Self { kind, destination: "-".into() }),
        }
    }

    /// Writes the image; an archive of it has this name.
    pub(super) fn write(&self, store: &ImageStore, image: &Image, name: &str) -> anyhow::Result<()> {
        let path = &self.destination;
        if self.kind == Kind::Local {
            std::fs::create_dir_all(path).with_context(|| format!("mkdir {}", path.display()))?;
            return Ok(store.with_files(image, |files| files.export_to(path))?);
        }
        let mut out: BufWriter<Box<dyn Write + Send>> = BufWriter::new(match path == Path::new("-") {
            true => Box::new(std::io::stdout()),
            false => Box::new(File::create(path).with_context(|| format!("{}", path.display()))?),
        });
        match self.kind {
            Kind::Oci => store.save(&[name.to_owned()], Format::Oci, &mut out)?,
            Kind::Docker => store.save(&[name.to_owned()], Format::Docker, &mut out)?,
            Kind::Tar | Kind::Local => store.with_files(image, |files| files.export(&mut out))?,
        }
        Ok(out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_name_their_kind() {
        let parsed = |text: &str| Output::parse(text).map(|output| (output.kind, output.destination));
        assert_eq!(parsed("out").unwrap(), (Kind::Local, "out".into()));
        assert_eq!(parsed("-").unwrap(), (Kind::Tar, "-".into()));
        assert_eq!(parsed("type=oci,dest=a.tar").unwrap(), (Kind::Oci, "a.tar".into()));
        assert_eq!(parsed("type=tar").unwrap(), (Kind::Tar, "-".into()));
        for wrong in ["type=local", "type=image", "dest=x", "type=oci,compress=1"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
