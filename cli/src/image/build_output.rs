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
    /// Names besides those of `--tag`.
    pub(super) names: Vec<String>,
    /// To a registry as well.
    pub(super) push: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The files, as a directory.
    Local,
    /// The files, as a tar archive.
    Tar,
    Oci,
    Docker,
    /// Nowhere else: the image is in the store.
    Store,
}

impl Output {
    /// `DIR`, `-`, or `type=local|tar|oci|docker,dest=PATH`.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        if !text.contains('=') {
            let kind = if text == "-" { Kind::Tar } else { Kind::Local };
            return Ok(Self { kind, destination: text.into(), names: Vec::new(), push: false });
        }
        let (mut kind, mut destination, mut push) = (None, None, false);
        let mut names: Vec<String> = Vec::new();
        // A field with commas in it stands in quotes.
        let plain = text.replace('"', "");
        for field in plain.split(',') {
            match field.split_once('=') {
                Some(("type", "local")) => kind = Some(Kind::Local),
                Some(("type", "tar")) => kind = Some(Kind::Tar),
                Some(("type", "oci")) => kind = Some(Kind::Oci),
                Some(("type", "docker")) => kind = Some(Kind::Docker),
                Some(("type", "image" | "cacheonly")) => kind = Some(Kind::Store),
                Some(("type", "registry")) => (kind, push) = (Some(Kind::Store), true),
                Some(("type", other)) => {
                    bail!(
                        "--output: type {other} is not supported: local, tar, oci, docker, image or registry"
                    )
                }
                Some(("dest", path)) => destination = Some(PathBuf::from(path)),
                Some(("name", name)) => names.push(name.to_owned()),
                Some(("push", "true")) => push = true,
                Some(("push", "false") | ("oci-mediatypes", _)) => {}
                None if !names.is_empty() => names.push(field.to_owned()),
                _ => bail!("--output: {field:?} is not known: type=...,dest=..."),
            }
        }
        let kind = kind.with_context(|| format!("--output {text}: type is required"))?;
        let destination = match (kind, destination) {
            (_, Some(destination)) => destination,
            (Kind::Local, None) => bail!("--output {text}: dest is required"),
            (Kind::Store, None) => PathBuf::new(),
            (_, None) => "-".into(),
        };
        Ok(Self { kind, destination, names, push: push && kind == Kind::Store })
    }

    /// The same for one of several platforms; none where that cannot be.
    pub(super) fn of_platform(&self, platform: &str) -> Option<Self> {
        let mut own = self.clone();
        match self.kind {
            Kind::Local => own.destination.push(platform.replace('/', "_")),
            Kind::Store => {}
            _ => return None,
        }
        Some(own)
    }

    /// Writes the image; an archive of it has this name.
    pub(super) fn write(&self, store: &ImageStore, image: &Image, name: &str) -> anyhow::Result<()> {
        let path = &self.destination;
        if self.kind == Kind::Store {
            return Ok(());
        }
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
            Kind::Tar | Kind::Local | Kind::Store => {
                store.with_files(image, |files| files.export(&mut out))?
            }
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
        let image = Output::parse("type=image,\"name=a,b\",push=true").unwrap();
        assert_eq!((image.names.len(), image.push), (2, true));
        assert!(Output::parse("type=registry").unwrap().push && Output::parse("type=tar").is_ok());
        let local = Output::parse("out").unwrap().of_platform("linux/arm64");
        assert_eq!(local.map(|output| output.destination), Some("out/linux_arm64".into()));
        for wrong in ["type=local", "type=odd", "dest=x", "type=oci,compress=1"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
