//! The plan as a whole.

use super::*;
use serde_json::json;

fn known() -> Known<'static> {
    Known {
        name: "one",
        short_id: "0123456789ab",
        hostname: None,
        directory: "one",
        image_id: "sha256:1",
        image: (vec!["entry".into()], vec!["cmd".into()]),
        user: "www".into(),
        exposed: vec!["80/tcp".into()],
        health: health::OfImage::default(),
        inherited: Vec::new(),
        volumes: Vec::new(),
        labels: HashMap::from([
            ("of-image".to_owned(), "1".to_owned()),
            (AUTO_REMOVE_LABEL.to_owned(), "true".to_owned()),
        ]),
        log_directory: Path::new("/logs"),
        detached: true,
        second_family: false,
    }
}

fn options() -> CreateOptions {
    CreateOptions { restart: "no".into(), network: "bridge".into(), image: "i".into(), ..Default::default() }
}

#[test]
fn what_was_asked_for_is_told_in_its_own_words() {
    for (entrypoint, command, expected) in [
        (None, &[][..], json!({"User": "www", "Entrypoint": ["entry"], "Cmd": ["cmd"]})),
        (None, &["x"], json!({"User": "www", "Entrypoint": ["entry"], "Cmd": ["x"]})),
        (Some("e"), &[], json!({"User": "www", "Entrypoint": ["e"], "Cmd": null})),
        (Some(""), &["x"], json!({"User": "www", "Entrypoint": null, "Cmd": ["x"]})),
    ] {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let options = CreateOptions { entrypoint: entrypoint.map(Into::into), command, ..options() };
        let told = inspected::config(&options, &known());
        for (member, expected) in expected.as_object().unwrap() {
            assert_eq!(&told[member], expected, "{member}");
        }
    }
    let options = CreateOptions { user: Some("7:8".into()), ..options() };
    assert_eq!(inspected::config(&options, &known())["User"], "7:8");
}

#[test]
fn entry_points_replace_commands() {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    for (entrypoint, given, expected) in [
        (None, &["x"][..], (&[][..], &["x"][..])),
        (Some("e"), &[], (&["e"], &[])),
        (Some("e"), &["x"], (&["e"], &["x"])),
        (Some(""), &["x"], (&["x"], &[])),
    ] {
        let options = CreateOptions {
            entrypoint: entrypoint.map(str::to_owned),
            command: words(given),
            ..CreateOptions::default()
        };
        assert_eq!(command(&options).unwrap(), (words(expected.0), words(expected.1)), "{entrypoint:?}");
    }
    let nothing = CreateOptions { entrypoint: Some(String::new()), ..CreateOptions::default() };
    assert_eq!(command(&nothing).unwrap_err().to_string(), "no command specified");
}

#[test]
fn labels_tell_what_ps_shows() {
    let plan = plan(&CreateOptions { rm: true, publish_all: true, ..options() }, &known()).unwrap();
    let labels = &plan.container.labels;
    assert_eq!(labels[COMMAND_LABEL], "entry cmd");
    let words = ["sh -x", "-c", "echo a", "b"].map(str::to_owned);
    assert_eq!(shown_command(&words), "sh -x -c 'echo a' b");
    assert!(labels[PORTS_LABEL].ends_with("->80/tcp") && labels.contains_key(AUTO_REMOVE_LABEL));
    assert_eq!(own_labels(labels), [("of-image".to_owned(), "1".to_owned())].into());
}

#[test]
fn what_cannot_be_is_refused() {
    let refused = |options: CreateOptions| format!("{:#}", plan(&options, &known()).unwrap_err());
    let both = CreateOptions { restart: "always".into(), rm: true, ..options() };
    assert!(refused(both).contains("cannot specify both --restart and --rm"));
    let published = CreateOptions { network: "none".into(), publish: vec!["1:1".into()], ..options() };
    assert_eq!(plan(&published, &known()).unwrap().sandbox.port_mappings, []);
    let twice = vec!["/a:/x".to_owned(), "/b:/x".to_owned()];
    assert!(refused(CreateOptions { volume: twice, ..options() }).contains("Duplicate mount point: /x"));
}
