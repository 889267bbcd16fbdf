//! RuntimeConfig: which cgroup driver the kubelet must use.

use knarr_cri::v1::{CgroupDriver, LinuxRuntimeConfiguration, RuntimeConfigResponse};

pub(crate) fn call(systemd: bool) -> RuntimeConfigResponse {
    let driver = if systemd { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
    let linux = LinuxRuntimeConfiguration { cgroup_driver: driver as i32 };
    RuntimeConfigResponse { linux: Some(linux) }
}
