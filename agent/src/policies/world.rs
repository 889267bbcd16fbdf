//! Whom policies speak of: the pods of the cluster, with what selectors see of them, and the labels of namespaces.

use super::local_pods::Announced;
use crate::nft::protocol_of;
use k8s_openapi::api::core::v1::{Container, Namespace, Pod};
use knarr_api::LabelSelector;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// The label of the cluster's name servers, by which policies allow names to be asked for.
const NAME_SERVER: (&str, &str) = ("k8s-app", "kube-dns");
const NAME_SERVER_NAMESPACE: &str = "kube-system";

pub(crate) type Labels = BTreeMap<String, String>;

/// A port that rules may call by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPort {
    pub(crate) name: String,
    pub(crate) protocol: &'static str,
    pub(crate) number: u16,
}

/// A pod with addresses of its own; one in the host's network is part of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) namespace: String,
    pub(crate) labels: Labels,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: Vec<NamedPort>,
    /// It is on this node, so its packets are ours to decide about.
    pub(crate) is_here: bool,
}

/// Everybody.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) members: Vec<Member>,
    pub(crate) namespaces: BTreeMap<String, Labels>,
}

impl World {
    /// The cluster seen from the node `node`, where the pods' names are resolved at `resolvers`. To policies these are
    /// what they are elsewhere: a pod `k8s-app=kube-dns` in `kube-system`. Which addresses its own pods have is known
    /// best here.
    pub(crate) fn new(
        pods: &[Arc<Pod>],
        local: &Announced,
        namespaces: &[Arc<Namespace>],
        node: &str,
        resolvers: &[IpAddr],
    ) -> Self {
        let resolver = Member {
            namespace: NAME_SERVER_NAMESPACE.into(),
            labels: [NAME_SERVER].map(|(key, value)| (key.into(), value.into())).into(),
            addresses: resolvers.to_vec(),
            ..Member::default()
        };
        let told = members_of(pods, local, node);
        let listed: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        let unlisted = local.iter().filter(|(uid, _)| !listed.contains(uid.as_str()));
        let unlisted = unlisted.filter_map(|(_, local)| member(&local.pod, local.addresses.clone(), true));
        let members = told.into_iter().chain(unlisted).chain([resolver]).collect();
        let labels = |namespace: &Arc<Namespace>| {
            Some((namespace.metadata.name.clone()?, namespace.metadata.labels.clone().unwrap_or_default()))
        };
        Self { members, namespaces: namespaces.iter().filter_map(labels).collect() }
    }

    /// The pods of one namespace that a selector selects.
    pub(crate) fn selected<'a>(
        &'a self,
        namespace: &'a str,
        pods: &'a LabelSelector,
    ) -> impl Iterator<Item = &'a Member> {
        self.members
            .iter()
            .filter(move |member| member.namespace == namespace && matches(pods, &member.labels))
    }

    /// The pods that a selector selects in the namespaces that another one selects.
    pub(crate) fn selected_in<'a>(
        &'a self,
        namespaces: &'a LabelSelector,
        pods: &'a LabelSelector,
    ) -> impl Iterator<Item = &'a Member> {
        let inside = |member: &&Member| {
            self.namespaces.get(&member.namespace).is_some_and(|labels| matches(namespaces, labels))
        };
        self.members.iter().filter(inside).filter(move |member| matches(pods, &member.labels))
    }
}

fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    selector.matches(|key| labels.get(key).map(String::as_str))
}

/// Those that the cluster tells of. An address that was given to another one here since is not theirs any more.
fn members_of(pods: &[Arc<Pod>], local: &Announced, node: &str) -> Vec<Member> {
    let given: BTreeSet<IpAddr> = local.values().flat_map(|local| local.addresses.iter().copied()).collect();
    let one = |pod: &Arc<Pod>| {
        let is_here = pod.spec.as_ref()?.node_name.as_deref() == Some(node);
        let own = pod.metadata.uid.as_ref().and_then(|uid| local.get(uid)).filter(|_| is_here);
        let addresses = match own {
            Some(own) => own.addresses.clone(),
            None => addresses_of(pod).into_iter().filter(|one| !is_here || !given.contains(one)).collect(),
        };
        member(pod, addresses, is_here)
    };
    pods.iter().filter_map(one).collect()
}

fn addresses_of(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let texts =
        status.pod_ips.iter().flatten().map(|address| address.ip.as_str()).chain(status.pod_ip.as_deref());
    let mut addresses: Vec<IpAddr> = texts.filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Absent where there is nothing to filter: no address yet, none of its own, or none any more.
fn member(pod: &Pod, addresses: Vec<IpAddr>, is_here: bool) -> Option<Member> {
    let spec = pod.spec.as_ref()?;
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let has_ended = matches!(phase, Some("Succeeded" | "Failed"));
    let has_own = spec.host_network != Some(true) && !has_ended && !addresses.is_empty();
    has_own.then(|| Member {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        addresses,
        ports: spec.containers.iter().chain(spec.init_containers.iter().flatten()).flat_map(ports).collect(),
        is_here,
    })
}

fn ports(container: &Container) -> impl Iterator<Item = NamedPort> {
    container.ports.iter().flatten().filter_map(|port| {
        Some(NamedPort {
            name: port.name.clone()?,
            protocol: protocol_of(port.protocol.as_deref())?,
            number: u16::try_from(port.container_port).ok()?,
        })
    })
}
