//! Other API servers behind ours: an APIService names a group version and the service of the cluster that serves it.
//! Requests for it are passed on, discovery and OpenAPI tell of it as of everything else, and its status says whether it
//! answers. We show these servers a certificate of an authority of its own, and say in headers for whom we ask.
//!
//! What is passed on follows the objects in the store, in every server of it; nothing here is kept on disk but the
//! authority. A group version that names no service is ours: such APIServices are made by us (`local`).

mod availability;
pub(crate) mod catalog;
mod follow;
mod link;
pub(crate) mod local;
pub(crate) mod openapi;
mod proxy;
mod tell;

use crate::authn::front_proxy;
use crate::authn::front_proxy::Vouches;
use crate::pki::{Identity, Pki, Subject};
use crate::registry::fields;
use crate::server::tls;
use crate::service_target::Service;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use link::Link;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tell::Told;

pub(crate) use follow::run;
pub(crate) use proxy::{Passed, pass};

type Remotes = BTreeMap<(String, String), Arc<Remote>>;

/// Every other server, and how we prove to it that it is us who asks.
pub(crate) struct Aggregation {
    ca_pem: String,
    identity: Identity,
    verifier: Arc<dyn ClientCertVerifier>,
    /// By group and version. Held only for the time of a pointer copy.
    remotes: RwLock<Arc<Remotes>>,
    /// All APIServices that there were at the start have been seen.
    followed: AtomicBool,
}

/// A group version that another server serves.
pub(crate) struct Remote {
    /// Of its APIService.
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) group_priority: i64,
    pub(crate) version_priority: i64,
    pub(crate) service: Service,
    spec: Value,
    /// Or why there can be none.
    link: Result<Link, String>,
    /// Does not verify whom it speaks to: only says whether somebody answers.
    probe: Result<Link, String>,
    told: RwLock<Told>,
}

impl Aggregation {
    /// With the authority for servers that vouch for users.
    pub(crate) fn new(authority: &Pki) -> anyhow::Result<Self> {
        let subject = Subject { common_name: front_proxy::NAME, organization: None, names: &[] };
        Ok(Self {
            ca_pem: authority.ca_pem().to_owned(),
            identity: authority.identity(front_proxy::NAME, &subject)?,
            verifier: tls::client_verifier(authority.ca_pem())?,
            remotes: RwLock::default(),
            followed: AtomicBool::new(false),
        })
    }

    /// Certificate of that authority, PEM.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// What the certificate that a client has shown says beyond its name: `None` where it is not of that authority, and
    /// nothing where it is but must not vouch.
    pub(crate) fn vouches(&self, chain: &[CertificateDer<'_>]) -> Option<Option<Vouches>> {
        let (leaf, others) = chain.split_first()?;
        self.verifier.verify_client_cert(leaf, others, UnixTime::now()).ok()?;
        Some(front_proxy::may_vouch(leaf).then_some(Vouches))
    }

    /// All of them, by group and version.
    pub(crate) fn all(&self) -> Arc<Remotes> {
        self.remotes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it is known what others serve. Until then requests for it would be told that there is no such thing.
    pub(crate) fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Acquire)
    }

    /// From now on it is.
    pub(crate) fn set_followed(&self) {
        self.followed.store(true, Ordering::Release);
    }

    /// Whether a group is served by others in any version.
    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.all().keys().any(|(found, _)| found == group)
    }

    /// Who serves a path: `/apis/GROUP/VERSION` and everything below.
    pub(crate) fn serving(&self, path: &str) -> Option<Arc<Remote>> {
        let remotes = self.all();
        if remotes.is_empty() {
            return None;
        }
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        remotes.get(&(group.to_owned(), version.to_owned())).cloned()
    }

    /// Takes note of an APIService; gives the server that it names if that is a new one.
    fn set(&self, object: &Value) -> Option<Arc<Remote>> {
        let key = key_of(object);
        let known = self.all().get(&key).cloned();
        if object.pointer("/spec/service").is_none_or(Value::is_null) || !may_be_remote(&key.0) {
            self.change(|remotes| drop(remotes.remove(&key)));
            return None;
        }
        if known.is_some_and(|known| known.spec == object["spec"]) {
            return None;
        }
        let remote = Arc::new(self.remote(object));
        self.change(|remotes| drop(remotes.insert(key, remote.clone())));
        Some(remote)
    }

    fn remove(&self, object: &Value) {
        let key = key_of(object);
        self.change(|remotes| drop(remotes.remove(&key)));
    }

    /// Forgets all but those of these names.
    fn retain(&self, names: &BTreeSet<String>) {
        self.change(|remotes| remotes.retain(|_, remote| names.contains(&remote.name)));
    }

    fn change(&self, edit: impl FnOnce(&mut Remotes)) {
        let mut current = self.remotes.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Remotes::clone(&current);
        edit(&mut next);
        *current = Arc::new(next);
    }

    fn remote(&self, object: &Value) -> Remote {
        let (group, version) = key_of(object);
        let service = Service::of(&object["spec"]["service"]);
        let verifies = object["spec"]["insecureSkipTLSVerify"] != true;
        let bundle = match fields::text(object, "/spec/caBundle") {
            "" => Ok(None),
            encoded => STANDARD.decode(encoded).map(Some).map_err(|error| format!("caBundle: {error}")),
        };
        let link = bundle
            .and_then(|bundle| Link::new(&self.identity, bundle.as_deref(), verifies, &service.dns_name()));
        Remote {
            name: knarr_api::meta::name(object).to_owned(),
            group,
            version,
            group_priority: fields::int(object, "/spec/groupPriorityMinimum").unwrap_or(0),
            version_priority: fields::int(object, "/spec/versionPriority").unwrap_or(0),
            probe: Link::new(&self.identity, None, false, &service.dns_name()),
            service,
            spec: object["spec"].clone(),
            link,
            told: RwLock::default(),
        }
    }
}

impl Remote {
    /// Where everything that it serves begins.
    fn path(&self) -> String {
        match &*self.group {
            "" => format!("/api/{}", self.version),
            group => format!("/apis/{group}/{}", self.version),
        }
    }
}

fn key_of(object: &Value) -> (String, String) {
    (fields::text(object, "/spec/group").to_owned(), fields::text(object, "/spec/version").to_owned())
}

/// Nobody else can say who serves what.
fn may_be_remote(group: &str) -> bool {
    group != "apiregistration.k8s.io"
}
