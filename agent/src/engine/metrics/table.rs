//! Which metrics there are: name, meaning, kind and labels, as cAdvisor has them.

use knarr_cri::v1::{MetricDescriptor, MetricType};

/// Labels that every metric has.
pub(super) const COMMON_LABELS: [&str; 6] = ["id", "name", "image", "namespace", "pod", "container"];

/// One metric.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    help: &'static str,
    pub(super) kind: MetricType,
    /// Labels besides the common ones.
    labels: &'static [&'static str],
}

const fn counter(name: &'static str, help: &'static str) -> Row {
    Row { name, help, kind: MetricType::Counter, labels: &[] }
}

const fn gauge(name: &'static str, help: &'static str) -> Row {
    Row { name, help, kind: MetricType::Gauge, labels: &[] }
}

impl Row {
    const fn with(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }
}

const BLOCK_DEVICE: &[&str] = &["device", "major", "minor", "operation"];
const DEVICE: &[&str] = &["device"];
const INTERFACE: &[&str] = &["interface"];
const PAGE_SIZE: &[&str] = &["pagesize"];

/// In the order of their names.
pub(super) const TABLE: [Row; 56] = [
    counter("container_blkio_device_usage_total", "Blkio device bytes usage").with(BLOCK_DEVICE),
    counter("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals"),
    counter("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals"),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Total time duration the container has been throttled",
    ),
    counter("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds"),
    counter("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds").with(&["cpu"]),
    counter("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds"),
    gauge("container_file_descriptors", "Number of open file descriptors for the container"),
    gauge("container_fs_inodes_free", "Number of available Inodes").with(DEVICE),
    gauge("container_fs_inodes_total", "Number of Inodes").with(DEVICE),
    gauge(
        "container_fs_limit_bytes",
        "Number of bytes that can be consumed by the container on this filesystem",
    )
    .with(DEVICE),
    counter("container_fs_reads_bytes_total", "Cumulative count of bytes read").with(DEVICE),
    counter("container_fs_reads_total", "Cumulative count of reads completed").with(DEVICE),
    gauge(
        "container_fs_usage_bytes",
        "Number of bytes that are consumed by the container on this filesystem",
    )
    .with(DEVICE),
    counter("container_fs_writes_bytes_total", "Cumulative count of bytes written").with(DEVICE),
    counter("container_fs_writes_total", "Cumulative count of writes completed").with(DEVICE),
    gauge("container_hugetlb_max_usage_bytes", "Maximum hugepage usages recorded in bytes").with(PAGE_SIZE),
    gauge("container_hugetlb_usage_bytes", "Current hugepage usage in bytes").with(PAGE_SIZE),
    gauge("container_last_seen", "Last time a container was seen by the exporter"),
    gauge("container_memory_cache", "Number of bytes of page cache memory"),
    counter("container_memory_failcnt", "Number of memory usage hits limits"),
    counter("container_memory_failures_total", "Cumulative count of memory allocation failures")
        .with(&["failure_type", "scope"]),
    gauge("container_memory_kernel_usage", "Size of kernel memory allocated in bytes"),
    gauge("container_memory_mapped_file", "Size of memory mapped files in bytes"),
    gauge("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes"),
    gauge("container_memory_rss", "Size of RSS in bytes"),
    gauge("container_memory_swap", "Container swap usage in bytes"),
    gauge(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
    ),
    gauge("container_memory_working_set_bytes", "Current working set in bytes"),
    counter("container_network_receive_bytes_total", "Cumulative count of bytes received").with(INTERFACE),
    counter(
        "container_network_receive_errors_total",
        "Cumulative count of errors encountered while receiving",
    )
    .with(INTERFACE),
    counter(
        "container_network_receive_packets_dropped_total",
        "Cumulative count of packets dropped while receiving",
    )
    .with(INTERFACE),
    counter("container_network_receive_packets_total", "Cumulative count of packets received")
        .with(INTERFACE),
    counter("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted")
        .with(INTERFACE),
    counter(
        "container_network_transmit_errors_total",
        "Cumulative count of errors encountered while transmitting",
    )
    .with(INTERFACE),
    counter(
        "container_network_transmit_packets_dropped_total",
        "Cumulative count of packets dropped while transmitting",
    )
    .with(INTERFACE),
    counter("container_network_transmit_packets_total", "Cumulative count of packets transmitted")
        .with(INTERFACE),
    counter("container_oom_events_total", "Count of out of memory events observed for the container"),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to CPU congestion",
    ),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to CPU congestion",
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to IO congestion",
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to IO congestion",
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to memory congestion",
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to memory congestion",
    ),
    gauge("container_processes", "Number of processes running inside the container"),
    gauge("container_sockets", "Number of open sockets for the container"),
    gauge("container_spec_cpu_period", "CPU period of the container"),
    gauge("container_spec_cpu_quota", "CPU quota of the container"),
    gauge("container_spec_cpu_shares", "CPU share of the container"),
    gauge("container_spec_memory_limit_bytes", "Memory limit for the container"),
    gauge("container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container"),
    gauge("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container"),
    gauge("container_start_time_seconds", "Start time of the container since unix epoch in seconds"),
    gauge("container_threads", "Number of threads running inside the container"),
    gauge("container_threads_max", "Maximum number of threads allowed inside the container"),
    gauge(
        "container_ulimits_soft",
        "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice",
    )
    .with(&["ulimit"]),
];

/// The table in CRI's words.
pub(crate) fn descriptors() -> Vec<MetricDescriptor> {
    let one = |row: &Row| MetricDescriptor {
        name: row.name.into(),
        help: row.help.into(),
        label_keys: COMMON_LABELS.iter().chain(row.labels).map(|&key| key.to_owned()).collect(),
    };
    TABLE.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
