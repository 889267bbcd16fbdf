//! `linux.intelRdt`: a share of the last-level cache and of the memory bandwidth, through the resctrl file system.
//!
//! A group of resctrl is a directory: its `schemata` say how much it gets, its `tasks` who is in it. A group that is named
//! (`closID`) is shared with others and stays when the container goes; one of our own is named for the container.

mod stats;

use crate::error::{Context, Error, Result};
use crate::kernel_file;
use crate::spec::IntelRdt;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/resctrl";
const MAGIC: i64 = 0x0765_5821;

/// What this host has of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resctrl {
    /// Where it is mounted; nothing where it is not.
    pub(crate) mount: Option<PathBuf>,
    /// Cache allocation.
    pub(crate) cache: bool,
    /// Memory bandwidth allocation.
    pub(crate) bandwidth: bool,
}

impl Resctrl {
    /// Looks at this host.
    pub(crate) fn detect() -> Self {
        let mounted = rustix::fs::statfs(ROOT).is_ok_and(|stat| stat.f_type == MAGIC);
        let has = |names: &[&str]| names.iter().any(|name| Path::new(ROOT).join("info").join(name).exists());
        Resctrl {
            mount: mounted.then(|| ROOT.into()),
            cache: mounted && has(&["L3", "L3CODE", "L3DATA"]),
            bandwidth: mounted && has(&["MB"]),
        }
    }
}

/// The group of a container, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) directory: PathBuf,
    /// It must be there already: nothing says what it should get.
    must_exist: bool,
    /// Lines for `schemata`.
    schemata: Vec<String>,
    /// Counts what this container alone uses.
    monitor: Option<PathBuf>,
    /// It is named for the container and goes with it.
    own: bool,
}

impl Group {
    /// Decides, or says what the host lacks.
    pub(crate) fn plan(given: &IntelRdt, id: &str, host: &Resctrl) -> Result<Self> {
        let wrong = |why: &str| Err(Error::invalid(why));
        let name = given.clos_id.as_str();
        if name == "." || name == ".." || name.contains('/') {
            return Err(Error::invalid(format!("linux.intelRdt: invalid intelRdt.ClosID {name:?}")));
        }
        let Some(mount) = &host.mount else {
            return wrong("intelRdt is specified in config, but Intel RDT is not enabled");
        };
        if !given.l3_cache_schema.is_empty() && !host.cache {
            return wrong("intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled");
        }
        if !given.mem_bw_schema.is_empty() && !host.bandwidth {
            return wrong("intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled");
        }
        let schemata = schemata(given)?;
        let directory = mount.join(if name.is_empty() { id } else { name });
        let monitor = given.enable_monitoring == Some(true);
        Ok(Group {
            monitor: monitor.then(|| directory.join("mon_groups").join(id)),
            must_exist: !name.is_empty() && schemata.is_empty(),
            own: name.is_empty(),
            directory,
            schemata,
        })
    }

    /// Makes the group and puts a process into it, with all it will start.
    pub(crate) fn enter(&self, pid: Pid) -> Result<()> {
        if self.must_exist && !self.directory.is_dir() {
            return Err(Error::invalid(format!(
                "clos dir not accessible (must be pre-created when l3CacheSchema and memBwSchema are empty): stat {}: no such file or directory",
                self.directory.display()
            )));
        }
        for directory in [Some(&self.directory), self.monitor.as_ref()].into_iter().flatten() {
            std::fs::create_dir_all(directory).context(|| format!("mkdir {}", directory.display()))?;
            self.write(directory, "tasks", &pid.as_raw_nonzero().to_string())?;
        }
        self.allocate(&self.schemata)
    }

    /// Other shares, for a container that runs.
    pub(crate) fn update(&self, cache: &str, bandwidth: &str) -> Result<()> {
        let lines = [cache, bandwidth].iter().flat_map(|text| lines(text)).collect::<Vec<_>>();
        self.allocate(&lines)
    }

