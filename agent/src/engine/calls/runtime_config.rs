//! RuntimeConfig: which cgroup driver the kubelet must use.

use knarr_cri::v1::{CgroupDriver, LinuxRuntimeConfiguration, RuntimeConfigResponse};

pub(crate) fn call() -> RuntimeConfigResponse {
    let linux = LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::Cgroupfs as i32 };
    RuntimeConfigResponse { linux: Some(linux) }
}
