//! What `events --stats` tells of a container's resctrl group, in runc's shape: what the hardware has, what the group gets,
//! what it uses. Files that this hardware does not have are left out.

use super::Group;
use crate::kernel_file;
use serde_json::{Map, Value, json};
use std::path::Path;

impl Group {
    /// The `intel_rdt` object.
    pub(crate) fn stats(&self) -> Value {
        let Some(mount) = self.directory.parent() else { return json!({}) };
        let all = lines(mount);
        let own = lines(&self.directory);
        let mut stats = Map::new();
        let cache = &mount.join("info/L3");
        let cache = [("cbm_mask", mask(cache)), number(cache, "min_cbm_bits"), number(cache, "num_closids")];
        describe(&mut stats, "l3_cache", "L3", &cache, (&all, &own));
        let bandwidth = &mount.join("info/MB");
        let names = ["bandwidth_gran", "delay_linear", "min_bandwidth", "num_closids"];
        describe(&mut stats, "mem_bw", "MB", &names.map(|name| number(bandwidth, name)), (&all, &own));
        if !own.is_empty() {
            stats.insert("schemata".into(), json!(own));
        }
        let features = kernel_file::read(mount.join("info/L3_MON/mon_features")).unwrap_or_default();
        let features: Vec<&str> = features.lines().collect();
        let watched = self.monitor.as_ref().unwrap_or(&self.directory);
        for (member, files) in
            [("mbm_stats", &["mbm_total_bytes", "mbm_local_bytes"][..]), ("cmt_stats", &["llc_occupancy"])]
        {
            if files.iter().any(|file| features.contains(file)) {
                stats.insert(member.into(), domains(&watched.join("mon_data"), files, &features));
            }
        }
        Value::Object(stats)
    }
}

/// What there is of one resource, and the lines of everybody's and of this group's share.
fn describe(
    stats: &mut Map<String, Value>,
    name: &str,
    resource: &str,
    info: &[(&str, Option<Value>)],
    (all, own): (&[String], &[String]),
) {
    if info.iter().all(|(_, value)| value.is_none()) {
        return;
    }
    // As in runc, zero is not told.
    let told = info.iter().filter_map(|(key, value)| {
        let value = value.as_ref().filter(|value| **value != json!(0))?;
        Some(((*key).to_string(), value.clone()))
    });
    stats.insert(format!("{name}_info"), Value::Object(told.collect()));
    for (member, lines) in [(format!("{name}_schema_root"), all), (format!("{name}_schema"), own)] {
        if let Some(line) = lines.iter().rfind(|line| line.contains(resource)) {
            stats.insert(member, json!(line));
        }
    }
}

fn lines(group: &Path) -> Vec<String> {
    let text = kernel_file::read(group.join("schemata")).unwrap_or_default();
    text.lines().map(|line| line.trim().to_string()).filter(|line| !line.is_empty()).collect()
}

fn mask(directory: &Path) -> Option<Value> {
    kernel_file::read(directory.join("cbm_mask")).ok().map(|text| json!(text.trim()))
}

fn number<'a>(directory: &Path, file: &'a str) -> (&'a str, Option<Value>) {
    let text = kernel_file::read(directory.join(file)).ok();
    (file, text.and_then(|text| text.trim().parse::<u64>().ok()).map(Value::from))
}

/// One object for each cache, by its number; a count that the hardware cannot tell now is 0.
fn domains(directory: &Path, files: &[&str], features: &[&str]) -> Value {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut domains: Vec<_> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    domains.sort();
    let count = |domain: &Path, file: &str| match features.contains(&file) {
        true => number(domain, file).1.unwrap_or_else(|| json!(0)),
        false => json!(0),
    };
    let object = |domain: &std::path::PathBuf| {
        Value::Object(files.iter().map(|file| ((*file).to_string(), count(domain, file))).collect())
    };
    domains.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Resctrl;
    use super::*;

    /// A tree as the kernel makes it; files of it are ordinary here.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = mount.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{text}\n")).unwrap();
        }
        mount
    }

    fn stats(mount: &Path, json: Value) -> Value {
        let host = Resctrl { mount: Some(mount.into()), cache: true, bandwidth: true };
        Group::plan(&serde_json::from_value(json).unwrap(), "id", &host).unwrap().stats()
    }

    #[test]
    fn everything_the_hardware_has_is_told_in_the_shape_of_runc() {
        let mount = tree(&[
            ("schemata", "    L3:0=fff;1=fff\n    MB:0=100;1=100"),
            ("info/L3/cbm_mask", "fff"),
            ("info/L3/min_cbm_bits", "2"),
            ("info/L3/num_closids", "16"),
            ("info/MB/bandwidth_gran", "10"),
            ("info/MB/delay_linear", "0"),
            ("info/MB/min_bandwidth", "10"),
            ("info/MB/num_closids", "8"),
            ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes"),
            ("gold/schemata", "L3:0=f;1=f\nMB:0=20;1=20"),
            ("gold/mon_groups/id/mon_data/mon_L3_00/llc_occupancy", "4096"),
            ("gold/mon_groups/id/mon_data/mon_L3_00/mbm_total_bytes", "7"),
            ("gold/mon_groups/id/mon_data/mon_L3_01/llc_occupancy", "Unavailable"),
        ]);
        let told = stats(mount.path(), json!({"closID": "gold", "enableMonitoring": true}));
        assert_eq!(
            told,
            json!({
                "l3_cache_info": {"cbm_mask": "fff", "min_cbm_bits": 2, "num_closids": 16},
                "l3_cache_schema_root": "L3:0=fff;1=fff",
                "l3_cache_schema": "L3:0=f;1=f",
                "mem_bw_info": {"bandwidth_gran": 10, "min_bandwidth": 10, "num_closids": 8},
                "mem_bw_schema_root": "MB:0=100;1=100",
                "mem_bw_schema": "MB:0=20;1=20",
                "schemata": ["L3:0=f;1=f", "MB:0=20;1=20"],
                "mbm_stats": [{"mbm_total_bytes": 7, "mbm_local_bytes": 0}, {"mbm_total_bytes": 0, "mbm_local_bytes": 0}],
                "cmt_stats": [{"llc_occupancy": 4096}, {"llc_occupancy": 0}],
            })
        );
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let mount =
            tree(&[("schemata", "MB:0=100"), ("id/schemata", "MB:0=50"), ("info/MB/num_closids", "8")]);
        assert_eq!(
            stats(mount.path(), json!({})),
            json!({"mem_bw_info": {"num_closids": 8}, "mem_bw_schema_root": "MB:0=100", "mem_bw_schema": "MB:0=50",
                "schemata": ["MB:0=50"]})
        );
        let nothing = tree(&[]);
        assert_eq!(stats(nothing.path(), json!({})), json!({}));
    }
}
