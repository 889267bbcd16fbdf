//! Fields that occur twice in a JSON body. A parsed object cannot show them any more, so the text is read once more,
//! keeping nothing but the names of the fields on the way.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// As many are reported as a person reads.
const REPORTED: usize = 100;

/// `duplicate field "spec.replicas"` for each of them; empty for a body that is no JSON.
pub fn duplicate_fields(body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    // A body that does not parse is refused by whoever parses it for real.
    let _ = Scan { path: &mut String::new(), found: &mut found }.deserialize(&mut deserializer);
    found
}

struct Scan<'a> {
    path: &'a mut String,
    found: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Scan<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Scan<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let before = self.path.len();
            if before > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            if seen.contains(&name) && self.found.len() < REPORTED {
                self.found.push(format!("duplicate field \"{}\"", self.path));
            }
            seen.insert(name);
            map.next_value_seed(Scan { path: self.path, found: self.found })?;
            self.path.truncate(before);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let before = self.path.len();
        for index in 0_usize.. {
            self.path.push_str(&format!("[{index}]"));
            let more = items.next_element_seed(Scan { path: self.path, found: self.found })?;
            self.path.truncate(before);
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_occur_twice_are_named_by_their_path() {
        let body = br#"{"spec": {"a": 1, "b": [{"c": 1, "c": 2}], "a": 2}, "x": null}"#;
        assert_eq!(
            duplicate_fields(body),
            [r#"duplicate field "spec.b[0].c""#, r#"duplicate field "spec.a""#]
        );
        assert_eq!(duplicate_fields(br#"{"a": 1}"#), Vec::<String>::new());
        assert_eq!(duplicate_fields(b"{"), Vec::<String>::new());
    }
}
