//! Sizes as Docker reads them.

use anyhow::{Context, bail};

/// The same with the option's name in the error.
pub(super) fn named(flag: &str, text: &str) -> anyhow::Result<i64> {
    bytes(text).with_context(|| format!("--{flag} {text}"))
}

/// `512m`, `2g`, ...: powers of 1024.
pub(super) fn bytes(text: &str) -> anyhow::Result<i64> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches('b').trim_end_matches(['k', 'm', 'g', 't']);
    let shift = match lower[number.len()..].trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => bail!("not a size"),
    };
    let value: i64 = number.parse().context("not a size")?;
    value.checked_mul(1 << shift).filter(|bytes| *bytes > 0).context("out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_like_docker() {
        for (text, expected) in [("512", 512), ("1k", 1024), ("2M", 2 << 20), ("3gb", 3 << 30)] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for wrong in ["", "m", "-1m", "1x", "9999999999t"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
