//! `volume create -o`: a volume that stands for a directory of this machine (`type=none`, `o=bind`, `device=DIRECTORY`), as
//! Docker's own driver has it. File systems that would have to be mounted (tmpfs, nfs) are refused: `--tmpfs` and `-v` are
//! for those.
//!
//! ```text
//! NAME/_data      a link to the directory, which is bound where the volume is mounted
//! NAME/options    what was asked for, one NAME=VALUE a line
//! ```

use super::DATA;
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::Path;

/// By name.
pub(super) type Options = BTreeMap<String, String>;

/// `NAME=VALUE` each.
pub(super) fn parse(given: &[String]) -> anyhow::Result<Options> {
    let mut options = Options::new();
    for text in given {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        ensure!(["type", "o", "device"].contains(&name), "invalid option: {name:?}");
        options.insert(name.to_owned(), value.to_owned());
    }
    Ok(options)
}

/// The directory that the volume is to stand for.
pub(super) fn device(options: &Options) -> anyhow::Result<Option<&str>> {
    let option = |name: &str| options.get(name).map_or("", String::as_str);
    if options.is_empty() {
        return Ok(None);
    }
    let (kind, device) = (option("type"), option("device"));
    ensure!(!device.is_empty(), "missing device in volume options");
    let binds = option("o").split(',').any(|word| ["bind", "rbind"].contains(&word));
    if !matches!(kind, "none" | "bind" | "") || !binds {
        bail!("volume options type={kind},o={}: only o=bind of a directory is supported", option("o"));
    }
    ensure!(Path::new(device).is_absolute(), "{device}: the device of a volume is an absolute path");
    Ok(Some(device))
}

/// Makes the volume. Again with the same options: the same.
pub(super) fn stand_for(directory: &Path, name: &str, device: &str, options: &Options) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("mkdir {}", directory.display()))?;
    match symlink(device, directory.join(DATA)) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && read(directory) == *options => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("a volume with the name {name} already exists with different options")
        }
        result => result.with_context(|| format!("{}", directory.display()))?,
    }
    let lines: Vec<String> = options.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(std::fs::write(directory.join("options"), lines.join("\n"))?)
}

fn read(directory: &Path) -> Options {
    let text = std::fs::read_to_string(directory.join("options")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Those of a volume, as `inspect` tells them.
pub(super) fn of(directory: &Path) -> Value {
    let options = read(directory);
    if options.is_empty() { Value::Null } else { json!(options) }
}

/// The volume is that directory under another name.
pub(super) fn stands_for(data: &Path, directory: &Path) -> bool {
    data.is_symlink() && data.canonicalize().is_ok_and(|device| device == directory)
}

/// The directory that the volume stands for is there.
pub(super) fn expect(data: &Path) -> anyhow::Result<()> {
    let device = std::fs::read_link(data).with_context(|| format!("{}", data.display()))?;
    ensure!(
        device.is_dir(),
        "failed to mount local volume: mount {}:{}, flags: 0x1000: no such file or directory",
        device.display(),
        data.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_alone() {
        let given = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let options = parse(&given("type=none o=bind device=/d")).unwrap();
        assert_eq!(device(&options).unwrap(), Some("/d"));
        assert_eq!(device(&Options::new()).unwrap(), None);
        for wrong in ["type=tmpfs device=tmpfs", "type=none device=/d", "o=bind device=d", "type=none o=bind"]
        {
            assert!(device(&parse(&given(wrong)).unwrap()).is_err(), "{wrong}");
        }
        assert!(parse(&given("size=1")).is_err());
    }
}
