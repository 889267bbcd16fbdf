//! An encoded object by its fields: who changes one of them copies the others as they stand, without reading them.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::borrow::Cow;

/// The fields of one object, in their order.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl<'a> Fields<'a> {
    /// Of an object; nothing of what is none.
    pub(crate) fn read(json: &'a [u8]) -> Self {
        serde_json::from_slice(json).unwrap_or_default()
    }

    /// The fields of one that is an object itself.
    pub(crate) fn inner(&'a self, name: &str) -> Self {
        self.raw(name).map(|raw| Self::read(raw.get().as_bytes())).unwrap_or_default()
    }

    /// One field, decoded; null where it is not there.
    pub(crate) fn value(&self, name: &str) -> Value {
        self.raw(name).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some_and(|raw| raw.get() != "null")
    }

    /// Sets one field.
    pub(crate) fn set(&mut self, name: &'static str, value: &impl Serialize) {
        // Nothing that is set here has keys that are no texts, which is all that can fail.
        let Ok(raw) = to_raw_value(value) else { return };
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = Cow::Owned(raw),
            None => self.0.push((name.into(), Cow::Owned(raw))),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.0.iter().map(|(name, raw)| (&**name, &**raw))
    }

    fn raw(&self, name: &str) -> Option<&RawValue> {
        self.iter().find(|(known, _)| *known == name).map(|(_, raw)| raw)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Fields<'de>;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    fields.push((name, Cow::Borrowed(map.next_value::<&RawValue>()?)));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Borrowed wherever it stands without escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_touched_stays_as_it_stands() {
        let text = r#"{"a":{"x\n":1.50,"y":null},"b":[1, 2],"c":"t"}"#;
        let mut fields = Fields::read(text.as_bytes());
        let mut inner = fields.inner("a");
        assert_eq!((inner.has("y"), inner.has("z"), inner.value("x\n")), (false, false, json!(1.5)));
        inner.set("y", &json!({"new": true}));
        let inner = serde_json::to_string(&inner).unwrap();
        assert_eq!(inner, r#"{"x\n":1.50,"y":{"new":true}}"#);
        fields.set("c", &7);
        fields.set("d", &json!(null));
        assert_eq!(
            serde_json::to_string(&fields).unwrap(),
            r#"{"a":{"x\n":1.50,"y":null},"b":[1, 2],"c":7,"d":null}"#
        );
        for broken in ["", "[]", "{", "7", "null"] {
            assert_eq!(Fields::read(broken.as_bytes()).iter().count(), 0, "{broken}");
        }
    }
}
