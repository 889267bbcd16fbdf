//! `linux.intelRdt`: cache and memory bandwidth allocation through resctrl.

object! {
    /// One resctrl group.
    pub struct IntelRdt {
        #[serde(rename = "closID")]
        clos_id: String,
        schemata: Vec<String>,
        l3_cache_schema: String,
        mem_bw_schema: String,
        enable_monitoring: Option<bool>,
    }
}
