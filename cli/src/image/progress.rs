//! How a pull or push looks: a bar per layer on a terminal, a line per step without one.

use crate::output;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use knarr_images::Progress;
use std::collections::HashMap;
use std::io::IsTerminal;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// A place to send steps to, and the task that shows them until the sender is dropped.
pub(crate) fn show() -> (UnboundedSender<Progress>, JoinHandle<()>) {
    let (sender, receiver) = unbounded_channel();
    let shown = if std::io::stderr().is_terminal() {
        tokio::spawn(bars(receiver))
    } else {
        tokio::spawn(lines(receiver))
    };
    (sender, shown)
}

async fn lines(mut steps: UnboundedReceiver<Progress>) {
    while let Some(step) = steps.recv().await {
        match step {
            Progress::Resolved { digest, layers } => {
                output::complain(&format!("{digest}: {} layers", layers.len()));
            }
            Progress::Done { layer, already_present: true } => {
                output::complain(&format!("{layer}: already there"))
            }
            Progress::Done { layer, already_present: false } => output::complain(&format!("{layer}: done")),
            Progress::Downloaded { .. } => {}
        }
    }
}

async fn bars(mut steps: UnboundedReceiver<Progress>) {
    let screen = MultiProgress::new();
    let mut bars: HashMap<String, ProgressBar> = HashMap::new();
    while let Some(step) = steps.recv().await {
        match step {
            Progress::Resolved { layers, .. } => {
                for (layer, bytes) in layers {
                    bars.insert(layer.clone(), screen.add(bar(&layer, bytes)));
                }
            }
            Progress::Downloaded { layer, bytes } => {
                if let Some(bar) = bars.get(&layer) {
                    bar.set_position(bytes);
                }
            }
            Progress::Done { layer, .. } => {
                if let Some(bar) = bars.get(&layer) {
                    bar.finish();
                }
            }
        }
    }
}

fn bar(layer: &str, bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:40} {bytes:>10}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let short: String = layer.trim_start_matches("sha256:").chars().take(12).collect();
    ProgressBar::new(bytes).with_style(style).with_prefix(short)
}
