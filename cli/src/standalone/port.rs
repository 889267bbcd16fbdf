//! `knarr port`: where a container's ports are published.

use super::Standalone;
use super::facts::Facts;
use super::plan::ports::joined;
use crate::output;
use crate::settings::Settings;
use anyhow::bail;

/// All of them, or those of one port of the container.
pub(crate) async fn run(settings: &Settings, name: &str, port: Option<&str>) -> anyhow::Result<()> {
    let place = Standalone::find(settings, name).await?;
    let facts = Facts::expect(&place).await?;
    let wanted = port.map(|port| if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") });
    let mut found = false;
    let all = facts.options["PortBindings"].as_object().into_iter().flatten();
    let mut all: Vec<_> = all.collect();
    // Ports are numbers: 80 comes before 443.
    all.sort_by_key(|(inside, _)| inside.split('/').next().and_then(|port| port.parse::<u16>().ok()));
    for (inside, bindings) in all {
        if wanted.as_ref().is_some_and(|wanted| wanted != inside) {
            continue;
        }
        for binding in bindings.as_array().into_iter().flatten() {
            found = true;
            let text = |key: &str| binding[key].as_str().unwrap_or_default().to_owned();
            let outside = joined(&text("HostIp"), &text("HostPort"));
            output::line(&if wanted.is_some() { outside } else { format!("{inside} -> {outside}") });
        }
    }
    match wanted {
        Some(port) if !found => bail!("no public port '{port}' published for {name}"),
        _ => Ok(()),
    }
}
