//! Log lines on stderr, for daemons: one line per event, filtered by `--log-level`. What a line is about (the CRI call,
//! the pod, the container) comes with it, in text before the message, in JSON as fields of its `span`.

use crate::args::LogFormat;
use anyhow::Context;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging; called once.
pub(crate) fn start(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(level).with_context(|| format!("--log-level {level:?}"))?;
    // Whoever follows something tells what goes wrong with it; the library would say the same beside it, and more often.
    let filter = match level.contains("kube_runtime") {
        true => filter,
        false => filter.add_directive("kube_runtime::watcher=error".parse().context("a directive")?),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).init(),
    }
    Ok(())
}
