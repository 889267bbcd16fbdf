//! `config.json` as plain data, runtime-spec 1.3: facts only, no defaults hidden, nothing validated.
//!
//! The types are our own because they are parsed at every container start: they drag in nothing, and they accept what
//! Go writers emit (`null` for an empty list). What a value means is decided in `plan`. Both ways must hold: what is
//! absent here is absent in the JSON we write, so any other runtime can read it.

use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// Declares one object of the specification: every field is optional in the JSON, `null` counts as absent, names are
/// camelCase, and empty strings, lists, maps and options are not written. What derive makes would also take a list of
/// the fields' values in order; an object is the only thing that is not ambiguous.
macro_rules! object {
    ($(#[$meta:meta])* pub struct $name:ident { $( $(#[$field_meta:meta])* $field:ident : $ty:ty ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(remote = "Self", default, rename_all = "camelCase")]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(
                    skip_serializing_if = "crate::spec::Absent::is_absent",
                    deserialize_with = "crate::spec::null_is_default"
                )]
                pub $field: $ty,
            )*
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $name::serialize(self, to)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Object;
                impl<'de> serde::de::Visitor<'de> for Object {
                    type Value = $name;

                    fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        to.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<$name, A::Error> {
                        $name::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    }
                }
                from.deserialize_map(Object)
            }
        }
    };
}

mod block_io;
mod features;
mod hooks;
mod linux;
mod mount;
mod namespace;
mod process;
mod rdt;
mod resources;
mod seccomp;

pub use block_io::*;
pub use features::*;
pub use hooks::*;
pub use linux::*;
pub use mount::*;
pub use namespace::*;
pub use process::*;
pub use rdt::*;
pub use resources::*;
pub use seccomp::*;

/// The version of the specification these types describe.
pub const VERSION: &str = "1.3.0";

object! {
    /// The whole of `config.json`.
    pub struct Spec {
        oci_version: String,
        process: Option<Process>,
        root: Option<Root>,
        hostname: String,
        domainname: String,
        mounts: Vec<Mount>,
        hooks: Option<Hooks>,
        annotations: BTreeMap<String, String>,
        linux: Option<Linux>,
    }
}

object! {
    /// The container's root filesystem.
    pub struct Root {
        /// Absolute, or relative to the bundle.
        path: String,
        readonly: bool,
    }
}

/// Why a document could not be read: where in it, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// Path of the field, e.g. `process.args[1]`; `.` for the document itself.
    pub field: String,
    /// What is wrong, with line and column.
    pub message: String,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field == "." {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

impl std::error::Error for ParseError {}

/// Parses any document of this module. The path of a bad field is only searched for once parsing has failed.
pub fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, ParseError> {
    serde_json::from_slice(json).map_err(|first| {
        let mut slow = serde_json::Deserializer::from_slice(json);
        match serde_path_to_error::deserialize::<_, T>(&mut slow) {
            Err(error) => ParseError { field: error.path().to_string(), message: error.inner().to_string() },
            Ok(_) => ParseError { field: ".".into(), message: first.to_string() },
        }
    })
}

/// A value that is not written because it says nothing. Numbers and booleans always say something: strict readers
/// require some of them.
pub(crate) trait Absent {
    fn is_absent(&self) -> bool;
}

impl<T> Absent for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }
}

impl<T> Absent for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl<K, V> Absent for BTreeMap<K, V> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

impl Absent for String {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }
}

macro_rules! never_absent {
    ($($ty:ty),*) => { $( impl Absent for $ty { fn is_absent(&self) -> bool { false } } )* };
}
never_absent!(bool, i32, i64, u16, u32, u64, User, NamespaceKind);

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_type_names_its_field() {
        let error = parse::<Spec>(br#"{"ociVersion":"1.0.2","process":{"args":["a",7]}}"#).unwrap_err();
        assert_eq!(error.field, "process.args[1]");
        assert!(error.to_string().contains("expected a string"), "{error}");
        let error = parse::<Spec>(br#"{"linux":{"resources":{"memory":{"limit":"1G"}}}}"#).unwrap_err();
        assert_eq!(error.field, "linux.resources.memory.limit");
        let error = parse::<Spec>(br#"{"linux":{"namespaces":[{"type":"nett"}]}}"#).unwrap_err();
        assert_eq!(error.field, "linux.namespaces[0].type");
    }

    #[test]
    fn a_list_is_not_an_object() {
        for (json, field) in [
            ("[]", "."),
            (r#"{"process":[]}"#, "process"),
            (r#"{"linux":{"resources":{"memory":[1,2]}}}"#, "linux.resources.memory"),
            (r#"{"mounts":[["/a"]]}"#, "mounts[0]"),
        ] {
            let error = parse::<Spec>(json.as_bytes()).unwrap_err();
            assert_eq!(error.field, field);
            assert!(error.to_string().contains("invalid type: sequence, expected an object"), "{error}");
        }
    }

    #[test]
    fn broken_json_is_an_error_with_a_place() {
        assert!(parse::<Spec>(b"{\"ociVersion\": ").unwrap_err().message.contains("line 1 column"));
    }

    #[test]
    fn null_counts_as_absent() {
        let spec: Spec =
            parse(br#"{"ociVersion":"1.0.2","mounts":null,"linux":{"namespaces":null}}"#).unwrap();
        assert_eq!(spec.mounts, vec![]);
    }

    #[test]
    fn what_is_absent_is_not_written() {
        let spec = Spec { oci_version: "1.3.0".into(), ..Spec::default() };
        assert_eq!(serde_json::to_string(&spec).unwrap(), r#"{"ociVersion":"1.3.0"}"#);
    }

    #[test]
    fn specification_names_that_are_not_camel_case_survive_a_round_trip() {
        let json = serde_json::json!({
            "ociVersion": "1.3.0",
            "process": {"cwd": "/", "noNewPrivileges": false, "terminal": false,
                "execCPUAffinity": {"initial": "0", "final": "1"},
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
                "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3]}},
            "linux": {
                "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 1}],
                "intelRdt": {"closID": "a", "l3CacheSchema": "L3:0=f", "enableMonitoring": true},
                "resources": {
                    "memory": {"disableOOMKiller": true, "kernelTCP": 3, "checkBeforeUpdate": true},
                    "network": {"classID": 7},
                    "blockIO": {"weight": 10, "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 5}],
                                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]},
                    "devices": [{"allow": false, "access": "rwm"}],
                    "hugepageLimits": [{"pageSize": "2MB", "limit": 4}]},
                "timeOffsets": {"monotonic": {"secs": 5, "nanosecs": 0}},
                "netDevices": {"eth0": {"name": "ct0"}},
                "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
                "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "listenerPath": "/x",
                    "syscalls": [{"names": ["a"], "action": "SCMP_ACT_ALLOW",
                                  "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}]}}
        });
        let spec: Spec = parse(json.to_string().as_bytes()).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), json);
    }
}
