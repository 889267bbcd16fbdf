//! ListMetricDescriptors: which metrics ListPodSandboxMetrics answers.

use crate::engine::metrics;
use knarr_cri::v1::ListMetricDescriptorsResponse;

pub(crate) fn call() -> ListMetricDescriptorsResponse {
    ListMetricDescriptorsResponse { descriptors: metrics::descriptors() }
}
