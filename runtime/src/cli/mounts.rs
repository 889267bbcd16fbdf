//! `mounts add|remove ID FILE`: other mounts for a container that runs. The file holds a list as `config.json` has one.

use super::{Arguments, Global};
use crate::bootstrap::runtime::{self, Setup};
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::{ExecTarget, Plan};
use crate::spec::{Mount, Spec, parse};
use crate::state::Status;
use rustix::process::{Pid, PidfdFlags};
use std::path::{Path, PathBuf};

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let words: Vec<_> = arguments.positionals.iter().map(|word| word.to_string_lossy()).collect();
    let [verb, id, file] = words.as_slice() else {
        return Err(Error::invalid("mounts: add|remove CONTAINER FILE"));
    };
    let add = match verb.as_ref() {
        "add" => true,
        "remove" => false,
        other => return Err(Error::invalid(format!("unknown command {other}"))),
    };
    let mounts = read(Path::new(file.as_ref()))?;
    // Locked: two of them at once would see half of each other.
    let container = Container::open(&global.root, id)?;
    if matches!(container.status()?, Status::Stopped | Status::Creating) {
        return Err(Error::new(Kind::State, "container not running"));
    }
    change(&container, &mounts, add).context(|| format!("mounts {verb} failed"))
}

/// A whole document with `mounts` in it, or the list alone.
fn read(file: &Path) -> Result<Vec<Mount>> {
    let json = std::fs::read(file).context(|| format!("read {}", file.display()))?;
    let wrong = |error| Error::invalid(format!("{}: {error}", file.display()));
    let list = json.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if list {
        parse(&json).map_err(wrong)
    } else {
        parse::<Spec>(&json).map(|spec| spec.mounts).map_err(wrong)
    }
}

fn change(container: &Container, mounts: &[Mount], add: bool) -> Result<u8> {
    let spec = container.spec()?;
    let linux = spec.linux.clone().unwrap_or_default();
    let target = ExecTarget {
        id: &container.record.id,
        linux: &linux,
        cgroups: container.record.cgroups.clone(),
        bundle: PathBuf::from(&container.record.bundle),
        rootless: !rustix::process::geteuid().is_root(),
    };
    let plan =
        if add { Plan::add_mounts(&target, &spec, mounts)? } else { Plan::remove_mounts(&target, mounts)? };
    let Some(pid) = Pid::from_raw(container.record.init_process_pid) else {
        return Err(Error::new(Kind::State, "container not running"));
    };
    let init = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context(|| "pidfd_open")?;
    let root = super::exec::hosted_root(&linux, pid)?;
    if !container.is_alive() {
        return Err(Error::new(Kind::State, "container not running"));
    }
    let setup = Setup { target: Some(init), root, ..Setup::default() };
    let helper = runtime::create(&plan, container.state_as(Status::Running), setup, &mut super::exec::Alone)?;
    helper.kill().map(|()| 0)
}
