//! `/configz`: the settings in force, under the names that a kubelet gives them.

use crate::config::Config;
use serde_json::{Value, json};

/// The document.
pub(super) fn document(config: &Config) -> Value {
    let kubelet = &config.kubelet;
    let seconds = |seconds: u64| format!("{seconds}s");
    json!({"kubeletconfig": {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": kubelet.listen.ip(),
        "port": kubelet.listen.port(),
        "readOnlyPort": kubelet.read_only_port,
        "staticPodPath": kubelet.manifests,
        "clusterDNS": kubelet.cluster_dns,
        "clusterDomain": kubelet.cluster_domain,
        "maxPods": kubelet.max_pods,
        "podCIDR": config.network.pod_cidr,
        "podLogsDir": config.pod_logs_dir,
        "cgroupRoot": kubelet.cgroup_root,
        "cgroupDriver": "cgroupfs",
        "containerRuntimeEndpoint": format!("unix://{}", config.cri_socket().display()),
        "containerLogMaxSize": kubelet.container_log_max_bytes.to_string(),
        "containerLogMaxFiles": kubelet.container_log_max_files,
        "containerLogMonitorInterval": seconds(kubelet.container_log_monitor_seconds),
        "evictionHard": kubelet.eviction_hard,
        "evictionSoft": kubelet.eviction_soft,
        "evictionSoftGracePeriod": kubelet.eviction_soft_grace_period,
        "evictionMinimumReclaim": kubelet.eviction_minimum_reclaim,
        "evictionMaxPodGracePeriod": kubelet.eviction_max_pod_grace_period_seconds,
        "evictionPressureTransitionPeriod": seconds(kubelet.eviction_pressure_transition_seconds),
        "imageGCHighThresholdPercent": kubelet.image_gc_high_threshold_percent,
        "imageGCLowThresholdPercent": kubelet.image_gc_low_threshold_percent,
        "imageMinimumGCAge": seconds(kubelet.image_minimum_gc_age_seconds),
        "imageMaximumGCAge": seconds(kubelet.image_maximum_gc_age_seconds),
        "allowedUnsafeSysctls": kubelet.allowed_unsafe_sysctls,
        "seccompDefault": kubelet.seccomp_default,
        "featureGates": {"MemoryQoS": kubelet.memory_qos},
        "memoryThrottlingFactor": kubelet.memory_throttling_factor,
        "syncFrequency": "1m0s",
        "nodeStatusUpdateFrequency": "10s",
        "nodeStatusReportFrequency": "5m0s",
        "nodeLeaseDurationSeconds": 40,
        "serializeImagePulls": false,
    }})
}
