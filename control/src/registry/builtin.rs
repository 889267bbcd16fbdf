//! The catalogue of built-in resources, one file each.

use super::Resource;
use super::{
    configmaps, deployments, endpoints, endpointslices, events, leases, namespaces, nodes, pods, replicasets,
    secrets, serviceaccounts, services,
};

/// Every built-in row.
pub(super) fn rows() -> Vec<Resource> {
    let mut rows = vec![
        configmaps::row(),
        deployments::row(),
        endpoints::row(),
        endpointslices::row(),
        leases::row(),
        namespaces::row(),
        nodes::row(),
        pods::row(),
        replicasets::row(),
        secrets::row(),
        serviceaccounts::row(),
        services::row(),
    ];
    rows.extend(events::rows());
    rows
}
