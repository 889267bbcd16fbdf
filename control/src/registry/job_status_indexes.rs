//! Sets of completion indexes as a status tells them: `0,2-5,9`, in order, each below the number of completions.

/// What is wrong with a set, in Kubernetes' words.
pub(super) fn check(text: &str, limit: i64) -> Result<(), String> {
    let mut last = None;
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = interval(part, limit)?;
        if let Some(previous) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {previous}, current: {from}"));
        }
        last = Some(to);
    }
    Ok(())
}

/// The first index in both of two sets; what cannot be read is in none.
pub(super) fn in_both(one: &str, other: &str, limit: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| interval(part, limit).ok()).collect()
    };
    let others = intervals(other);
    let meets = |(from, to): (i64, i64)| {
        let shared = others.iter().filter(move |other| from <= other.1 && other.0 <= to);
        shared.map(|other| from.max(other.0)).min()
    };
    intervals(one).into_iter().filter_map(meets).min()
}

fn interval(part: &str, limit: i64) -> Result<(i64, i64), String> {
    let bounds: Vec<&str> = part.split('-').collect();
    let bound = |text: &str| {
        let index = text
            .parse::<i64>()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if index >= limit { Err(format!("too large index: {text:?}")) } else { Ok(index) }
    };
    match bounds.as_slice() {
        [one] => bound(one).map(|index| (index, index)),
        [from, to] => {
            let (from, to) = (bound(from)?, bound(to)?);
            if from >= to {
                return Err(format!("non-increasing order, previous: {from}, current: {to}"));
            }
            Ok((from, to))
        }
        _ => {
            let rule =
                "violates the requirement that an index interval can have at most two parts separated by '-'";
            Err(format!("the fragment {part:?} {rule}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_in_order_and_below_the_limit() {
        let table = [
            ("", ""),
            ("0,2-5,9", ""),
            ("0,1", ""),
            ("10", "too large index: \"10\""),
            ("1-10", "too large index: \"10\""),
            ("x", "cannot convert string to integer for index: \"x\""),
            ("1,1", "non-increasing order, previous: 1, current: 1"),
            ("3-2", "non-increasing order, previous: 3, current: 2"),
            (
                "1-2-3",
                "the fragment \"1-2-3\" violates the requirement that an index interval can have at most two parts separated by '-'",
            ),
        ];
        for (text, wrong) in table {
            assert_eq!(check(text, 10).err().unwrap_or_default(), wrong, "{text}");
        }
    }

    #[test]
    fn the_first_shared_index_is_found() {
        for (one, other, shared) in
            [("0,2-5", "1,6", None), ("0,2-5", "4-7", Some(4)), ("", "0", None), ("x,3", "3", Some(3))]
        {
            assert_eq!(in_both(one, other, 10), shared, "{one} {other}");
        }
    }
}
