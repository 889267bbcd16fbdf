//! Which of an index's manifests fits a machine.

use crate::error::{Error, ErrorKind, Result};
use crate::manifest::Descriptor;
use serde::{Deserialize, Serialize};

/// `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Platform {
    /// GOOS.
    #[serde(default)]
    pub os: String,
    /// GOARCH.
    #[serde(default)]
    pub architecture: String,
    /// `v7`, `v8`, ...; absent where the architecture has only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// This machine.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Self::of("linux", architecture, variant)
    }

    /// Parses `os/arch[/variant]`; an architecture alone is one of Linux.
    pub fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let valid = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !parts.iter().all(valid) {
            return Err(Error::invalid(format!("invalid platform {text:?}: expected OS/ARCH[/VARIANT]")));
        }
        match parts[..] {
            [architecture] => Ok(Self::of("linux", architecture, None)),
            [os, architecture] => Ok(Self::of(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::of(os, architecture, Some(variant))),
            _ => Err(Error::invalid(format!("invalid platform {text:?}: expected OS/ARCH[/VARIANT]"))),
        }
    }

    /// Canonical names: `x86_64` is `amd64`, `arm64/v8` is `arm64`, `arm` is `arm/v7`.
    fn of(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant.filter(|variant| *variant != "v1")),
            ("aarch64" | "arm64", None | Some("v8" | "8")) => ("arm64", None),
            ("armhf", _) => ("arm", Some("v7")),
            ("armel", _) => ("arm", Some("v6")),
            ("arm", None) => ("arm", Some("v7")),
            ("i386" | "i686", _) => ("386", None),
            other => other,
        };
        Self { os: os.into(), architecture: architecture.into(), variant: variant.map(str::to_owned) }
    }

    /// How well a machine of this platform runs an image for `offered`: lower is better, none is not at all.
    /// 32-bit ARM runs every older variant; amd64 machines run what names no level.
    fn rank(&self, offered: &Self) -> Option<u32> {
        let offered = Self::of(&offered.os, &offered.architecture, offered.variant.as_deref());
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let level = |variant: &Option<String>| -> Option<u32> {
            variant.as_deref().map_or(Some(0), |text| text.trim_start_matches('v').parse().ok())
        };
        let (mine, theirs) = (level(&self.variant)?, level(&offered.variant)?);
        mine.checked_sub(theirs)
    }

    /// The manifest that fits best; the earlier of equals. Entries without a platform count only where they are
    /// the only one.
    pub(crate) fn choose<'a>(&self, manifests: &'a [Descriptor]) -> Result<&'a Descriptor> {
        if let [only] = manifests
            && only.platform.is_none()
        {
            return Ok(only);
        }
        let ranked = manifests.iter().filter_map(|manifest| {
            let rank = manifest.platform.as_ref().and_then(|platform| self.rank(platform))?;
            Some((rank, manifest))
        });
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, manifest)| manifest).ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no match for platform {self} in manifest: not found"))
        })
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(out, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn offer(platforms: &[&str]) -> Vec<Descriptor> {
        let descriptor = |text: &&str| Descriptor {
            platform: Some(Platform::parse(text).unwrap()),
            ..Descriptor::new("", Digest::of(text.as_bytes()), 1)
        };
        platforms.iter().map(descriptor).collect()
    }

    #[test]
    fn chooses_what_runs_best() {
        let cases = [
            ("linux/amd64", vec!["linux/arm64", "linux/amd64"], Some("linux/amd64")),
            ("linux/amd64", vec!["windows/amd64", "linux/arm64"], None),
            ("linux/amd64", vec!["linux/amd64/v3", "linux/amd64"], Some("linux/amd64")),
            ("linux/arm/v7", vec!["linux/arm/v6", "linux/arm/v5", "linux/arm/v8"], Some("linux/arm/v6")),
            ("linux/arm64", vec!["linux/arm64/v8"], Some("linux/arm64")),
            ("linux/x86_64", vec!["linux/amd64"], Some("linux/amd64")),
        ];
        for (machine, offered, expected) in cases {
            let offered = offer(&offered);
            let chosen = Platform::parse(machine).unwrap().choose(&offered).ok();
            let chosen = chosen.and_then(|chosen| chosen.platform.as_ref()).map(ToString::to_string);
            assert_eq!(chosen.as_deref(), expected, "{machine}");
        }
    }

    #[test]
    fn refuses_nonsense() {
        for bad in ["", "/", "linux/", "linux/amd64/v1/x", "li nux/amd64"] {
            assert!(Platform::parse(bad).is_err(), "{bad:?}");
        }
    }
}
