//! The effective settings as a configuration file: every key, what it means, and its value. A key without a value stands
//! there as a comment. What is printed can be used as the file.

use knarr_agent::config::Config;
use knarr_agent::config_reference::{Key, keys};
use toml::{Table, Value};

/// The whole file.
pub(crate) fn text(config: &Config) -> anyhow::Result<String> {
    let values = Table::try_from(config)?;
    let keys = keys();
    let is_table = |name: &str| keys.iter().any(|key| key.table == name);
    let top = keys.iter().filter(|key| key.table.is_empty());
    let (tables, plain): (Vec<&Key>, Vec<&Key>) = top.partition(|key| is_table(key.name));
    let mut text: String = plain.into_iter().map(|key| entry(key, values.get(key.name))).collect();
    for table in tables {
        let inner = values.get(table.name).and_then(Value::as_table);
        text.push_str(&format!("\n{}[{}]\n", comment(table), table.name));
        for key in keys.iter().filter(|key| key.table == table.name) {
            text.push_str(&entry(key, inner.and_then(|inner| inner.get(key.name))));
        }
    }
    Ok(text)
}

fn comment(key: &Key) -> String {
    key.meaning.iter().map(|line| format!("# {line}\n")).collect()
}

fn entry(key: &Key, value: Option<&Value>) -> String {
    let line = match value {
        Some(value) => format!("{} = {}\n", key.name, inline(value)),
        None => format!("# {} =\n", key.name),
    };
    comment(key) + &line
}

/// On one line, tables too.
fn inline(value: &Value) -> String {
    let Some(table) = value.as_table() else { return value.to_string() };
    let pairs: Vec<_> = table
        .iter()
        .map(|(name, value)| format!("{} = {}", Value::String(name.clone()), inline(value)))
        .collect();
    if pairs.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", pairs.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_the_same_configuration() {
        let mut config = Config { node_name: Some("with \"quotes\"".into()), ..Config::default() };
        config.engine.runtimes.insert("kata-x".into(), "/bin/kata".into());
        config.engine.runtimes.insert(String::new(), "/bin/default".into());
        let text = text(&config).unwrap();
        let again: Config = toml::from_str(&text).unwrap();
        assert_eq!(Table::try_from(&again).unwrap(), Table::try_from(&config).unwrap(), "{text}");
        assert!(text.contains("# Raise a negative `oom_score_adj`"), "{text}");
        assert!(text.contains("\nclamp_denied_limits = true\n") && text.contains("\n# listen =\n"), "{text}");
    }
}
