//! Rotation of logs under a container that goes on writing: every line is in exactly one file, in order.

use crate::lab::{self, eventually, is_ready};
use crate::{pod, shell};
use serde_json::json;
use std::io::Read;
use std::path::Path;

const LINES: usize = 3000;

/// All files of a log as one text, oldest first.
fn whole(log: &Path) -> String {
    let mut files = knarr_agent::kubelet::log_files::rotated(log).unwrap();
    files.push(log.to_path_buf());
    let mut text = String::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap_or_default();
        if knarr_agent::kubelet::log_files::is_compressed(&file) {
            flate2::read::MultiGzDecoder::new(&*bytes).read_to_string(&mut text).unwrap();
        } else {
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_loses_no_line() {
    let small = |kubelet: &mut knarr_agent::config::KubeletConfig| {
        kubelet.container_log_max_bytes = 4096;
        kubelet.container_log_max_files = 100;
        kubelet.container_log_monitor_seconds = 1;
    };
    lab::with_settings(small, async |lab| {
        let script = format!(
            "i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); \
             [ $((i % 1000)) = 0 ] && sleep 1.5; done; sleep 1000"
        );
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [shell("c", &script)]});
        lab.write("p.json", pod("p", spec));
        let running = lab.pod_when("p", is_ready).await;
        let log = lab.log_file(&running, "c", 0);
        let expected: Vec<String> = (0..LINES).map(|number| format!("line {number}")).collect();
        let mut text = String::new();
        // A file may be compressed between two looks at it: what counts is what is there when all has come to rest.
        let complete = eventually(async || {
            let rotations = knarr_agent::kubelet::log_files::rotated(&log).unwrap();
            let compressed =
                rotations.iter().any(|file| knarr_agent::kubelet::log_files::is_compressed(file));
            text = whole(&log);
            let lines = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
            (compressed && lines.eq(&expected)).then_some(())
        });
        assert!(complete.await.is_some(), "{:?}:\n{text}", knarr_agent::kubelet::log_files::rotated(&log));
    })
    .await;
}
