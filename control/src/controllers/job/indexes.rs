//! Sets of completion indexes as text: `0,2-5,9`.

use std::collections::BTreeSet;

/// Reads a set; parts that are not numbers, and those not below `limit`, are left out.
pub(super) fn parse(text: &str, limit: i32) -> BTreeSet<i32> {
    let mut indexes = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<i32>(), last.trim().parse::<i32>()) {
            indexes.extend(first.max(0)..=last.min(limit - 1));
        }
    }
    indexes
}

/// Writes a set; three or more in a row become a range.
pub(super) fn format(indexes: &BTreeSet<i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for &index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => ranges.push((index, index)),
        }
    }
    let text = |(first, last): &(i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    ranges.iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_three_or_longer() {
        assert_eq!(format(&[0, 1, 3, 4, 5, 9].into()), "0,1,3-5,9");
        assert_eq!(parse("0,1,3-5,9,x,7-", 9), [0, 1, 3, 4, 5].into());
        assert_eq!(parse("", 9), BTreeSet::new());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(indexes in proptest::collection::btree_set(0..300_i32, 0..60)) {
            prop_assert_eq!(parse(&format(&indexes), 300), indexes);
        }
    }
}
