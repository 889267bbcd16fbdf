//! What `/proc` says about the processes of a container: how many, their threads, descriptors and sockets.

use super::Sample;
use std::path::Path;

/// Processes whose descriptors are looked through; a container may have tens of thousands.
const MOST_LOOKED_AT: usize = 1024;

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    threads: u64,
    descriptors: u64,
    sockets: u64,
}

/// Figures of these processes. One that ends meanwhile counts for nothing.
pub(super) fn gather(pids: &[i32], first: Option<i32>) -> Vec<Sample> {
    let counts = pids.iter().take(MOST_LOOKED_AT).map(|pid| count(Path::new(&format!("/proc/{pid}"))));
    let sum = counts.fold(Counts::default(), |sum, one| Counts {
        threads: sum.threads + one.threads,
        descriptors: sum.descriptors + one.descriptors,
        sockets: sum.sockets + one.sockets,
    });
    let mut samples = vec![
        Sample::new("container_processes", pids.len() as u64),
        Sample::new("container_threads", sum.threads),
        Sample::new("container_file_descriptors", sum.descriptors),
        Sample::new("container_sockets", sum.sockets),
    ];
    let limits = first.map(|pid| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default());
    samples.extend(
        limits
            .and_then(|limits| open_files_limit(&limits))
            .map(|limit| Sample::labelled("container_ulimits_soft", limit, &["max_open_files"])),
    );
    samples
}

fn count(process: &Path) -> Counts {
    let mut counts = Counts::default();
    if let Ok(tasks) = std::fs::read_dir(process.join("task")) {
        counts.threads = tasks.count() as u64;
    }
    for descriptor in std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten() {
        counts.descriptors += 1;
        let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
        counts.sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
    }
    counts
}

/// The soft limit in `Max open files            1024                 4096                 files`.
fn open_files_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_threads_and_descriptors() {
        let counts = count(Path::new("/proc/self"));
        assert!(counts.threads > 0 && counts.descriptors > 2, "{counts:?}");
        assert_eq!(count(Path::new("/proc/0")), Counts::default());
    }

    #[test]
    fn the_soft_limit_comes_first() {
        assert_eq!(
            open_files_limit("Max open files            1024         4096        files\n"),
            Some(1024)
        );
        assert_eq!(open_files_limit("Max open files  unlimited unlimited files\n"), None);
    }
}
