//! Identifiers of sandboxes and containers: 64 hexadecimal digits, as every tool around CRI expects.
//!
//! Users may give any unique prefix (`crictl` prints 13 digits), so looking up is by prefix; what several ids share
//! is refused, never guessed.

use knarr_cri::Status;
use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Bound;

/// A fresh random identifier.
pub(crate) fn new_id() -> std::io::Result<String> {
    let mut bytes = [0u8; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The entry whose key is `id`, or the only one whose key starts with it; `None` where there is none.
pub(crate) fn find<'a, T>(entries: &'a BTreeMap<String, T>, id: &str) -> Result<Option<&'a T>, Status> {
    if id.is_empty() {
        return Ok(None);
    }
    if let Some(exact) = entries.get(id) {
        return Ok(Some(exact));
    }
    let mut matches = entries
        .range::<str, _>((Bound::Included(id), Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(id));
    let first = matches.next();
    if matches.next().is_some() {
        return Err(Status::invalid_argument(format!("multiple IDs found with provided prefix: {id}")));
    }
    Ok(first.map(|(_, entry)| entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_64_lower_case_hex_digits_and_differ() {
        let id = new_id().unwrap();
        assert_eq!(id.len(), 64);
        assert!(id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
        assert_ne!(id, new_id().unwrap());
    }

    #[test]
    fn a_unique_prefix_is_enough_and_a_shared_one_is_refused() {
        let entries: BTreeMap<String, u8> =
            [("abc1".to_owned(), 1), ("abc2".to_owned(), 2), ("abc".to_owned(), 0), ("b".to_owned(), 3)]
                .into();
        for (given, found) in [("abc1", Some(1)), ("abc", Some(0)), ("b", Some(3)), ("c", None), ("", None)] {
            assert_eq!(find(&entries, given).unwrap().copied(), found, "{given}");
        }
        assert!(find(&entries, "ab").unwrap_err().message().contains("multiple IDs"));
    }
}
