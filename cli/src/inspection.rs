//! What `inspect` prints of anything: a list with one object for each name, or a line each by a template. What is not
//! there is told after what is.

use crate::image::document;
use crate::{output, template};
use anyhow::bail;
use serde_json::Value;

/// Prints the answers to all names; fails if there was none to one of them.
pub(crate) fn print(answers: Vec<anyhow::Result<Value>>, format: Option<&str>) -> anyhow::Result<()> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for answer in answers {
        match answer {
            Ok(document) => found.push(document),
            Err(error) => failures.push(output::describe(&error)),
        }
    }
    match format {
        None => output::json(&found)?,
        Some("json") => output::line(&serde_json::to_string(&found)?),
        Some(format) => {
            let template = template::Template::parse(format)?;
            for document in found {
                output::line(&template.render(&document::for_template(document))?);
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
}
