//! `knarr inspect`: containers as JSON or through a template, in the words of `docker inspect`.

use super::Standalone;
use super::facts::Facts;
use crate::args::Inspect;
use crate::settings::Settings;
use crate::{output, template};
use anyhow::bail;

/// Prints a list with one object per container, or a line each.
pub(crate) async fn run(settings: Settings, arguments: Inspect) -> anyhow::Result<()> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in &arguments.names {
        match document(&settings, name).await {
            Ok(document) => found.push(document),
            Err(error) => failures.push(output::describe(&error)),
        }
    }
    match arguments.format.as_deref() {
        None => output::json(&found)?,
        Some("json") => output::line(&serde_json::to_string(&found)?),
        Some(format) => {
            let template = template::Template::parse(format)?;
            for document in &found {
                output::line(&template.render(document)?);
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
}

async fn document(settings: &Settings, name: &str) -> anyhow::Result<serde_json::Value> {
    let place = Standalone::find(settings, name).await?;
    Ok(Facts::expect(&place).await?.document(&place.log_file()))
}
