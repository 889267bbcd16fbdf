//! Other people's clients of CRI on our engine, where they are installed: Kubernetes' own suite (`critest`) and its
//! command line (`crictl`). What they ask beyond our own suite is only their way of asking; so they run beside the
//! project, and are a named skip where they are not on PATH.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_tests::bins::{self, Said};
use knarr_tests::engine::{Engine, IMAGE, PATIENCE, file_holds};
use knarr_tests::eventually::eventually;
use knarr_tests::{foreign_images, skip};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// All specs, one after the other, on a busy machine.
const SUITE: Duration = Duration::from_secs(900);
/// It asks for an image by the digest that only the public registry has.
const NOT_HERE: &str = "public image with digest should be pulled and removed";

fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// The suite's names for what failed, and its last words.
fn verdict(said: &Said) -> String {
    let told = |line: &&str| line.contains("[FAIL]") || line.contains(" Passed ") || line.starts_with("Ran ");
    said.out.lines().filter(told).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn kubernetes_own_suite_passes_by_either_protocol() {
    let test = "kubernetes_own_suite_passes_by_either_protocol";
    let Some(critest) = installed("critest") else { return skip::skip(test, "critest is not on PATH") };
    let engine = Engine::start().await;
    let _registry = foreign_images::serve(&engine);
    let socket = format!("unix://{}", engine.path("state/cri.sock").display());
    let websocket = ["-websocket-exec", "-websocket-attach", "-websocket-portforward"];
    for flags in [&[][..], &websocket] {
        let mut command = Command::new(&critest);
        command.current_dir(engine.path("")).args(flags);
        command.args(["-runtime-endpoint", &socket, "-ginkgo.no-color", "-ginkgo.skip", NOT_HERE]);
        let said = bins::run_within(&mut command, SUITE);
        println!("critest {flags:?}: {}", verdict(&said));
        assert_eq!(said.code, 0, "{flags:?}: {}", verdict(&said));
    }
}
