//! How a pull or push looks: a bar per layer on a terminal, a line per step without one, or nothing at all.

use crate::output;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use knarr_images::Progress;
use std::collections::HashMap;
use std::io::IsTerminal;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// A place to send steps to, and the task that shows them until the sender is dropped.
pub(crate) fn show(quiet: bool) -> (UnboundedSender<Progress>, JoinHandle<()>) {
    let (sender, receiver) = unbounded_channel();
    let screen = match (quiet, std::io::stderr().is_terminal()) {
        (true, _) => Screen::Nothing,
        (false, false) => Screen::Lines,
        (false, true) => Screen::Bars(MultiProgress::new(), HashMap::new()),
    };
    (sender, tokio::spawn(follow(receiver, screen)))
}

async fn follow(mut steps: UnboundedReceiver<Progress>, mut screen: Screen) {
    let mut starting = true;
    while let Some(step) = steps.recv().await {
        if starting && matches!(step, Progress::Downloaded { .. }) {
            starting = false;
            // The start touched more of the program than the minutes that a large image may take.
            knarr_agent::map_program_by_pages();
            knarr_agent::let_go_of_program();
        }
        screen.show(step);
    }
}

enum Screen {
    Nothing,
    Lines,
    /// By the digests of the layers.
    Bars(MultiProgress, HashMap<String, ProgressBar>),
}

impl Screen {
    fn show(&mut self, step: Progress) {
        match self {
            Self::Nothing => {}
            Self::Lines => line(step),
            Self::Bars(screen, bars) => move_on(screen, bars, step),
        }
    }
}

fn line(step: Progress) {
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

fn move_on(screen: &MultiProgress, bars: &mut HashMap<String, ProgressBar>, step: Progress) {
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

fn bar(layer: &str, bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:40} {bytes:>10}/{total_bytes} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let short: String = layer.trim_start_matches("sha256:").chars().take(12).collect();
    ProgressBar::new(bytes).with_style(style).with_prefix(short)
}
