//! Who the first process runs as: CRI's user, else the image's, looked up in the container's own `/etc/passwd` and
//! `/etc/group`.
//!
//! The files come from the image, so they are hostile: they are read through a descriptor that cannot leave the root
//! file system (see `rootfs_file`), with a size limit, and lines that make no sense are passed over.

use crate::engine::records::UserRecord;
use knarr_cri::{
    Status,
    v1::{LinuxContainerSecurityContext, SupplementalGroupsPolicy},
};

/// Whom the configuration names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Name or number; root where empty.
    user: String,
    /// Name or number; the user's own where empty.
    group: String,
}

/// CRI's user and group, else the image's `USER`. A group alone has nobody it could belong to.
pub(crate) fn wanted(security: &LinuxContainerSecurityContext, image_user: &str) -> Result<Wanted, Status> {
    let group = security.run_as_group.map(|group| group.value.to_string()).unwrap_or_default();
    let user = match security.run_as_user {
        Some(user) => user.value.to_string(),
        None => security.run_as_username.clone(),
    };
    match (user.is_empty(), group.is_empty()) {
        (true, false) => {
            Err(Status::invalid_argument(format!("user group {group:?} is specified without user")))
        }
        (true, true) => {
            let (user, group) = image_user.split_once(':').unwrap_or((image_user, ""));
            Ok(Wanted { user: user.into(), group: group.into() })
        }
        // A stand-alone container may name its group too; CRI's own names hold no colon.
        (false, true) if user.contains(':') => {
            let (user, group) = user.split_once(':').unwrap_or((&user, ""));
            Ok(Wanted { user: user.into(), group: group.into() })
        }
        (false, _) => Ok(Wanted { user, group }),
    }
}

/// The numeric identity.
pub(crate) fn resolve(
    wanted: &Wanted,
    security: &LinuxContainerSecurityContext,
    passwd: &str,
    group: &str,
) -> Result<UserRecord, Status> {
    let found = find_user(&wanted.user, passwd)?;
    let gid = if wanted.group.is_empty() { found.gid } else { find_group(&wanted.group, group)? };
    let mut groups = vec![gid];
    let strict = security.supplemental_groups_policy() == SupplementalGroupsPolicy::Strict;
    if !strict && let Some(name) = &found.name {
        groups.extend(groups_of(name, group));
    }
    for &wanted in &security.supplemental_groups {
        groups.push(id(wanted, "supplemental_groups")?);
    }
    let mut seen = std::collections::BTreeSet::new();
    groups.retain(|group| seen.insert(*group));
    Ok(UserRecord { uid: found.uid, gid, groups })
}

struct Found {
    name: Option<String>,
    uid: u32,
    gid: u32,
}

/// A number need not be in the file; a name must be.
fn find_user(user: &str, passwd: &str) -> Result<Found, Status> {
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<i64>().ok().map(|number| id(number, "user")).transpose()?;
    let mut lines = passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Found { name: Some(name.into()), uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    });
    match number {
        Some(uid) => Ok(lines.find(|line| line.uid == uid).unwrap_or(Found { name: None, uid, gid: 0 })),
        None => lines.find(|line| line.name.as_deref() == Some(user)).ok_or_else(|| {
            Status::invalid_argument(format!(
                "unable to find user {user}: no matching entries in passwd file"
            ))
        }),
    }
}

/// The number of a group that is named or numbered.
pub(crate) fn find_group(group: &str, file: &str) -> Result<u32, Status> {
    if let Ok(number) = group.parse::<i64>() {
        return id(number, "group");
    }
    entries(file).find(|(name, _, _)| *name == group).map(|(_, gid, _)| gid).ok_or_else(|| {
        Status::invalid_argument(format!("unable to find group {group}: no matching entries in group file"))
    })
}

/// The groups whose member list names the user.
fn groups_of(user: &str, file: &str) -> Vec<u32> {
    entries(file)
        .filter(|(_, _, members)| members.split(',').any(|member| member == user))
        .map(|(_, gid, _)| gid)
        .collect()
}

fn entries(file: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    file.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        Some((name, gid.parse().ok()?, fields.next().unwrap_or_default()))
    })
}

