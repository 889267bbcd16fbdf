//! What is left on this machine, as the kernel tells it.

use super::thresholds::{Reading, Readings, Signal};
use crate::kubelet::machine;
use std::path::Path;

/// Measures everything; what cannot be measured is absent. Blocks.
pub(super) fn read(data_dir: &Path, images_dir: &Path) -> Readings {
    let mut readings = Readings::new();
    let mut put = |signal, reading: Option<Reading>| readings.extend(reading.map(|r| (signal, r)));
    put(Signal::Memory, memory());
    put(Signal::NodeDisk, space(data_dir));
    put(Signal::NodeInodes, inodes(data_dir));
    put(Signal::ImageDisk, space(images_dir));
    put(Signal::ImageInodes, inodes(images_dir));
    put(Signal::Pids, pids());
    readings
}

fn memory() -> Option<Reading> {
    Some(Reading { available: machine::meminfo("MemAvailable")?, capacity: machine::meminfo("MemTotal")? })
}

/// Bytes of the file system at `path`.
pub(super) fn space(path: &Path) -> Option<Reading> {
    let found = machine::file_system(path)?;
    let reading =
        Reading { available: found.f_bavail * found.f_frsize, capacity: found.f_blocks * found.f_frsize };
    Some(reading).filter(|reading| reading.capacity > 0)
}

/// Some file systems make inodes as they need them and count none.
fn inodes(path: &Path) -> Option<Reading> {
    let found = machine::file_system(path)?;
    Some(Reading { available: found.f_favail, capacity: found.f_files })
        .filter(|reading| reading.capacity > 0)
}

fn pids() -> Option<Reading> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"];
    let capacity = limits.into_iter().filter_map(number).min()?;
    let used = tasks(&std::fs::read_to_string("/proc/loadavg").ok()?)?;
    Some(Reading { available: capacity.saturating_sub(used), capacity })
}

/// `0.20 0.18 0.12 1/80 11206`: running and all tasks are the fourth field.
fn tasks(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something_left() {
        assert_eq!(tasks("0.20 0.18 0.12 1/80 11206\n"), Some(80));
        let readings = read(Path::new("/"), Path::new("/no/such/directory"));
        for signal in [Signal::Memory, Signal::NodeDisk, Signal::ImageDisk, Signal::Pids] {
            let reading = readings.get(&signal).unwrap();
            assert!(reading.available > 0 && reading.available <= reading.capacity, "{signal:?}");
        }
    }
}
