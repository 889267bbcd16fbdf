//! Programs that others write for Kubernetes: the official Python client, and charts as Helm renders them.
#![allow(clippy::unwrap_used)] // helpers outside #[test] may panic: that is a failed test

use knarr_tests::bins;
use knarr_tests::cluster::kubectls;
use knarr_tests::server::Server;
use knarr_tests::skip::skip;
use std::path::Path;
use std::process::Command;

#[test]
fn the_python_client_runs_its_usual_program() {
    let importable = Command::new("python3").args(["-c", "import kubernetes"]).output();
    if !importable.is_ok_and(|output| output.status.success()) {
        return skip("kube_clients_python", "python3 has no module kubernetes");
    }
    let server = Server::start();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/kubernetes_client.py");
    let said = bins::run(Command::new("python3").arg(program).arg(server.path("data/admin.kubeconfig")));
    assert!(said.code == 0 && said.out.ends_with("ok\n"), "{said:?}");
}

/// As `helm template` prints it: hooks are objects like any other to kubectl.
const CHART: &str = include_str!("../cases/chart.yaml");

/// What kubectl patches at every client-side apply, with Kubernetes too: `stringData` is never read back, and lists that
/// it can only replace as a whole differ from what the server has filled in. Nothing may change by it.
const ALWAYS_SENT: [&str; 5] =
    ["secret/", "statefulset.", "poddisruptionbudget.", "networkpolicy.", "validatingwebhook"];

#[test]
fn a_rendered_chart_applies_cleanly_and_again() {
    let kubectls = kubectls();
    let (Some(oldest), Some(newest)) = (kubectls.first(), kubectls.last()) else {
        return skip("kube_clients_chart", "no kubectl on this machine");
    };
    for (kubectl, more) in [(oldest, &[][..]), (newest, &[]), (newest, &["--server-side"])] {
        let server = Server::start();
        let (definitions, rest) = CHART.split_once("# ---- the rest ----\n").unwrap();
        let definitions = server.file("crds.yaml", definitions);
        let rest = server.file("chart.yaml", rest);
        let apply = |file: &str| {
            let arguments: Vec<&str> =
                ["apply", "-f", file].into_iter().chain(more.iter().copied()).collect();
            server.kubectl(kubectl, &arguments)
        };
        apply(&definitions).ok();
        server
            .kubectl(
                kubectl,
                &["wait", "--for=condition=Established", "crd/ferries.example.com", "--timeout=60s"],
            )
            .ok();
        let made = apply(&rest);
        assert!(made.err.is_empty(), "warnings: {}", made.err);
        let made = made.ok();
        let objects = rest_of(CHART).matches("\nkind: ").count();
        assert_eq!(made.lines().count(), objects, "{made}");
        let again = apply(&rest).ok();
        let done = if more.is_empty() { "unchanged" } else { "serverside-applied" };
        for line in again.lines().filter(|line| !line.ends_with(done)) {
            let object = line.strip_suffix(" configured").unwrap_or_else(|| panic!("{line}"));
            assert!(ALWAYS_SENT.iter().any(|kind| object.starts_with(kind)), "{line}");
            let generation = ["get", object, "-n", "harbour", "-o", "jsonpath={.metadata.generation}"];
            let generation = server.kubectl(kubectl, &generation).ok();
            assert!(matches!(&*generation, "" | "1"), "{object} is at generation {generation}");
        }
        server.kubectl(kubectl, &["delete", "-f", &rest, "--wait=false", "--ignore-not-found"]).ok();
    }
}

fn rest_of(chart: &str) -> &str {
    chart.split_once("# ---- the rest ----\n").unwrap().1
}
