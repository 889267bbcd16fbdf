//! Network policies as data (the `NetworkPolicy` of `networking.k8s.io/v1`).
//!
//! A policy only ever allows; that it selects a pod is what forbids the rest. So what of it cannot be read allows
//! nothing, and never frees the pods that it selects.

use super::world::Labels;
use crate::nft::{Block, protocol_of};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as Selector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use knarr_api::LabelSelector;

/// From the pod's point of view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) pods: LabelSelector,
    /// Absent where the policy says nothing of the direction.
    pub(crate) ingress: Option<Vec<Rule>>,
    pub(crate) egress: Option<Vec<Rule>>,
}

/// What is allowed: any of the peers at any of the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Absent for everybody.
    pub(crate) peers: Option<Vec<Peer>>,
    /// Absent for every port of every protocol.
    pub(crate) ports: Option<Vec<Ports>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Of the policy's own namespace, where no namespaces are selected.
    Pods {
        namespaces: Option<LabelSelector>,
        pods: LabelSelector,
    },
    Block {
        range: Block,
        except: Vec<Block>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ports {
    All(&'static str),
    Range(&'static str, u16, u16),
    Named(&'static str, String),
}

impl Policy {
    /// Absent where it cannot even be told which pods it selects.
    pub(crate) fn new(object: &NetworkPolicy) -> Option<Self> {
        let spec = object.spec.as_ref()?;
        let named = |direction: &str| spec.policy_types.iter().flatten().any(|kind| kind == direction);
        let untold = spec.policy_types.as_ref().is_none_or(Vec::is_empty);
        let ingress =
            spec.ingress.iter().flatten().map(|rule| read(rule.from.as_deref(), rule.ports.as_deref()));
        let egress = spec.egress.iter().flatten().map(|rule| read(rule.to.as_deref(), rule.ports.as_deref()));
        let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        Some(Self {
            namespace: object.metadata.namespace.clone()?,
            name: object.metadata.name.clone()?,
            pods: selector(spec.pod_selector.as_ref())?,
            ingress: (untold || named("Ingress")).then(|| ingress.collect()),
            egress: (named("Egress") || (untold && has_egress)).then(|| egress.collect()),
        })
    }

    /// Whether it speaks of the pods of that namespace with those labels.
    pub(crate) fn selects(&self, namespace: &str, labels: &Labels) -> bool {
        self.namespace == namespace && self.pods.matches(|key| labels.get(key).map(String::as_str))
    }

    /// The rules of a direction, if it has a say in it.
    pub(crate) fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

fn read(peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) -> Rule {
    let peers = peers.filter(|peers| !peers.is_empty());
    let ports = ports.filter(|ports| !ports.is_empty());
    Rule {
        peers: peers.map(|peers| peers.iter().filter_map(peer).collect()),
        ports: ports.map(|ports| ports.iter().filter_map(port).collect()),
    }
}

/// An absent selector of pods is an empty one, which selects all.
fn selector(selector: Option<&Selector>) -> Option<LabelSelector> {
    let object = serde_json::to_value(selector).ok()?;
    LabelSelector::from_object(&object).ok()
}

fn peer(peer: &NetworkPolicyPeer) -> Option<Peer> {
    if let Some(block) = &peer.ip_block {
        let except = block.except.iter().flatten().map(|text| Block::parse(text));
        // An exception that cannot be read would allow what it forbids.
        return Some(Peer::Block {
            range: Block::parse(&block.cidr)?,
            except: except.collect::<Option<_>>()?,
        });
    }
    let namespaces = match &peer.namespace_selector {
        Some(namespaces) => Some(selector(Some(namespaces))?),
        None => None,
    };
    let pods = selector(peer.pod_selector.as_ref())?;
    (namespaces.is_some() || peer.pod_selector.is_some()).then_some(Peer::Pods { namespaces, pods })
}

fn port(port: &NetworkPolicyPort) -> Option<Ports> {
    let protocol = protocol_of(port.protocol.as_deref())?;
    match &port.port {
        None => Some(Ports::All(protocol)),
        Some(IntOrString::String(name)) => Some(Ports::Named(protocol, name.clone())),
        Some(IntOrString::Int(first)) => {
            let last = port.end_port.unwrap_or(*first);
            let range = (u16::try_from(*first).ok()?, u16::try_from(last).ok()?);
            (range.0 <= range.1).then_some(Ports::Range(protocol, range.0, range.1))
        }
    }
}
