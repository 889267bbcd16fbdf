//! `RUN --mount=type=bind|cache|tmpfs|secret|ssh,...` as data.

use crate::build::near::did_you_mean;
use crate::error::{Error, Result};

/// What somebody may have meant.
const KEYS: [&str; 14] = [
    "type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid",
    "gid", "src", "env",
];

/// One `--mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepMount {
    pub(crate) kind: Kind,
    /// Where in the container; secrets have a default of their own.
    pub(crate) target: Option<String>,
    /// A stage or image instead of the context.
    pub(crate) from: Option<String>,
    /// Path in the context, stage, image or cache.
    pub(crate) source: String,
    pub(crate) read_only: Option<bool>,
    /// Of a cache or secret.
    pub(crate) id: Option<String>,
    pub(crate) sharing: Sharing,
    pub(crate) required: bool,
    /// The environment variable that gets the secret.
    pub(crate) env: Option<String>,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of a tmpfs.
    pub(crate) size: Option<u64>,
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    /// The socket of an agent that holds keys.
    Ssh,
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Shared,
    /// A second user gets an empty one of its own.
    Private,
    /// A second user waits.
    Locked,
}

impl StepMount {
    /// The stage or image that a mount shows, for the plan: what variables there are is not known yet.
    pub(crate) fn origin(text: &str) -> Result<Option<String>> {
        let from = match text.contains('$') {
            true => fields(text).into_iter().rfind(|(key, _)| key == "from").map(|(_, value)| value),
            false => Self::parse(text)?.from,
        };
        match from {
            Some(from) if from.contains('$') => {
                Err(Error::invalid("'from' doesn't support variable expansion, define alias stage instead"))
            }
            from => Ok(from.filter(|from| !from.is_empty())),
        }
    }

    /// `key=value,...`; a field with commas in it stands in double quotes.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let fields = fields(text);
        let kind = fields.iter().find(|(key, _)| key == "type").map_or("bind", |(_, value)| value.as_str());
        let mut mount = Self::of(kind_of(kind)?);
        for (key, value) in &fields {
            mount.set(key, value)?;
        }
        if mount.target.is_none() && !matches!(mount.kind, Kind::Secret | Kind::Ssh) {
            // The working directory, from which relative ones count.
            mount.target = Some(".".to_owned());
        }
        Ok(mount)
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            target: None,
            from: None,
            source: String::new(),
            read_only: None,
            id: None,
            sharing: Sharing::Shared,
            required: false,
            env: None,
            mode: None,
            uid: 0,
            gid: 0,
            size: None,
        }
    }

    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let wrong = |what: &str| Error::invalid(format!("--mount: {key}={value}: {what}"));
        let number = || value.parse::<u32>().map_err(|_| wrong("not a number"));
        let boolean = || match value {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(wrong("expected true or false")),
        };
        match key {
            // Labels of a security module that is not used here (podman's words).
            "type" | "z" | "Z" | "relabel" => {}
            "target" | "dst" | "destination" => self.target = Some(value.to_owned()),
            "source" | "src" => value.clone_into(&mut self.source),
            "from" => self.from = Some(value.to_owned()).filter(|from| !from.is_empty()),
            "ro" | "readonly" => self.read_only = Some(boolean()?),
            "rw" | "readwrite" => self.read_only = Some(!boolean()?),
            "id" => self.id = Some(value.to_owned()),
            "env" => self.env = Some(value.to_owned()),
            "required" => self.required = boolean()?,
            "mode" => {
                self.mode = Some(u32::from_str_radix(value, 8).map_err(|_| wrong("not an octal mode"))?)
            }
            "uid" => self.uid = number()?,
            "gid" => self.gid = number()?,
            "size" => self.size = Some(bytes(value).ok_or_else(|| wrong("not a size"))?),
            "sharing" => {
                self.sharing = match value {
                    "shared" => Sharing::Shared,
                    "private" => Sharing::Private,
                    "locked" => Sharing::Locked,
                    _ => return Err(wrong("shared, private or locked")),
                }
            }
            _ => {
                let hint = did_you_mean(key, KEYS.into_iter());
                return Err(Error::invalid(format!("unexpected key '{key}' in --mount{hint}")));
            }
        }
        Ok(())
    }
}

fn kind_of(name: &str) -> Result<Kind> {
    match name {
        "bind" => Ok(Kind::Bind),
        "cache" => Ok(Kind::Cache),
        "tmpfs" => Ok(Kind::Tmpfs),
        "secret" => Ok(Kind::Secret),
        "ssh" => Ok(Kind::Ssh),
        other => Err(Error::invalid(format!("unsupported mount type {other:?}"))),
    }
}

fn fields(text: &str) -> Vec<(String, String)> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            c => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    let split = |field: &String| {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        (key.trim().to_ascii_lowercase(), value.to_owned())
    };
    fields.iter().filter(|field| !field.is_empty()).map(split).collect()
}

/// `512m`, `1g`: powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let plain = lower.trim_end_matches('b');
    let number = plain.trim_end_matches(['k', 'm', 'g']);
    let shift = match &plain[number.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let cache = StepMount::parse("type=cache,id=x,dst=/c,sharing=locked,mode=0700,uid=5").unwrap();
        assert_eq!(
            (cache.kind, cache.sharing, cache.mode, cache.uid),
            (Kind::Cache, Sharing::Locked, Some(0o700), 5)
        );
        let bind = StepMount::parse("target=/b,from=one,source=x,rw").unwrap();
        assert_eq!((bind.kind, bind.read_only, bind.from.as_deref()), (Kind::Bind, Some(false), Some("one")));
        assert_eq!(StepMount::parse("from=one,z").unwrap().target.as_deref(), Some("."));
        let tmpfs = StepMount::parse("type=tmpfs,\"target=/a,b\",size=2m").unwrap();
        assert_eq!((tmpfs.target.as_deref(), tmpfs.size), (Some("/a,b"), Some(2 << 20)));
        assert!(StepMount::parse("type=secret,id=s,required").unwrap().required);
        assert_eq!(StepMount::origin("type=$t,from=one").unwrap().as_deref(), Some("one"));
        assert!(StepMount::origin("type=cache,from=$t").is_err());
        for (text, words) in [
            ("type=odd,target=/x", "unsupported mount type"),
            ("target=/x,nope=1", "unexpected key 'nope'"),
            ("type=cache,target=/x,sharing=all", "shared, private or locked"),
        ] {
            let error = StepMount::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
