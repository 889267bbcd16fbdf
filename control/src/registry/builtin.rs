//! The catalogue of built-in resources, a file for each or for a few that are alike.

use super::Resource;
use super::{
    admissionpolicies, admissionwebhooks, apiservices, certificatesigningrequests, componentstatuses,
    configmaps, controllerrevisions, cronjobs, csidrivers, csinodes, csistoragecapacities,
    customresourcedefinitions, daemonsets, deployments, endpoints, endpointslices, events, flowcontrol,
    horizontalpodautoscalers, ingressclasses, ingresses, ipaddresses, jobs, leases, limitranges, metrics,
    namespaces, networkpolicies, nodes, persistentvolumeclaims, persistentvolumes, poddisruptionbudgets,
    pods, podtemplates, priorityclasses, replicasets, replicationcontrollers, resourcequotas, reviews,
    rolebindings, roles, runtimeclasses, secrets, serviceaccounts, servicecidrs, services, statefulsets,
    storageclasses, volumeattachments,
};

/// Every built-in row.
pub(super) fn rows() -> Vec<Resource> {
    let mut rows = vec![
        apiservices::row(),
        certificatesigningrequests::row(),
        componentstatuses::row(),
        configmaps::row(),
        controllerrevisions::row(),
        cronjobs::row(),
        csidrivers::row(),
        csinodes::row(),
        csistoragecapacities::row(),
        customresourcedefinitions::row(),
        daemonsets::row(),
        deployments::row(),
        endpoints::row(),
        endpointslices::row(),
        ingressclasses::row(),
        ingresses::row(),
        ipaddresses::row(),
        jobs::row(),
        leases::row(),
        limitranges::row(),
        namespaces::row(),
        networkpolicies::row(),
        nodes::row(),
        persistentvolumeclaims::row(),
        persistentvolumes::row(),
        poddisruptionbudgets::row(),
        pods::row(),
        podtemplates::row(),
        priorityclasses::row(),
        replicasets::row(),
        replicationcontrollers::row(),
        resourcequotas::row(),
        runtimeclasses::row(),
        secrets::row(),
        serviceaccounts::row(),
        servicecidrs::row(),
        services::row(),
        statefulsets::row(),
        storageclasses::row(),
        volumeattachments::row(),
    ];
    for group in [
        admissionpolicies::rows(),
        admissionwebhooks::rows(),
        events::rows(),
        flowcontrol::rows(),
        horizontalpodautoscalers::rows(),
        metrics::rows(),
        reviews::rows(),
        rolebindings::rows(),
        roles::rows(),
    ] {
        rows.extend(group);
    }
    rows
}

#[cfg(test)]
mod tests;
