//! `knarr network ls` and `inspect`: the networks that a container of `knarr run` can have. There are three; what they
//! are is a matter of the settings.

use super::facts::Facts;
use super::ps;
use crate::args::Network as Command;
use crate::settings::Settings;
use crate::{output, template};
use anyhow::{Context, bail};
use knarr_agent::engine::network::cidr::Cidr;
use knarr_images::Digest;
use serde_json::{Map, Value, json};

/// Name and driver of each.
const NETWORKS: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// Header and field of each column.
const COLUMNS: [(&str, &str); 4] =
    [("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("SCOPE", "Scope")];

/// One of the network commands.
pub(crate) async fn run(settings: &Settings, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Ls { quiet, format } => list(settings, quiet, format.as_deref()),
        Command::Inspect { format, names } => {
            let facts = ps::facts(settings).await?;
            let found = names.iter().map(|name| document(settings, name, &facts));
            let found = found.collect::<anyhow::Result<Vec<_>>>()?;
            match format {
                None => output::json(&found),
                Some(_) => template::print(&found, format.as_deref(), &[]),
            }
        }
    }
}

fn list(settings: &Settings, quiet: bool, format: Option<&str>) -> anyhow::Result<()> {
    let row = |(name, driver): &(&str, &str)| {
        json!({
            "ID": &id(settings, name)[..12], "Name": name, "Driver": driver, "Scope": "local",
            "IPv6": "false", "Internal": "false", "Labels": "",
        })
    };
    let rows: Vec<Value> = NETWORKS.iter().map(row).collect();
    if quiet {
        rows.iter().for_each(|row| output::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(());
    }
    template::print(&rows, format, &COLUMNS)
}

/// The same for as long as the settings are the same.
fn id(settings: &Settings, name: &str) -> String {
    let known = format!("{} {name}", settings.node.run_network.bridge);
    Digest::of(known.as_bytes()).hex().to_owned()
}

fn document(settings: &Settings, wanted: &str, facts: &[Facts]) -> anyhow::Result<Value> {
    let called = |(name, _): &&(&str, &str)| {
        *name == wanted || (wanted.len() >= 3 && id(settings, name).starts_with(wanted))
    };
    let Some((name, driver)) = NETWORKS.iter().find(called) else { bail!("network {wanted} not found") };
    let (mut ranges, mut options) = (Vec::new(), json!({}));
    if *name == "bridge" {
        let network = &settings.node.run_network;
        let gateway = Cidr::parse(&network.pod_cidr).context("run_network.pod_cidr")?.gateway();
        ranges.push(json!({"Subnet": network.pod_cidr, "Gateway": gateway}));
        ranges.extend(network.pod_cidr_v6.as_ref().map(|range| json!({"Subnet": range})));
        options = json!({"com.docker.network.bridge.name": network.bridge});
    }
    Ok(json!({
        "Name": name,
        "Id": id(settings, name),
        "Scope": "local",
        "Driver": driver,
        "EnableIPv6": ranges.len() > 1,
        "IPAM": {"Driver": "default", "Options": Value::Null, "Config": ranges},
        "Internal": false,
        "Containers": members(name, facts),
        "Options": options,
        "Labels": {},
    }))
}

/// The running containers that have it, by id.
fn members(network: &str, facts: &[Facts]) -> Map<String, Value> {
    let running = facts.iter().filter(|facts| matches!(facts.state(), "running" | "paused"));
    let inside = running.filter(|facts| {
        let mode = facts.options["NetworkMode"].as_str().unwrap_or("bridge");
        mode == network || (network == "bridge" && mode == "default")
    });
    let member =
        |facts: &Facts| (facts.status.id.clone(), json!({"Name": facts.name, "IPv4Address": facts.address}));
    inside.map(member).collect()
}
