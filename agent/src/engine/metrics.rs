//! The figures of pods and containers under the names that cAdvisor gave them: what a kubelet passes on at
//! `/metrics/cadvisor` when it gets them from its runtime.
//!
//! One table says which metrics there are and which labels each has; the files below read them. CRI carries whole
//! numbers only, so seconds are whole seconds.

mod cgroup;
mod container;
mod processes;
mod table;

pub(crate) use container::gather as of_container;
pub(crate) use table::descriptors;

use super::core::{Core, now};
use super::net_dev;
use super::records::SandboxRecord;
use knarr_cri::v1::{Metric, UInt64Value};
use std::collections::BTreeMap;

/// A figure before it gets the labels that all figures of its owner share.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    name: &'static str,
    value: u64,
    /// Values of the labels that this metric has besides the common ones.
    labels: Vec<String>,
}

impl Sample {
    fn new(name: &'static str, value: u64) -> Self {
        Self { name, value, labels: Vec::new() }
    }

    fn labelled(name: &'static str, value: u64, labels: &[&str]) -> Self {
        Self { name, value, labels: labels.iter().map(|&label| label.to_owned()).collect() }
    }
}

/// Whose figures they are: the values of [`table::COMMON_LABELS`], in that order.
#[derive(Debug, Clone, Default)]
struct Owner {
    id: String,
    name: String,
    image: String,
    namespace: String,
    pod: String,
    container: String,
}

impl Owner {
    fn label_values(&self) -> Vec<String> {
        [&self.id, &self.name, &self.image, &self.namespace, &self.pod, &self.container]
            .into_iter()
            .cloned()
            .collect()
    }
}

fn finish(owner: &Owner, samples: Vec<Sample>) -> Vec<Metric> {
    let common = owner.label_values();
    let timestamp = now();
    let kinds: BTreeMap<_, _> = table::TABLE.iter().map(|row| (row.name, row.kind)).collect();
    let one = |sample: Sample| {
        let kind = kinds.get(sample.name)?;
        Some(Metric {
            name: sample.name.to_owned(),
            timestamp,
            metric_type: *kind as i32,
            label_values: common.iter().cloned().chain(sample.labels).collect(),
            value: Some(UInt64Value { value: sample.value }),
        })
    };
    samples.into_iter().filter_map(one).collect()
}

/// What belongs to the pod and to none of its containers: its network. `pid` is any process in the pod.
pub(crate) fn of_pod(core: &Core, record: &SandboxRecord, pid: Option<i32>) -> Vec<Metric> {
    let metadata = record.config.metadata.clone().unwrap_or_default();
    let owner = Owner {
        id: record.cgroup_parent.clone(),
        namespace: metadata.namespace,
        pod: metadata.name,
        ..Owner::default()
    };
    let mut samples = Vec::new();
    if !record.host_network() {
        samples.extend(pid.map(net_dev::of_process).unwrap_or_default().iter().flat_map(network));
    }
    samples.extend(cgroup::pressure(&core.hierarchies, &record.cgroup_parent));
    finish(&owner, samples)
}

fn network(link: &net_dev::Link) -> Vec<Sample> {
    let (received, sent) = (link.received, link.sent);
    [
        ("container_network_receive_bytes_total", received.bytes),
        ("container_network_receive_errors_total", received.errors),
        ("container_network_receive_packets_dropped_total", received.dropped),
        ("container_network_receive_packets_total", received.packets),
        ("container_network_transmit_bytes_total", sent.bytes),
        ("container_network_transmit_errors_total", sent.errors),
        ("container_network_transmit_packets_dropped_total", sent.dropped),
        ("container_network_transmit_packets_total", sent.packets),
    ]
    .into_iter()
    .map(|(name, value)| Sample::labelled(name, value, &[&link.name]))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_gets_as_many_labels_as_its_descriptor_names() {
        let link = net_dev::Link {
            name: "eth0".into(),
            received: net_dev::Direction { bytes: 1, packets: 2, errors: 3, dropped: 4 },
            sent: net_dev::Direction { bytes: 5, packets: 6, errors: 7, dropped: 8 },
        };
        let metrics = finish(&Owner { pod: "web".into(), ..Owner::default() }, network(&link));
        assert_eq!(metrics.len(), 8);
        let descriptors = descriptors();
        for metric in metrics {
            let descriptor = descriptors.iter().find(|known| known.name == metric.name).unwrap();
            assert_eq!(descriptor.label_keys.len(), metric.label_values.len(), "{}", metric.name);
            assert_eq!(descriptor.label_keys.last().map(String::as_str), Some("interface"));
            assert_eq!(metric.label_values.get(4).map(String::as_str), Some("web"));
        }
    }
}
