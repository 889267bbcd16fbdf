//! `knarr version`: what is installed, in the shape of `docker version`. There is no daemon, so client and server are one.

use crate::args::Shown;
use crate::output;
use crate::settings::Settings;
use crate::template::Template;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;

/// Prints text, or through a template.
pub(crate) fn run(settings: &Settings, arguments: &Shown) -> anyhow::Result<()> {
    let document = document(settings);
    match arguments.format.as_deref() {
        None => text(&document).iter().for_each(|line| output::line(line)),
        Some("json") => output::line(&document.to_string()),
        Some(format) => output::line(&Template::parse(format)?.render(&document)?),
    }
    Ok(())
}

fn document(settings: &Settings) -> Value {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let (os, arch, version) = (std::env::consts::OS, architecture(), env!("CARGO_PKG_VERSION"));
    json!({
        "Client": {"Platform": {"Name": "knarr"}, "Version": version, "Os": os, "Arch": arch, "Context": "default"},
        "Server": {
            "Platform": {"Name": "knarr"},
            "Components": [
                {"Name": "Engine", "Version": version},
                {"Name": "runtime", "Version": runtime(settings)},
            ],
            "Version": version, "Os": os, "Arch": arch, "KernelVersion": kernel,
        },
    })
}

/// As Go names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The runtime of containers that ask for none: what the settings say, else the one beside this program.
pub(crate) fn program(settings: &Settings) -> PathBuf {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("knarr-runtime"));
    let set = settings.node.engine.runtimes.get("").cloned();
    set.or_else(|| beside().filter(|path| path.exists())).unwrap_or_else(|| "knarr-runtime".into())
}

/// The first line that the runtime says of itself.
pub(crate) fn runtime(settings: &Settings) -> String {
    let program = program(settings);
    let said = Command::new(program).arg("--version").output();
    let line = said.ok().and_then(|said| String::from_utf8(said.stdout).ok()).unwrap_or_default();
    line.lines().next().unwrap_or_default().to_owned()
}

fn text(document: &Value) -> Vec<String> {
    let field = |part: &str, key: &str| document[part][key].as_str().unwrap_or_default().to_owned();
    let mut lines = vec![
        "Client: knarr".to_owned(),
        format!(" Version:           {}", field("Client", "Version")),
        format!(" OS/Arch:           {}/{}", field("Client", "Os"), field("Client", "Arch")),
        " Context:           default".to_owned(),
        String::new(),
        "Server: knarr (there is no daemon)".to_owned(),
    ];
    for part in document["Server"]["Components"].as_array().into_iter().flatten() {
        lines.push(format!(" {}:", part["Name"].as_str().unwrap_or_default()));
        lines.push(format!("  Version:          {}", part["Version"].as_str().unwrap_or_default()));
    }
    lines.push(format!(" Kernel Version:    {}", field("Server", "KernelVersion")));
    lines
}
