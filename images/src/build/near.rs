//! What somebody may have meant who wrote a name that is none: `(did you mean FROM?)`.

/// The hint that goes behind a complaint; nothing where no name is near.
pub(crate) fn did_you_mean<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    nearest(wrong, names).map(|name| format!(" (did you mean {name}?)")).unwrap_or_default()
}

/// The name that is nearest, if one is near.
pub(crate) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.map(|name| (distance(name.as_bytes(), wrong.as_bytes()), name));
    let near = near.filter(|(distance, name)| *distance <= 2 && *distance < name.len()).min();
    near.map(|(_, name)| name)
}

/// How many letters must be changed, added or taken away.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (index, letter) in b.iter().take(40).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for at in 1..row.len() {
            let changed = diagonal + usize::from(a[at - 1] != *letter);
            diagonal = row[at];
            row[at] = changed.min(row[at] + 1).min(row[at - 1] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name() {
        let names = || ["build", "builder", "x"].into_iter();
        assert_eq!(did_you_mean("bulid", names()), " (did you mean build?)");
        assert_eq!(did_you_mean("y", names()), "");
        assert_eq!(did_you_mean("nothing", names()), "");
    }
}
