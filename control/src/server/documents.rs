//! Paths that are no objects: health, version, discovery, OpenAPI.

use super::Server;
use super::answer::{self, Answer};
use super::health;
use super::negotiate::{Accept, Encoding};
use super::query::Query;
use crate::authn::service_account::ISSUER;
use crate::discovery::{self, Served};
use http::{Method, header};
use knarr_api::Status;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// What `/version` announces: kubectl chooses its behaviour by it.
pub(crate) const MAJOR: &str = "1";
pub(crate) const MINOR: &str = "33";
pub(crate) const GIT_VERSION: &str = "v1.33.0+knarr";

const AGGREGATED_V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const AGGREGATED_V2_BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

pub(crate) async fn answer(
    server: &Arc<Server>,
    method: &Method,
    path: &str,
    query: &Query,
    accept: &Accept,
) -> Result<Answer, Status> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::unknown_method());
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let said = accept.encoding();
    Ok(match parts.as_slice() {
        [endpoint @ ("livez" | "healthz" | "readyz"), rest @ ..] => {
            health::answer(server, endpoint, rest, query)
        }
        ["metrics"] => answer::text(200, server.telemetry.text(server).await),
        ["metrics", "slis"] => answer::text(200, server.telemetry.slis.text()),
        ["backup"] => crate::backup::stream(&*server.store)?,
        ["version"] => answer::spread(&Version::ours())?,
        [".well-known", "openid-configuration"] => answer::value(200, said, &openid()),
        ["openid", "v1", "jwks"] => answer::value(200, said, &server.tokens.issuer.key_set()),
        ["api"] | ["apis"] => groups(server, parts == ["api"], accept)?,
        ["api", version] => {
            answer::document(said, &found(discovery::resource_list(&server.table, "", version))?)?
        }
        ["apis", group, ..] if !server.table.has_group(group) && !server.aggregation.has_group(group) => {
            missing()
        }
        ["apis", group] => answer::document(said, &found(discovery::group(&served(server), group))?)?,
        ["apis", group, version] => {
            answer::document(said, &found(discovery::resource_list(&server.table, group, version))?)?
        }
        ["openapi", rest @ ..] => openapi(server, rest, accept).await?,
        [] => answer::spread(&json!({"paths": root_paths(server)}))?,
        _ => missing(),
    })
}

/// Everything that discovery tells of.
fn served(server: &Server) -> Served<'_> {
    Served { table: &server.table, foreign: server.aggregation.catalog() }
}

/// What is no path of ours.
pub(super) fn missing() -> Answer {
    answer::text(404, "404 page not found\n")
}

/// Where those who verify service account tokens find the key.
fn openid() -> Value {
    json!({
        "issuer": ISSUER, "jwks_uri": format!("{ISSUER}/openid/v1/jwks"), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"],
    })
}

fn found<T>(document: Option<T>) -> Result<T, Status> {
    document.ok_or_else(Status::no_such_resource)
}

/// `GET /version`, field by field in the order in which Kubernetes says them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    major: &'static str,
    minor: &'static str,
    git_version: &'static str,
    git_commit: &'static str,
    git_tree_state: &'static str,
    build_date: &'static str,
    go_version: &'static str,
    compiler: &'static str,
    platform: String,
}

impl Version {
    fn ours() -> Self {
        Self {
            major: MAJOR,
            minor: MINOR,
            git_version: GIT_VERSION,
            git_commit: "",
            git_tree_state: "clean",
            build_date: "1970-01-01T00:00:00Z",
            go_version: "",
            compiler: "rustc",
            platform: platform(),
        }
    }
}

fn platform() -> String {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("linux/{architecture}")
}

fn root_paths(server: &Server) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/api",
        "/apis",
        "/healthz",
        "/livez",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/readyz",
        "/version",
    ]
    .map(str::to_owned)
    .into();
    let group_versions = discovery::api_versions(&served(server)).into_iter();
    paths.extend(
        group_versions
            .map(|name| if name.contains('/') { format!("/apis/{name}") } else { format!("/api/{name}") }),
    );
    paths.sort();
    paths
}

/// `/api` and `/apis`: in the aggregated form if the client knows it. The first media type that fits counts: a client
/// that asks for v2beta1 only does not understand v2.
fn groups(server: &Server, core: bool, accept: &Accept) -> Result<Answer, Status> {
    for range in accept.header.split(',').map(|range| range.replace(' ', "")) {
        let wants = |version: &str| {
            let has = |part: &str| range.split(';').any(|found| found == part);
            range.starts_with("application/json")
                && has("as=APIGroupDiscoveryList")
                && has("g=apidiscovery.k8s.io")
                && has(&format!("v={version}"))
        };
        for (version, content_type) in [("v2", AGGREGATED_V2), ("v2beta1", AGGREGATED_V2_BETA)] {
            if wants(version) {
                let document = discovery::aggregated(&served(server), version, core);
                let document = serde_json::to_vec(&document).map_err(Status::internal)?;
                let mut answer = answer::with_type(200, content_type, answer::full(document));
                answer.headers_mut().insert(header::VARY, header::HeaderValue::from_static("Accept"));
                return Ok(answer);
            }
        }
        if matches!(range.split(';').next(), Some("application/json" | "*/*")) && !range.contains("as=") {
            break;
        }
    }
    if core {
        answer::document(accept.encoding(), &discovery::legacy_api(&served(server)))
    } else {
        answer::document(accept.encoding(), &discovery::group_list(&served(server)))
    }
}

/// The index, or the document of one group version. Making a document takes a while: not on a worker thread.
async fn openapi_v2(server: &Arc<Server>, protobuf: bool) -> Result<Answer, Status> {
    let (server, foreign) = (server.clone(), server.aggregation.documents(server).await);
    let make = move || server.openapi.v2_document(&server.table, &foreign, protobuf);
    let made =
        tokio::task::spawn_blocking(make).await.map_err(Status::internal)?.map_err(Status::internal)?;
    let kind = if protobuf {
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    } else {
        "application/json"
    };
    Ok(answer::with_type(200, kind, answer::full(made)))
}

async fn openapi(server: &Arc<Server>, rest: &[&str], accept: &Accept) -> Result<Answer, Status> {
    match rest {
        ["v2"] => openapi_v2(server, accept.header.contains("openapi.spec.v2@v1.0+protobuf")).await,
        ["v3"] => {
            let mut index = server.openapi.v3_index(&server.table);
            server.aggregation.add_documents(&mut index);
            Ok(answer::value(200, Encoding::Json, &index))
        }
        ["v3", path @ ..] if let Some(remote) = server.aggregation.serving(&path.join("/")) => {
            let document = remote.document(server).await;
            document.map(|bytes| answer::json_bytes(200, bytes)).map_err(Status::unavailable)
        }
        ["v3", path @ ..] => {
            let (server, path) = (server.clone(), path.join("/"));
            let make = move || server.openapi.v3_document(&server.table, &path);
            let made = tokio::task::spawn_blocking(make).await.map_err(Status::internal)?;
            let document = made.map_err(Status::internal)?.ok_or_else(Status::no_such_resource)?;
            Ok(answer::json_bytes(200, document))
        }
        _ => Err(Status::no_such_resource()),
    }
}
