//! Socket activation (sd_listen_fds(3)): sockets that systemd, or somebody in its place, opened for the program.
//!
//! They begin at descriptor 3, before those of `--preserve-fds`, and count only if `LISTEN_PID` names this process: a
//! variable that an ancestor forgot to unset is not meant for us. The program is told the same way about itself.

/// What was handed to this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Activation {
    /// Descriptors from 3 on.
    pub(crate) count: u32,
    names: Option<String>,
}

/// More descriptors than any process may have: the variable is nonsense.
const MOST: u32 = 1 << 20;

impl Activation {
    /// What our own environment says.
    pub(crate) fn inherited() -> Self {
        Self::from(|name| std::env::var(name).ok(), std::process::id())
    }

    fn from(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Self {
        let number = |name: &str| variable(name)?.parse::<u32>().ok();
        if number("LISTEN_PID") != Some(pid) {
            return Activation::default();
        }
        match number("LISTEN_FDS") {
            Some(count @ 1..=MOST) => Activation { count, names: variable("LISTEN_FDNAMES") },
            _ => Activation::default(),
        }
    }

    /// For the program, which is process 1 of its container.
    pub(crate) fn environment(&self) -> Vec<String> {
        if self.count == 0 {
            return vec![];
        }
        let mut variables = vec![format!("LISTEN_FDS={}", self.count), "LISTEN_PID=1".to_string()];
        variables.extend(self.names.as_ref().map(|names| format!("LISTEN_FDNAMES={names}")));
        variables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Activation {
        let find = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string())
        };
        Activation::from(find, 42)
    }

    #[test]
    fn only_what_is_meant_for_us_counts() {
        let given = read(&[("LISTEN_PID", "42"), ("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a:b")]);
        assert_eq!(given.count, 2);
        assert_eq!(given.environment(), ["LISTEN_FDS=2", "LISTEN_PID=1", "LISTEN_FDNAMES=a:b"]);
        for variables in [
            [("LISTEN_PID", "43"), ("LISTEN_FDS", "2")],
            [("LISTEN_PID", ""), ("LISTEN_FDS", "2")],
            [("LISTEN_PID", "42"), ("LISTEN_FDS", "0")],
            [("LISTEN_PID", "42"), ("LISTEN_FDS", "-1")],
            [("LISTEN_PID", "42"), ("LISTEN_FDS", "4294967295")],
        ] {
            assert_eq!(read(&variables), Activation::default(), "{variables:?}");
        }
        assert_eq!(Activation::default().environment(), Vec::<String>::new());
    }
}
