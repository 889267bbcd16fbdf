//! Options of `run` and `create` that few need: weights and throttles, namespaces of others, and what is taken because
//! Docker takes it.

use clap::Args;

/// What few containers need.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Finer {
    /// For the runtime (NAME=VALUE)
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) annotation: Vec<String>,
    /// Weight among others for block devices, 10 to 1000; 0 is the usual one
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// The same for one device
    #[arg(long, value_name = "DEVICE:WEIGHT")]
    pub(crate) blkio_weight_device: Vec<String>,
    /// Most bytes a second that are read from a device
    #[arg(long, value_name = "DEVICE:RATE")]
    pub(crate) device_read_bps: Vec<String>,
    /// Most bytes a second that are written to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    pub(crate) device_write_bps: Vec<String>,
    /// Most reads a second from a device
    #[arg(long, value_name = "DEVICE:RATE")]
    pub(crate) device_read_iops: Vec<String>,
    /// Most writes a second to a device
    #[arg(long, value_name = "DEVICE:RATE")]
    pub(crate) device_write_iops: Vec<String>,
    /// Devices that it may use, as cgroups say it ('c 42:* rmw')
    #[arg(long, value_name = "RULE")]
    pub(crate) device_cgroup_rule: Vec<String>,
    /// Cgroup that its own is made in
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// host or private
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,
    /// Microseconds over which --cpu-rt-runtime counts
    #[arg(long, value_name = "N")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Microseconds for its processes that ask for real time
    #[arg(long, value_name = "N")]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// NIS domain name of the container
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,
    /// It is not killed when it is out of memory
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// host: the host name is this machine's
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// host: users are this machine's, which is so anyway
    #[arg(long, value_name = "MODE")]
    pub(crate) userns: Option<String>,
    /// Nothing here hands graphics processors out: refused
    #[arg(long, value_name = "REQUEST")]
    pub(crate) gpus: Option<String>,
    /// Refused: no storage here has options for one container
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) storage_opt: Vec<String>,
    /// Of volumes without a name: local, which is the only one
    #[arg(long, value_name = "DRIVER", value_parser = ["local"])]
    pub(crate) volume_driver: Option<String>,
    /// default, which is the only one
    #[arg(long, value_name = "TECHNOLOGY")]
    pub(crate) isolation: Option<String>,
    /// Kernels have no such limit any more: this changes nothing
    #[arg(long, value_name = "BYTES", hide = true)]
    pub(crate) kernel_memory: Option<String>,
    /// Signatures are a matter of policy.toml: this changes nothing
    #[arg(long, value_name = "BOOL", default_missing_value = "true", num_args = 0..=1, require_equals = true)]
    pub(crate) disable_content_trust: Option<bool>,
}
