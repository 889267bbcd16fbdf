//! Slices of systemd's: their names say where their cgroups are (systemd.slice(5)). Whoever hands containers to the runtime has
//! to know it too, to find their cgroups again.

use std::path::PathBuf;

/// Where a slice is, below the root of systemd's tree: `a-b.slice` is in `a.slice`, and `-.slice` is the root itself.
/// None for what is no name of a slice.
pub fn path(name: &str) -> Option<PathBuf> {
    let name = name.strip_suffix(".slice")?;
    let mut path = PathBuf::new();
    if name == "-" {
        return Some(path);
    }
    let mut grown = String::new();
    for part in name.split('-') {
        if part.is_empty() || part.contains(['/', ':']) {
            return None;
        }
        grown = if grown.is_empty() { part.into() } else { format!("{grown}-{part}") };
        path.push(format!("{grown}.slice"));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_places() {
        for (name, place) in [
            ("system.slice", Some("system.slice")),
            ("a-b-c.slice", Some("a.slice/a-b.slice/a-b-c.slice")),
            ("-.slice", Some("")),
            ("a--b.slice", None),
            ("-a.slice", None),
            (".slice", None),
            ("a/b.slice", None),
            ("a:b.slice", None),
            ("a.scope", None),
        ] {
            assert_eq!(path(name), place.map(PathBuf::from), "{name}");
        }
    }
}
