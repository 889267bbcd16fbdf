//! The table of resources: looked up at every request, changed only when a custom resource comes or goes.
//!
//! Rows are sorted by group, version and plural, so a lookup is a binary search that allocates nothing. Readers take a
//! snapshot; a change replaces it whole, so no request ever sees half a change.

use super::{Resource, builtin};
use std::sync::{Arc, PoisonError, RwLock};

/// Every resource that is served now.
#[derive(Debug)]
pub struct Table {
    /// Held only for the time of a pointer copy, so it is never held across an await.
    rows: RwLock<Arc<Rows>>,
}

#[derive(Debug, Default, Clone)]
struct Rows {
    sorted: Vec<Arc<Resource>>,
    /// Counts changes: whoever caches something made from the table compares it.
    generation: u64,
}

impl Table {
    /// The resources of Kubernetes itself.
    pub fn builtin() -> Table {
        let table = Table { rows: RwLock::default() };
        table.change(|rows| {
            rows.sorted = builtin::rows().into_iter().map(Arc::new).collect();
            rows.sorted.sort_by(|a, b| key(a).cmp(&key(b)));
        });
        table
    }

    /// The row of a URL: `("apps", "v1", "deployments")`.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        let rows = self.snapshot();
        let found = rows.sorted.binary_search_by(|row| key(row).cmp(&(group, version, plural))).ok()?;
        rows.sorted.get(found).cloned()
    }

    /// Whether anything is served of a group.
    pub fn has_group(&self, group: &str) -> bool {
        let rows = self.snapshot();
        let first = rows.sorted.partition_point(|row| row.group.as_ref() < group);
        rows.sorted.get(first).is_some_and(|row| row.group == group)
    }

    /// The row of an object: `("apps", "v1", "Deployment")`.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<Resource>> {
        let rows = self.snapshot();
        let from =
            rows.sorted.partition_point(|row| (row.group.as_ref(), row.version.as_ref()) < (group, version));
        let same_version =
            rows.sorted.iter().skip(from).take_while(|row| row.group == group && row.version == version);
        same_version.into_iter().find(|row| row.kind == kind).cloned()
    }

    /// Every row, sorted by group, version and plural.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        self.snapshot().sorted.clone()
    }

    /// Changes whenever a row comes or goes.
    pub fn generation(&self) -> u64 {
        self.snapshot().generation
    }

    /// Adds a row, in place of the one with the same group, version and plural.
    pub fn insert(&self, resource: Resource) {
        self.change(|rows| match rows.sorted.binary_search_by(|row| key(row).cmp(&key(&resource))) {
            Ok(at) => rows.sorted[at] = Arc::new(resource),
            Err(at) => rows.sorted.insert(at, Arc::new(resource)),
        });
    }

    /// Removes a row; `false` where there was none.
    pub fn remove(&self, group: &str, version: &str, plural: &str) -> bool {
        let mut removed = false;
        self.change(|rows| {
            if let Ok(at) = rows.sorted.binary_search_by(|row| key(row).cmp(&(group, version, plural))) {
                rows.sorted.remove(at);
                removed = true;
            }
        });
        removed
    }

    fn snapshot(&self) -> Arc<Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, edit: impl FnOnce(&mut Rows)) {
        let mut current = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Rows::clone(&current);
        edit(&mut next);
        next.generation += 1;
        *current = Arc::new(next);
    }
}

fn key(resource: &Resource) -> (&str, &str, &str) {
    (&resource.group, &resource.version, &resource.plural)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_url_and_by_kind() {
        let table = Table::builtin();
        assert_eq!(table.find("", "v1", "pods").unwrap().kind, "Pod");
        assert_eq!(table.by_kind("apps", "v1", "Deployment").unwrap().plural, "deployments");
        assert!(table.find("apps", "v1", "pods").is_none());
        assert!(table.by_kind("", "v2", "Pod").is_none());
    }

    #[test]
    fn every_builtin_row_is_unique() {
        let all = Table::builtin().all();
        assert!(all.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])), "two rows share a key");
    }

    #[test]
    fn rows_come_and_go() {
        let table = Table::builtin();
        let before = table.generation();
        let mut row = Resource::clone(&table.find("", "v1", "configmaps").unwrap());
        row.group = "stable.example.com".into();
        table.insert(row);
        assert!(table.find("stable.example.com", "v1", "configmaps").is_some());
        assert!(table.generation() > before);
        assert!(table.remove("stable.example.com", "v1", "configmaps"));
        assert!(!table.remove("stable.example.com", "v1", "configmaps"));
    }
}
