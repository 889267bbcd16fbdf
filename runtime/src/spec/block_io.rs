//! `linux.resources.blockIO`: weights and throttles of block devices.

object! {
    /// All block IO limits.
    pub struct BlockIo {
        weight: Option<u16>,
        leaf_weight: Option<u16>,
        weight_device: Vec<WeightDevice>,
        throttle_read_bps_device: Vec<ThrottleDevice>,
        throttle_write_bps_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleReadIOPSDevice")]
        throttle_read_iops_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleWriteIOPSDevice")]
        throttle_write_iops_device: Vec<ThrottleDevice>,
    }
}

object! {
    /// Weights of one device.
    pub struct WeightDevice {
        major: i64,
        minor: i64,
        weight: Option<u16>,
        leaf_weight: Option<u16>,
    }
}

object! {
    /// A throttle of one device: bytes or operations per second.
    pub struct ThrottleDevice {
        major: i64,
        minor: i64,
        rate: u64,
    }
}
