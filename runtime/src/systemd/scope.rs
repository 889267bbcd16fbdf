//! Names: `slice:prefix:name` of `linux.cgroupsPath` as a unit, and where its cgroup is.

use crate::error::{Error, Result};
use crate::slice;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A unit of systemd that holds a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scope {
    /// `runc-ID.scope`
    pub(crate) unit: String,
    /// `system.slice`
    pub(crate) slice: String,
    /// It belongs to the user's own systemd.
    pub(crate) user: bool,
}

impl Scope {
    /// Reads the field; without one the scope is named for the container.
    pub(crate) fn parse(field: &str, id: &str, user: bool) -> Result<Self> {
        let default = if user { "user.slice" } else { "system.slice" };
        let whole = if field.is_empty() { format!("{default}:runc:{id}") } else { field.to_string() };
        let parts: Vec<&str> = whole.split(':').collect();
        let [slice, prefix, name] = parts.as_slice() else {
            return Err(Error::invalid(format!(
                "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {field:?} instead"
            )));
        };
        let unit = match (name.ends_with(".slice"), prefix.is_empty()) {
            (true, _) => (*name).to_string(),
            (false, true) => format!("{name}.scope"),
            (false, false) => format!("{prefix}-{name}.scope"),
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":_.-\\@+".contains(c);
        if name.is_empty() || unit.len() > 255 || !unit.chars().all(allowed) {
            return Err(Error::invalid(format!("linux.cgroupsPath: {unit:?} is not the name of a unit")));
        }
        let slice = if slice.is_empty() { default } else { slice };
        let scope = Scope { unit, slice: slice.into(), user };
        scope.path()?;
        Ok(scope)
    }

    /// Below the root of systemd's tree.
    pub(crate) fn path(&self) -> Result<PathBuf> {
        let slice = slice::path(&self.slice).ok_or_else(|| {
            Error::invalid(format!("linux.cgroupsPath: invalid slice name: {}", self.slice))
        })?;
        Ok(slice.join(&self.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_become_units_and_paths() {
        for (field, unit, path) in [
            ("", "runc-id.scope", "system.slice/runc-id.scope"),
            ("machine.slice:libpod:x", "libpod-x.scope", "machine.slice/libpod-x.scope"),
            ("a-b-c.slice::x", "x.scope", "a.slice/a-b.slice/a-b-c.slice/x.scope"),
            (":cri-containerd:x", "cri-containerd-x.scope", "system.slice/cri-containerd-x.scope"),
            ("-.slice:p:x", "p-x.scope", "p-x.scope"),
            ("a.slice:p:a-pod.slice", "a-pod.slice", "a.slice/a-pod.slice"),
        ] {
            let scope = Scope::parse(field, "id", false).unwrap();
            assert_eq!(
                (scope.unit.as_str(), scope.path().unwrap().to_str().unwrap()),
                (unit, path),
                "{field}"
            );
        }
        assert_eq!(Scope::parse("", "id", true).unwrap().slice, "user.slice");
        for bad in ["/a/b", "a:b", "x:p:n", "a--b.slice:p:n", "a.slice:p:", "../a.slice:p:n", "a.slice:p:n/m"]
        {
            assert!(Scope::parse(bad, "id", false).is_err(), "{bad}");
        }
    }
}