/// Ids above 2^31-1 overflow the signed fields of older interfaces; other runtimes refuse them too.
fn id(number: i64, field: &str) -> Result<u32, Status> {
    i32::try_from(number)
        .ok()
        .and_then(|number| u32::try_from(number).ok())
        .ok_or_else(|| Status::invalid_argument(format!("{field}: {number} is not in range 0-2147483647")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_cri::v1::Int64Value;
    use proptest::prelude::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nwww-data:x:33:34::/:/bin/false\n";
    const GROUP: &str =
        "root:x:0:\nwww:x:34:\naudio:x:29:www-data,other\nvideo:x:44:www-data\nx:x:bad:www-data\n";

    fn run(security: LinuxContainerSecurityContext, image: &str) -> Result<UserRecord, String> {
        wanted(&security, image)
            .and_then(|wanted| resolve(&wanted, &security, PASSWD, GROUP))
            .map_err(|status| status.message().to_owned())
    }

    fn user(uid: u32, gid: u32, groups: &[u32]) -> Result<UserRecord, String> {
        Ok(UserRecord { uid, gid, groups: groups.to_vec() })
    }

    #[test]
    fn the_image_decides_when_cri_says_nothing() {
        let none = LinuxContainerSecurityContext::default;
        assert_eq!(run(none(), ""), user(0, 0, &[0]));
        assert_eq!(run(none(), "www-data"), user(33, 34, &[34, 29, 44]));
        assert_eq!(run(none(), "33"), user(33, 34, &[34, 29, 44]));
        assert_eq!(run(none(), "1003:www"), user(1003, 34, &[34]));
        assert_eq!(run(none(), "77:78"), user(77, 78, &[78]));
        assert!(run(none(), "nobody").unwrap_err().contains("unable to find user nobody"));
        assert!(run(none(), "0:nobody").unwrap_err().contains("unable to find group nobody"));
        assert!(run(none(), "-1").unwrap_err().contains("not in range"));
    }

    /// CVE-2024-40635, CVE-2026-46680: a number that wraps around would be root.
    #[test]
    fn users_that_overflow_are_refused() {
        let none = LinuxContainerSecurityContext::default;
        for user in ["4294967296", "2147483648", "0:4294967296", "-4294967296"] {
            assert!(run(none(), user).unwrap_err().contains("not in range"), "{user}");
        }
        // Too large for a number of any kind: then it is a name, which nobody has.
        assert!(run(none(), "18446744073709551616").unwrap_err().contains("unable to find user"));
    }

    #[test]
    fn cri_goes_before_the_image() {
        let value = |value| Some(Int64Value { value });
        let security = LinuxContainerSecurityContext { run_as_user: value(33), ..Default::default() };
        assert_eq!(run(security.clone(), "root"), user(33, 34, &[34, 29, 44]));
        let with_group = LinuxContainerSecurityContext { run_as_group: value(7), ..security };
        assert_eq!(run(with_group, "root"), user(33, 7, &[7, 29, 44]));
        let group_alone = LinuxContainerSecurityContext { run_as_group: value(7), ..Default::default() };
        assert_eq!(run(group_alone, "root").unwrap_err(), "user group \"7\" is specified without user");
    }

    #[test]
    fn strict_ignores_the_groups_of_the_image() {
        let mut security =
            LinuxContainerSecurityContext { supplemental_groups: vec![1234, 29], ..Default::default() };
        assert_eq!(run(security.clone(), "www-data"), user(33, 34, &[34, 29, 44, 1234]));
        security.supplemental_groups_policy = SupplementalGroupsPolicy::Strict as i32;
        assert_eq!(run(security, "www-data"), user(33, 34, &[34, 1234, 29]));
    }

    proptest! {
        #[test]
        fn hostile_files_never_panic(passwd in ".{0,200}", group in ".{0,200}", name in ".{0,20}") {
            let security = LinuxContainerSecurityContext::default();
            if let Ok(wanted) = wanted(&security, &name) {
                let _ = resolve(&wanted, &security, &passwd, &group);
            }
        }
    }
}
