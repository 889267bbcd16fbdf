//! Sizes as Docker reads them.

use anyhow::{Context, bail};

/// The same with the option's name in the error.
pub(crate) fn named(flag: &str, text: &str) -> anyhow::Result<i64> {
    bytes(text).with_context(|| format!("--{flag} {text}"))
}

/// `512m`, `1.5g`, `2GiB`, ...: powers of 1024.
pub(super) fn bytes(text: &str) -> anyhow::Result<i64> {
    let lower = text.to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let shift = match unit.trim_start().trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => bail!("invalid size: '{text}'"),
    };
    let scale = 1i64 << shift;
    let value = match number.parse::<i64>() {
        Ok(whole) => whole.checked_mul(scale),
        Err(_) => fraction(number).map(|number| (number * scale as f64) as i64),
    };
    value.filter(|bytes| *bytes > 0).with_context(|| format!("invalid size: '{text}'"))
}

fn fraction(number: &str) -> Option<f64> {
    number.parse().ok().filter(|value: &f64| value.is_finite() && *value < 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_like_docker() {
        for (text, expected) in [
            ("512", 512),
            ("1k", 1024),
            ("2M", 2 << 20),
            ("3gb", 3 << 30),
            ("0.5g", 1 << 29),
            ("1.5KiB", 1536),
            ("512 m", 512 << 20),
        ] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for wrong in ["", "m", "-1m", "1x", "9999999999t", "1.2.3m", ".", "0", "1ibx"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }
}
