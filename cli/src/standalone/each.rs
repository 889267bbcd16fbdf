//! One loop for all commands that take several containers: each is tried, and those that failed are told at the end.

use crate::output;
use anyhow::bail;

/// Prints what `act` answers for each name, if anything; fails if it failed for one of them.
pub(super) async fn each<T: Into<Option<String>>>(
    names: &[String],
    act: impl AsyncFn(&str) -> anyhow::Result<T>,
) -> anyhow::Result<()> {
    let mut failures = Vec::new();
    for name in names {
        match act(name).await {
            Ok(text) => text.into().iter().for_each(|text| output::line(text)),
            Err(error) => failures.push(output::describe(&error)),
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
}
