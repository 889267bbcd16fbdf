//! `knarr token`: the tokens by which nodes join, kept as secrets of the cluster.

use crate::args::Token;
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use knarr_agent::membership::Pin;
use knarr_control::authn::bootstrap_token;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client};

/// Runs one of the commands.
pub(crate) async fn run(settings: &Settings, command: Token) -> anyhow::Result<()> {
    let client = settings.admin_client().await?;
    let secrets = Api::namespaced(client.clone(), bootstrap_token::NAMESPACE);
    match command {
        Token::Create { ttl, description } => {
            let token = create(&secrets, &ttl, &description).await?;
            output::line(&token);
            output::line(&invitation(client, &token).await?);
            Ok(())
        }
        Token::List => list(&secrets).await,
        Token::Delete { tokens } => delete(&secrets, &tokens).await,
    }
}

/// The command by which another machine joins: the address and the CA are those that the cluster tells strangers.
async fn invitation(client: Client, token: &str) -> anyhow::Result<String> {
    let api: Api<ConfigMap> = Api::namespaced(client, "kube-public");
    let found = api.get("cluster-info").await.context("read cluster-info")?;
    let text =
        found.data.as_ref().and_then(|data| data.get("kubeconfig")).context("cluster-info is empty")?;
    let cluster = Kubeconfig::from_yaml(text)?.clusters.into_iter().next().and_then(|named| named.cluster);
    let cluster = cluster.context("cluster-info names no cluster")?;
    let server = cluster.server.context("cluster-info names no server")?;
    let ca = STANDARD.decode(cluster.certificate_authority_data.context("cluster-info has no CA")?)?;
    let pins = Pin::all_of(&String::from_utf8(ca)?)?;
    let pin = pins.first().context("cluster-info has no CA")?;
    Ok(format!("knarr agent --server {server} --token {token} --ca-hash {pin}"))
}

async fn create(secrets: &Api<Secret>, ttl: &str, description: &str) -> anyhow::Result<String> {
    let ttl: SignedDuration = if ttl == "0" {
        SignedDuration::ZERO
    } else {
        ttl.parse().with_context(|| format!("--ttl {ttl}"))?
    };
    let expires = if ttl.is_zero() { None } else { Some(Timestamp::now().checked_add(ttl)?) };
    let (token, secret) = bootstrap_token::create(expires, description);
    let secret: Secret = serde_json::from_value(secret)?;
    secrets.create(&PostParams::default(), &secret).await.context("create the token")?;
    Ok(token)
}

async fn list(secrets: &Api<Secret>) -> anyhow::Result<()> {
    let wanted = ListParams::default().fields(&format!("type={}", bootstrap_token::TYPE));
    let found = secrets.list(&wanted).await.context("list tokens")?;
    let rows: Vec<Vec<String>> = found.items.iter().map(row).collect();
    output::table(&["TOKEN", "EXPIRES", "DESCRIPTION"], &rows);
    Ok(())
}

fn row(secret: &Secret) -> Vec<String> {
    let datum = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name));
        bytes.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned()).unwrap_or_default()
    };
    let expires = Some(datum("expiration")).filter(|text| !text.is_empty());
    vec![
        format!("{}.{}", datum("token-id"), datum("token-secret")),
        expires.unwrap_or_else(|| "<never>".to_owned()),
        datum("description"),
    ]
}

/// Deletes all that can be deleted, then says what could not.
async fn delete(secrets: &Api<Secret>, tokens: &[String]) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    for token in tokens {
        let id = token.split('.').next().unwrap_or_default();
        match secrets.delete(&bootstrap_token::secret_name(token), &DeleteParams::default()).await {
            Ok(_) => output::line(&format!("bootstrap token {id:?} deleted")),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                faults.push(format!("no bootstrap token {id:?}"));
            }
            Err(error) => faults.push(format!("delete bootstrap token {id:?}: {error}")),
        }
    }
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("; ")) }
}
