//! `knarr info`: the machine, and how much is in it, in the shape of `docker info`.

use super::version::{program, runtime};
use crate::args::Shown;
use crate::settings::Settings;
use crate::standalone::ps;
use crate::template::Template;
use crate::{image, output};
use serde_json::{Value, json};
use std::path::Path;

/// Prints text, or through a template.
pub(crate) async fn run(settings: &Settings, arguments: &Shown) -> anyhow::Result<()> {
    let document = document(settings).await?;
    match arguments.format.as_deref() {
        None => text(&document).iter().for_each(|line| output::line(line)),
        Some("json") => output::line(&document.to_string()),
        Some(format) => output::line(&Template::parse(format)?.render(&document)?),
    }
    Ok(())
}

async fn document(settings: &Settings) -> anyhow::Result<Value> {
    let facts = ps::facts(settings).await?;
    let count = |states: &[&str]| facts.iter().filter(|facts| states.contains(&facts.state())).count();
    let uname = rustix::system::uname();
    let word = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    Ok(json!({
        "Containers": facts.len(),
        "ContainersRunning": count(&["running", "restarting"]),
        "ContainersPaused": count(&["paused"]),
        "ContainersStopped": count(&["created", "exited", "dead"]),
        "Images": image::open(settings)?.list()?.len(),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Driver": "overlay",
        "LoggingDriver": "cri",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup_version(),
        "DefaultRuntime": "knarr-runtime",
        "Runtimes": {"knarr-runtime": {"path": program(settings)}},
        "RuntimeVersion": runtime(settings),
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "KernelVersion": word(uname.release()),
        "OperatingSystem": system(),
        "OSType": std::env::consts::OS,
        "Architecture": word(uname.machine()),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory(),
        "Name": word(uname.nodename()),
        "DockerRootDir": settings.node.data_dir,
    }))
}

fn cgroup_version() -> &'static str {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "2" } else { "1" }
}

/// `PRETTY_NAME` of this machine.
fn system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

/// Bytes.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// Docker's lines, without what only a daemon has.
const LINES: [(&str, &str); 18] = [
    (" Containers", "Containers"),
    ("  Running", "ContainersRunning"),
    ("  Paused", "ContainersPaused"),
    ("  Stopped", "ContainersStopped"),
    (" Images", "Images"),
    (" Server Version", "ServerVersion"),
    (" Storage Driver", "Driver"),
    (" Logging Driver", "LoggingDriver"),
    (" Cgroup Driver", "CgroupDriver"),
    (" Cgroup Version", "CgroupVersion"),
    (" Default Runtime", "DefaultRuntime"),
    (" Kernel Version", "KernelVersion"),
    (" Operating System", "OperatingSystem"),
    (" OSType", "OSType"),
    (" Architecture", "Architecture"),
    (" CPUs", "NCPU"),
    (" Total Memory", "MemTotal"),
    (" Name", "Name"),
];

fn text(document: &Value) -> Vec<String> {
    let shown = |key: &str| match (&document[key], key) {
        (Value::Number(bytes), "MemTotal") => {
            format!("{:.2}GiB", bytes.as_f64().unwrap_or(0.0) / f64::from(1 << 30))
        }
        (Value::String(text), _) => text.clone(),
        (other, _) => other.to_string(),
    };
    let mut lines = vec![
        "Client: knarr".to_owned(),
        format!(" Version:    {}", env!("CARGO_PKG_VERSION")),
        String::new(),
        "Server:".to_owned(),
    ];
    lines.extend(LINES.iter().map(|(title, key)| format!("{title}: {}", shown(key))));
    lines.push(format!(" Docker Root Dir: {}", shown("DockerRootDir")));
    lines
}
