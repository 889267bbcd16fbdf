//! Tables of call numbers without a pointer in them, made by the compiler.
//!
//! The runtime is a position-independent program: every pointer in its data is written once more each time it is
//! executed, and each page of them is copied. Fifteen hundred names as references cost more than the start of a `state`.

/// Names one after the other, and for each where it ends and its number. Sorted by name.
pub(crate) struct Packed<const CALLS: usize, const BYTES: usize> {
    names: [u8; BYTES],
    calls: [(u16, u16); CALLS],
}

/// How long all names are together.
pub(crate) const fn length(table: &[(&str, u32)]) -> usize {
    let (mut sum, mut at) = (0, 0);
    while at < table.len() {
        sum += table[at].0.len();
        at += 1;
    }
    sum
}

/// The same table without pointers.
pub(crate) const fn pack<const CALLS: usize, const BYTES: usize>(
    table: &[(&str, u32)],
) -> Packed<CALLS, BYTES> {
    let mut packed = Packed { names: [0; BYTES], calls: [(0, 0); CALLS] };
    let (mut call, mut end) = (0, 0);
    while call < CALLS {
        let name = table[call].0.as_bytes();
        let mut byte = 0;
        while byte < name.len() {
            packed.names[end] = name[byte];
            (byte, end) = (byte + 1, end + 1);
        }
        packed.calls[call] = (end as u16, table[call].1 as u16);
        call += 1;
    }
    packed
}

impl<const CALLS: usize, const BYTES: usize> Packed<CALLS, BYTES> {
    fn name(&self, call: usize) -> &[u8] {
        let start = call.checked_sub(1).map_or(0, |before| usize::from(self.calls[before].0));
        &self.names[start..usize::from(self.calls[call].0)]
    }

    /// The number of a call.
    pub(crate) fn number(&self, name: &str) -> Option<u32> {
        let (mut low, mut high) = (0, CALLS);
        while low < high {
            let middle = low.midpoint(high);
            match self.name(middle).cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(u32::from(self.calls[middle].1)),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_with_its_number_and_no_other_name() {
        use crate::seccomp::syscalls::{aarch64, x32, x86, x86_64};
        macro_rules! check {
            ($table:expr) => {
                let packed: Packed<{ $table.len() }, { length($table) }> = pack($table);
                for (name, number) in $table {
                    assert_eq!(packed.number(name), Some(*number), "{name}");
                    for other in
                        [format!("{name}_"), name[1..].to_string(), name[..name.len() - 1].to_string()]
                    {
                        let known =
                            $table.iter().find(|(known, _)| *known == other).map(|(_, number)| *number);
                        assert_eq!(packed.number(&other), known, "{other}");
                    }
                }
            };
        }
        check!(aarch64::TABLE);
        check!(x32::TABLE);
        check!(x86::TABLE);
        check!(x86_64::TABLE);
    }
}