    /// All in one write, as what one line frees another may need.
    fn allocate(&self, lines: &[String]) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        self.write(&self.directory, "schemata", &(lines.join("\n") + "\n"))
    }

    fn write(&self, directory: &Path, name: &str, value: &str) -> Result<()> {
        let path = directory.join(name);
        kernel_file::write(&path, value).context(|| format!("unable to set {value:?} to {}", path.display()))
    }

    /// What was made for the container alone.
    pub(crate) fn remove(&self) -> Result<()> {
        let own = self.own.then_some(&self.directory);
        let made = [self.monitor.as_ref(), own].into_iter().flatten();
        let removed = made.map(|directory| match std::fs::remove_dir(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(|| format!("rmdir {}", directory.display()))
            }
            _ => Ok(()),
        });
        Error::all(removed.filter_map(Result::err).collect())
    }
}

/// The two old fields first, then the general one. Its lines cannot carry more than one line each.
fn schemata(given: &IntelRdt) -> Result<Vec<String>> {
    if let Some(index) = given.schemata.iter().position(|line| line.contains('\n')) {
        return Err(Error::invalid(format!("linux.intelRdt.schemata[{index}]: contains a line break")));
    }
    let old = [&given.l3_cache_schema, &given.mem_bw_schema].into_iter().flat_map(|text| lines(text));
    Ok(old.chain(given.schemata.iter().cloned()).collect())
}

fn lines(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty()).map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Resctrl {
        Resctrl { mount: Some("/r".into()), cache: true, bandwidth: true }
    }

    fn plan(json: serde_json::Value, host: &Resctrl) -> Result<Group> {
        Group::plan(&serde_json::from_value(json).unwrap(), "id", host)
    }

    #[test]
    fn a_group_is_named_for_the_container_or_shared() {
        let json = serde_json::json!({"l3CacheSchema": "L3:0=f\nMB:0=9", "memBwSchema": "MB:0=20", "schemata": ["L2:0=1"]});
        let own = plan(json, &host()).unwrap();
        assert_eq!(own.directory, Path::new("/r/id"));
        assert_eq!(own.schemata, ["L3:0=f", "MB:0=9", "MB:0=20", "L2:0=1"]);
        assert!(own.own && !own.must_exist && own.monitor.is_none());
        let json = serde_json::json!({"closID": "gold", "enableMonitoring": true});
        let shared = plan(json, &host()).unwrap();
        assert!(shared.must_exist && !shared.own);
        assert_eq!(shared.monitor.as_deref(), Some(Path::new("/r/gold/mon_groups/id")));
    }

    #[test]
    fn what_the_host_lacks_is_said() {
        let none = Resctrl::default();
        let partly = Resctrl { cache: false, bandwidth: false, ..host() };
        for (json, host, text) in [
            (serde_json::json!({}), &none, "Intel RDT is not enabled"),
            (serde_json::json!({"l3CacheSchema": "L3:0=f"}), &partly, "Intel RDT/CAT is not enabled"),
            (serde_json::json!({"memBwSchema": "MB:0=9"}), &partly, "Intel RDT/MBA is not enabled"),
            (serde_json::json!({"closID": "../x"}), &host(), "invalid intelRdt.ClosID"),
            (serde_json::json!({"schemata": ["a\nb"]}), &host(), "line break"),
        ] {
            let error = plan(json, host).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn groups_are_made_filled_and_removed_again() {
        let mount = tempfile::tempdir().unwrap();
        let host = Resctrl { mount: Some(mount.path().into()), ..host() };
        let group = plan(serde_json::json!({"closID": "gold"}), &host).unwrap();
        let pid = rustix::process::getpid();
        assert!(group.enter(pid).unwrap_err().to_string().contains("must be pre-created"));
        // What the kernel would put into the directory.
        std::fs::create_dir(mount.path().join("gold")).unwrap();
        for file in ["tasks", "schemata"] {
            std::fs::write(mount.path().join("gold").join(file), "").unwrap();
        }
        group.enter(pid).unwrap();
        group.update("L3:0=3", "").unwrap();
        let read = |file: &str| std::fs::read_to_string(mount.path().join("gold").join(file)).unwrap();
        assert_eq!((read("tasks"), read("schemata")), (pid.as_raw_nonzero().to_string(), "L3:0=3\n".into()));
        group.remove().unwrap();
        assert!(mount.path().join("gold").exists(), "it is shared");
    }
}
