//! `knarr image import`: a directory or a tar archive (a file, standard input, a URL) becomes an image of one layer, and
//! is pushed on request.

use super::push;
use crate::args::Import;
use crate::events::{Journal, familiar};
use crate::output;
use anyhow::{Context, bail};
use knarr_images::{ImageStore, ImportConfig, Platform};
use std::collections::BTreeMap;
use std::path::Path;

/// Imports, pushes with `--push`, prints the image's id.
pub(crate) async fn run(store: &ImageStore, journal: &Journal, arguments: Import) -> anyhow::Result<()> {
    let config = config(&arguments)?;
    let name = arguments.name.as_deref().unwrap_or_default();
    let image = match arguments.source.to_str() {
        Some("-") => store.import(Path::new("/dev/stdin"), name, config)?,
        Some(url) if is_url(url) => store.import_url(url, name, config).await?,
        _ => store.import(&arguments.source, name, config)?,
    };
    let name = arguments.name.as_deref().map(familiar);
    journal.image("import", &image.id, name.as_ref().unwrap_or(&image.id));
    if let Some(name) = name.filter(|_| arguments.push) {
        push::push(store, journal, &image, &name, false).await?;
    }
    output::line(&image.id);
    Ok(())
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn config(arguments: &Import) -> anyhow::Result<ImportConfig> {
    for variable in &arguments.env {
        if !variable.contains('=') {
            bail!("--env {variable}: not of the form NAME=VALUE");
        }
    }
    Ok(ImportConfig {
        cmd: arguments.cmd.as_deref().map(argument_vector).transpose().context("--cmd")?.unwrap_or_default(),
        entrypoint: arguments
            .entrypoint
            .as_deref()
            .map(argument_vector)
            .transpose()
            .context("--entrypoint")?
            .unwrap_or_default(),
        env: arguments.env.clone(),
        workdir: arguments.workdir.clone().unwrap_or_default(),
        user: arguments.user.clone().unwrap_or_default(),
        labels: labels(&arguments.label)?,
        changes: arguments.change.clone(),
        message: arguments.message.clone(),
        platform: arguments.platform.as_deref().map(Platform::parse).transpose()?,
        exposed_ports: arguments.expose.iter().map(|port| exposed(port)).collect::<Result<_, _>>()?,
    })
}

/// The exec form is a JSON array; anything else is a line for a shell, as in a Dockerfile.
fn argument_vector(text: &str) -> anyhow::Result<Vec<String>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).context("not a JSON array of strings");
    }
    Ok(vec!["/bin/sh".into(), "-c".into(), text.into()])
}

fn labels(pairs: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    pairs
        .iter()
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .with_context(|| format!("--label {pair}: not of the form NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect()
}

fn exposed(port: &str) -> anyhow::Result<String> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    number.parse::<u16>().with_context(|| format!("--expose {port}: not a port"))?;
    Ok(format!("{number}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_form_and_shell_form() {
        assert_eq!(argument_vector(r#"["a","b c"]"#).unwrap(), ["a", "b c"]);
        assert_eq!(argument_vector("a b").unwrap(), ["/bin/sh", "-c", "a b"]);
        assert!(argument_vector("[1]").is_err());
    }

    #[test]
    fn ports_are_tcp_unless_said_otherwise() {
        assert_eq!(exposed("80").unwrap(), "80/tcp");
        assert_eq!(exposed("53/udp").unwrap(), "53/udp");
        assert!(exposed("http").is_err());
    }
}
