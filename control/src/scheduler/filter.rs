//! Filters: each says whether a pod can run on a node, and if not, why, in Kubernetes' words.

pub(super) mod affinity;
mod node_name;
mod ports;
mod resources;
pub(super) mod restrictions;
pub(super) mod taints;
mod unschedulable;
mod volume_zone;

use super::request::Request;
use super::snapshot::NodeState;
use super::volumes;
use std::borrow::Cow;

/// Why a node is ruled out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// One filter may have several.
    pub(super) reasons: Vec<Cow<'static, str>>,
    /// Whether the pod might fit if others were ended.
    pub(super) may_help: bool,
}

impl Refusal {
    /// A reason that ending other pods would not change.
    pub(super) fn fixed(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], may_help: false }
    }

    /// A reason that ending other pods might change.
    pub(super) fn passing(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reasons: vec![reason.into()], may_help: true }
    }
}

type Filter = fn(&Request<'_>, &NodeState) -> Option<Refusal>;

/// In Kubernetes' order; the first that rules a node out names the reason.
const FILTERS: [Filter; 11] = [
    unschedulable::filter,
    node_name::filter,
    taints::filter,
    affinity::filter,
    ports::filter,
    resources::filter,
    restrictions::filter,
    |request, node| volumes::refusal(request.needs, node).map(Refusal::fixed),
    volume_zone::filter,
    |request, node| request.spread.refusal(node).map(social),
    |request, node| request.neighbours.refusal(node).map(social),
];

fn social((reason, may_help): (&'static str, bool)) -> Refusal {
    Refusal { reasons: vec![reason.into()], may_help }
}

/// Why the pod cannot run there, if it cannot.
pub(super) fn refusal(request: &Request<'_>, node: &NodeState) -> Option<Refusal> {
    FILTERS.iter().find_map(|filter| filter(request, node))
}
