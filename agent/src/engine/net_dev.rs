//! `/proc/PID/net/dev`: the counters of every link in the network namespace of a process.

/// One link. Bytes and packets since the link was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) received: Direction,
    pub(crate) sent: Direction,
}

/// What went one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Direction {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) dropped: u64,
}

/// The links that the process sees, without `lo`; none if the process is gone.
pub(crate) fn of_process(pid: i32) -> Vec<Link> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default())
}

/// Lines of `name: bytes packets errs drop fifo frame compressed multicast`, then eight figures for the other way.
fn parse(text: &str) -> Vec<Link> {
    let one = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let fields: Vec<u64> = counters.split_whitespace().map_while(|field| field.parse().ok()).collect();
        let direction = |from: usize| {
            Some(Direction {
                bytes: *fields.get(from)?,
                packets: *fields.get(from + 1)?,
                errors: *fields.get(from + 2)?,
                dropped: *fields.get(from + 3)?,
            })
        };
        Some(Link { name: name.trim().to_owned(), received: direction(0)?, sent: direction(8)? })
    };
    text.lines().filter_map(one).filter(|link| link.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_per_link() {
        let text = "Inter-|   Receive |  Transmit\n face |bytes packets|bytes\n    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                    \x20 eth0: 100 2 3 4 0 0 0 0 200 5 6 7 0 0 0 0\n  broken: 1 2\n";
        let received = Direction { bytes: 100, packets: 2, errors: 3, dropped: 4 };
        let sent = Direction { bytes: 200, packets: 5, errors: 6, dropped: 7 };
        assert_eq!(parse(text), [Link { name: "eth0".into(), received, sent }]);
    }
}
