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
    let _ = Scan { path: &mut String::new(), found: &mut found, unknown: &HashSet::new() }
        .deserialize(&mut deserializer);
    found
}

/// What is known of the text that an object was read from.
#[derive(Debug, Clone)]
pub enum Written<'a> {
    /// It is this.
    Json(&'a [u8]),
    /// This was found wrong with it.
    Faults(Vec<String>),
}

impl Written<'_> {
    /// What was found, and these unknown fields: those of a text in its order, last what it does not hold.
    pub(super) fn with(self, unknown: Vec<String>) -> Vec<String> {
        match self {
            Written::Json(body) if unknown.is_empty() => duplicate_fields(body),
            Written::Json(body) => in_order(unknown, body),
            Written::Faults(faults) => faults.into_iter().chain(unknown).collect(),
        }
    }

    /// What was found.
    pub(super) fn faults(self) -> Vec<String> {
        self.with(Vec::new())
    }
}

fn in_order(unknown: Vec<String>, body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let wanted: HashSet<&str> = unknown.iter().map(String::as_str).collect();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    // As above.
    let _ =
        Scan { path: &mut String::new(), found: &mut found, unknown: &wanted }.deserialize(&mut deserializer);
    let missing: Vec<String> = unknown.iter().filter(|message| !found.contains(message)).cloned().collect();
    found.into_iter().chain(missing).collect()
}

struct Scan<'a> {
    path: &'a mut String,
    found: &'a mut Vec<String>,
    /// The messages of fields that are unknown, to be found where they stand.
    unknown: &'a HashSet<&'a str>,
}

impl Scan<'_> {
    /// The field at the path, beside those of its object that were seen before.
    fn report(&mut self, seen: &mut HashSet<String>, name: String) {
        let again = seen.contains(&name);
        seen.insert(name);
        if self.found.len() >= REPORTED {
            return;
        }
        if again {
            self.found.push(format!("duplicate field \"{}\"", self.path));
        } else if !self.unknown.is_empty() {
            let message = format!("unknown field \"{}\"", self.path);
            self.found.extend(Some(message).filter(|message| self.unknown.contains(message.as_str())));
        }
    }
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

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            let before = self.path.len();
            if before > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            self.report(&mut seen, name);
            map.next_value_seed(Scan { path: self.path, found: self.found, unknown: self.unknown })?;
            self.path.truncate(before);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let before = self.path.len();
        for index in 0_usize.. {
            self.path.push_str(&format!("[{index}]"));
            let more = items.next_element_seed(Scan {
                path: self.path,
                found: self.found,
                unknown: self.unknown,
            })?;
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
