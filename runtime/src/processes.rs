//! What `/proc/PID/stat` says: whether a process is still the one we knew.

/// When a process that lives (not a zombie) started, in clock ticks since boot.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    if pid <= 0 {
        return None;
    }
    parse(&crate::kernel_file::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The second field is a name in parentheses that may itself hold spaces and parentheses.
fn parse(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") {
        return None;
    }
    fields.get(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_confuse_it_and_zombies_do_not_count() {
        let line = |state: &str| {
            format!(
                "7 (a) Z b) {state} 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1 18446744073709551615"
            )
        };
        assert_eq!(parse(&line("S")), Some(4711));
        assert_eq!(parse(&line("Z")), None);
        assert_eq!(parse("nonsense"), None);
        assert!(start_time(std::process::id() as i32).is_some());
        assert_eq!(start_time(-1), None);
    }
}
