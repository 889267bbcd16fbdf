//! What each key of the configuration file means, for whoever prints it.
//!
//! The doc comments of `config.rs` are the only place where a key is explained; they are read from its source, which is
//! part of the program.

/// One key of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The table it stands in; empty at the top.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it means, a line each.
    pub meaning: Vec<&'static str>,
}

const SOURCE: &str = include_str!("config.rs");

/// All keys in the order of the file; a table's own key comes before what is in it.
pub fn keys() -> Vec<Key> {
    let fields = fields(SOURCE);
    let mut keys = Vec::new();
    for field in fields.iter().filter(|field| field.owner == "Config") {
        let inner = fields.iter().filter(|inner| inner.owner == field.kind);
        keys.push(field.key(""));
        keys.extend(inner.map(|inner| inner.key(field.name)));
    }
    keys
}

/// A public field of a struct.
struct Field {
    owner: &'static str,
    name: &'static str,
    kind: &'static str,
    meaning: Vec<&'static str>,
}

impl Field {
    fn key(&self, table: &'static str) -> Key {
        Key { table, name: self.name, meaning: self.meaning.clone() }
    }
}

fn fields(source: &'static str) -> Vec<Field> {
    let (mut fields, mut owner, mut meaning) = (Vec::new(), "", Vec::new());
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("/// ") {
            meaning.push(text);
        } else if let Some(name) = line.strip_prefix("pub struct ") {
            owner = name.trim_end_matches(" {");
            meaning.clear();
        } else if let Some((name, kind)) = line.strip_prefix("pub ").and_then(|field| field.split_once(": "))
            && !owner.is_empty()
            && kind.ends_with(',')
        {
            let kind = kind.trim_end_matches(',');
            fields.push(Field { owner, name, kind, meaning: std::mem::take(&mut meaning) });
        } else if line == "}" {
            owner = "";
        } else if !line.starts_with("#[") {
            meaning.clear();
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_can_be_set_is_explained() {
        let keys = keys();
        let config = serde_json::to_value(crate::config::Config::default()).unwrap();
        for (name, value) in config.as_object().unwrap() {
            let inner = value.as_object().filter(|_| keys.iter().any(|key| key.table == name));
            let names: Vec<_> =
                inner.into_iter().flatten().map(|(inner, _)| (name.as_str(), inner.as_str())).collect();
            for (table, name) in names.into_iter().chain([("", name.as_str())]) {
                let key = keys.iter().find(|key| key.table == table && key.name == name);
                assert!(key.is_some_and(|key| !key.meaning.is_empty()), "{table}.{name}");
            }
        }
        assert!(keys.iter().any(|key| key.table == "run_network" && key.name == "bridge"));
    }
}
