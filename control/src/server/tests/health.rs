//! What the server says of its own health, and what it counts.

use super::*;

fn text(lab: &Lab, path: &str) -> (u16, String) {
    let answer = lab.get(path);
    (answer.code, answer.body.as_str().unwrap_or_default().to_owned())
}

fn ok() -> (u16, String) {
    (200, "ok".to_owned())
}

#[test]
fn checks_have_the_names_that_operators_know() {
    let lab = lab();
    for path in ["/livez/ping", "/healthz", "/livez", "/readyz?verbose=x&exclude=etcd"] {
        assert_eq!(lab.get(path).code, 200, "{path}");
    }
    assert_eq!((text(&lab, "/livez/ping"), text(&lab, "/healthz")), (ok(), ok()));
    assert_eq!(text(&lab, "/readyz/poststarthook/rbac/bootstrap-roles"), ok());
    assert_eq!(text(&lab, "/livez/etcd-readiness"), (404, "404 page not found\n".to_owned()));
    assert_eq!(lab.get("/livez/nothing").code, 404);
    let (_, alive) = text(&lab, "/livez?verbose");
    assert!(alive.starts_with("[+]ping ok\n[+]log ok\n[+]etcd ok\n[+]poststarthook/start-apiserver"));
    assert!(alive.contains("\n[+]autoregister-completion ok\n") && alive.ends_with("\nlivez check passed\n"));
    let (_, ready) = text(&lab, "/readyz?verbose&exclude=log&exclude=b&exclude=a&exclude=b");
    assert!(ready.starts_with(
        "[+]ping ok\n[+]log excluded: ok\n[+]etcd ok\n[+]etcd-readiness ok\n[+]informer-sync ok\n"
    ));
    assert!(ready.ends_with(
        "[+]shutdown ok\nwarn: some health checks cannot be excluded: no matches for \"a\",\"b\"\nreadyz check passed\n"
    ));
    assert_eq!(lab.get("/healthz").headers["x-content-type-options"], "nosniff");
}

#[test]
fn a_server_that_stops_is_alive_and_not_ready() {
    let lab = lab();
    lab.stop.send_replace(true);
    assert_eq!(text(&lab, "/livez"), ok());
    let (code, told) = text(&lab, "/readyz");
    assert_eq!(code, 500);
    assert!(told.ends_with("\n[-]shutdown failed: reason withheld\nreadyz check failed\n"), "{told}");
    assert_eq!(text(&lab, "/readyz?exclude=shutdown"), ok());
    let why = "internal server error: process is shutting down\n";
    assert_eq!(text(&lab, "/readyz/shutdown"), (500, why.to_owned()));
}

#[test]
fn a_server_that_does_not_know_the_others_yet_is_not_ready() {
    let directory = tempfile::tempdir().unwrap();
    let mut lab = lab();
    let pki = Pki::open_front_proxy(directory.path()).unwrap();
    Arc::get_mut(&mut lab.server).unwrap().aggregation = Aggregation::new(&pki).unwrap();
    let (code, told) = text(&lab, "/livez");
    assert_eq!(code, 500);
    assert!(told.contains("\n[-]autoregister-completion failed: reason withheld\n"), "{told}");
    assert_eq!(text(&lab, "/readyz/informer-sync").0, 500);
    lab.server.aggregation.set_followed();
    assert_eq!(text(&lab, "/readyz"), ok());
}

#[test]
fn requests_and_checks_are_counted() {
    let lab = lab();
    lab.get(CONFIG_MAPS);
    let (_, metrics) = text(&lab, "/metrics");
    let line = r#"apiserver_request_total{code="200",group="",resource="configmaps",subresource="",verb="LIST",version="v1"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
    assert!(metrics.contains("process_resident_memory_bytes"));
    lab.get("/livez/etcd");
    lab.get("/readyz?exclude=log");
    lab.stop.send_replace(true);
    lab.get("/readyz");
    let (_, slis) = text(&lab, "/metrics/slis");
    for line in [
        r#"kubernetes_healthcheck{name="shutdown",type="readyz"} 0"#,
        r#"kubernetes_healthchecks_total{name="shutdown",status="error",type="readyz"} 1"#,
        r#"kubernetes_healthchecks_total{name="etcd",status="success",type="readyz"} 2"#,
        r#"kubernetes_healthchecks_total{name="log",status="success",type="readyz"} 1"#,
    ] {
        assert!(slis.lines().any(|found| found == line), "{line}: {slis}");
    }
    assert!(!slis.contains("livez"), "{slis}");
}
