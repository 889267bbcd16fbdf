//! Pressure stall information of a group (`cpu.pressure`, `memory.pressure`, `io.pressure`): how long its tasks waited.
//! Only version 2 groups have it.

use super::Hierarchies;

/// Tasks that waited, and time in which none could go on.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Psi {
    pub(crate) some: PsiLine,
    pub(crate) full: PsiLine,
}

/// Shares of the last seconds in percent, and all of it in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct PsiLine {
    pub(crate) avg10: f64,
    pub(crate) avg60: f64,
    pub(crate) avg300: f64,
    pub(crate) total: u64,
}

/// The pressure on `cpu`, `memory` or `io`; `None` where the kernel does not tell.
pub(crate) fn pressure_of(hierarchies: &Hierarchies, group: &str, resource: &str) -> Option<Psi> {
    if !hierarchies.is_unified() {
        return None;
    }
    let file = hierarchies.group(resource, group)?.join(format!("{resource}.pressure"));
    Some(parse(&std::fs::read_to_string(file).ok()?))
}

/// Lines of `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse(text: &str) -> Psi {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let target = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => target.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => target.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => target.avg300 = value.parse().unwrap_or(0.0),
                "total" => target.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    psi
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lines_are_read_and_nonsense_is_passed_over() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=42\nfull avg10=0.00 total=7 x\nbroken\n";
        let psi = parse(text);
        assert_eq!(psi.some, PsiLine { avg10: 1.5, avg60: 0.25, avg300: 0.0, total: 42 });
        assert_eq!(psi.full.total, 7);
    }
}
