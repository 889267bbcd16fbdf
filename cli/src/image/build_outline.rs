//! The stages of a Dockerfile and what one of them takes, as buildx tells it: in columns, and as JSON.

use super::build_findings::location;
use knarr_images::{Outline, Taken, Target};
use serde_json::{Map, Value, json};

/// Columns so many spaces apart, the last one as it is.
fn columns(rows: &[Vec<&str>], gap: usize) -> String {
    let width =
        |column: usize| rows.iter().filter_map(move |row| row.get(column)).map(|cell| cell.chars().count());
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let padded = if column + 1 == row.len() { 0 } else { width(column).max().unwrap_or(0) + gap };
            text.push_str(&format!("{cell:<padded$}"));
        }
        text.push('\n');
    }
    text
}

pub(super) fn targets_text(targets: &[Target]) -> String {
    let named = |target: &Target| match (target.name.as_str(), target.is_default) {
        ("", true) => "(default)".to_owned(),
        (name, true) => format!("{name} (default)"),
        (name, false) => name.to_owned(),
    };
    let names: Vec<String> = targets.iter().map(named).collect();
    let mut rows = vec![vec!["TARGET", "DESCRIPTION"]];
    rows.extend(names.iter().zip(targets).map(|(name, target)| vec![name.as_str(), &target.description]));
    columns(&rows, 1)
}

pub(super) fn targets_document(targets: &[Target], source: &str) -> Value {
    let told = targets.iter().map(|target| {
        let mut document = Map::new();
        put(&mut document, "name", &target.name);
        if target.is_default {
            document.insert("default".to_owned(), json!(true));
        }
        put(&mut document, "description", &target.description);
        put(&mut document, "base", &target.base);
        put(&mut document, "platform", &target.platform);
        document.insert("location".to_owned(), location(target.lines));
        Value::Object(document)
    });
    json!({"targets": told.collect::<Vec<_>>(), "sources": [source]})
}

/// A text that is empty is not told.
fn put(document: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        document.insert(key.to_owned(), json!(text));
    }
}

pub(super) fn outline_text(outline: &Outline) -> String {
    let mut text = String::new();
    if !outline.name.is_empty() || !outline.description.is_empty() {
        let name = if outline.name.is_empty() { "(default)" } else { &outline.name };
        let mut rows = vec![vec!["TARGET:", name]];
        if !outline.description.is_empty() {
            rows.push(vec!["DESCRIPTION:", &outline.description]);
        }
        text.push_str(&columns(&rows, 1));
        text.push('\n');
    }
    if !outline.arguments.is_empty() {
        let mut rows = vec![vec!["BUILD ARG", "VALUE", "DESCRIPTION"]];
        rows.extend(
            outline.arguments.iter().map(|one| vec![one.name.as_str(), &one.value, &one.description]),
        );
        text.push_str(&columns(&rows, 3));
        text.push('\n');
    }
    for (title, list) in [("SECRET", &outline.secrets), ("SSH", &outline.agents)] {
        if !list.is_empty() {
            let mut rows = vec![vec![title, "REQUIRED"]];
            rows.extend(
                list.iter().map(|one| vec![one.name.as_str(), if one.required { "true" } else { "" }]),
            );
            text.push_str(&columns(&rows, 3));
            text.push('\n');
        }
    }
    text
}

pub(super) fn outline_document(outline: &Outline, source: &str) -> Value {
    let each = |list: &[Taken]| {
        let told = list.iter().map(|taken| {
            let mut document = Map::new();
            document.insert("name".to_owned(), json!(taken.name));
            put(&mut document, "description", &taken.description);
            put(&mut document, "value", &taken.value);
            if taken.required {
                document.insert("required".to_owned(), json!(true));
            }
            document.insert("location".to_owned(), location(taken.lines));
            Value::Object(document)
        });
        json!(told.collect::<Vec<_>>())
    };
    let mut document = Map::new();
    put(&mut document, "name", &outline.name);
    put(&mut document, "description", &outline.description);
    for (key, list) in [("args", &outline.arguments), ("secrets", &outline.secrets), ("ssh", &outline.agents)]
    {
        if !list.is_empty() {
            document.insert(key.to_owned(), each(list));
        }
    }
    document.insert("sources".to_owned(), json!([source]));
    Value::Object(document)
}
