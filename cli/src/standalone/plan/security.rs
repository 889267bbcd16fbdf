//! User, capabilities, devices, `--security-opt` and the stop signal.

use crate::args::CreateOptions;
use anyhow::{Context, bail};
use knarr_agent::cri::v1::security_profile::ProfileType;
use knarr_agent::cri::v1::{
    Capability, Device, Int64Value, LinuxContainerSecurityContext, NamespaceOption, SecurityProfile, Signal,
    SupplementalGroupsPolicy,
};

pub(super) fn context(
    options: &CreateOptions,
    namespaces: NamespaceOption,
    image_user: &str,
) -> anyhow::Result<LinuxContainerSecurityContext> {
    let profile = |kind: ProfileType| SecurityProfile { profile_type: kind as i32, ..Default::default() };
    let mut context = LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: options.cap_add.clone(),
            drop_capabilities: options.cap_drop.clone(),
            ..Default::default()
        }),
        privileged: options.privileged,
        namespace_options: Some(namespaces),
        readonly_rootfs: options.read_only,
        seccomp: Some(profile(ProfileType::RuntimeDefault)),
        ..Default::default()
    };
    for option in &options.security_opt {
        let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
        match (key, value) {
            ("seccomp", "unconfined") => context.seccomp = Some(profile(ProfileType::Unconfined)),
            ("seccomp", file) => {
                let path = std::path::absolute(file)?;
                context.seccomp = Some(SecurityProfile {
                    localhost_ref: path.display().to_string(),
                    ..profile(ProfileType::Localhost)
                });
            }
            ("no-new-privileges", "" | "true") => context.no_new_privs = true,
            ("no-new-privileges", "false") => context.no_new_privs = false,
            ("apparmor", "unconfined") => context.apparmor = Some(profile(ProfileType::Unconfined)),
            ("apparmor", name) => {
                context.apparmor = Some(SecurityProfile {
                    localhost_ref: name.to_owned(),
                    ..profile(ProfileType::Localhost)
                });
            }
            // There is no SELinux here that could be switched off; the other is not a matter of CRI's.
            ("label", "disable") | ("systempaths", "unconfined") => {}
            _ => bail!("invalid --security-opt: {option:?}"),
        }
    }
    if let Some(user) = &options.user {
        set_user(&mut context, user)?;
    }
    // Who names a group is in no others but those of --group-add.
    if options.user.as_deref().unwrap_or(image_user).contains(':') {
        context.supplemental_groups_policy = SupplementalGroupsPolicy::Strict as i32;
    }
    Ok(context)
}

fn set_user(context: &mut LinuxContainerSecurityContext, user: &str) -> anyhow::Result<()> {
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    match name.parse::<u32>() {
        Ok(uid) => context.run_as_user = Some(Int64Value { value: uid.into() }),
        Err(_) if name.is_empty() => bail!("--user {user}: the name is empty"),
        Err(_) => context.run_as_username = name.into(),
    }
    match group.map(|group| (group, group.parse::<u32>())) {
        None => {}
        Some((_, Ok(gid))) => context.run_as_group = Some(Int64Value { value: gid.into() }),
        // A group's name is looked up in the container, together with the user.
        Some((group, Err(_))) if !group.is_empty() => {
            context.run_as_user = None;
            context.run_as_username = user.into();
        }
        Some(_) => bail!("--user {user}: the group is empty"),
    }
    Ok(())
}

/// `SOURCE[:TARGET[:PERMISSIONS]]`; the target may be left out.
pub(super) fn devices(options: &CreateOptions) -> anyhow::Result<Vec<Device>> {
    let is_mode = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let device = |text: &String| {
        let fields: Vec<&str> = text.split(':').collect();
        let (source, target, mode) = match fields[..] {
            [source] => (source, source, "rwm"),
            [source, mode] if is_mode(mode) => (source, source, mode),
            [source, target] => (source, target, "rwm"),
            [source, target, mode] if is_mode(mode) => (source, target, mode),
            _ => bail!("invalid device specification: {text}"),
        };
        if std::fs::metadata(source).is_err() {
            bail!(
                "error gathering device information while adding custom device {source:?}: no such file or directory"
            );
        }
        Ok(Device { container_path: target.into(), host_path: source.into(), permissions: mode.into() })
    };
    options.device.iter().map(device).collect()
}

pub(super) fn stop_signal(options: &CreateOptions) -> anyhow::Result<Signal> {
    let Some(text) = &options.stop_signal else { return Ok(Signal::RuntimeDefault) };
    let found = knarr_agent::engine::direct::signal_named(text);
    found.with_context(|| format!("invalid signal: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_number_or_a_name() {
        let mut context = LinuxContainerSecurityContext::default();
        set_user(&mut context, "1000:100").unwrap();
        assert_eq!(context.run_as_user.unwrap().value, 1000);
        assert_eq!(context.run_as_group.unwrap().value, 100);
        set_user(&mut context, "nobody").unwrap();
        assert_eq!(context.run_as_username, "nobody");
        assert!(set_user(&mut context, ":1").is_err());
        let mut context = LinuxContainerSecurityContext::default();
        set_user(&mut context, "0:audio").unwrap();
        assert_eq!((context.run_as_user, context.run_as_username.as_str()), (None, "0:audio"));
    }

    #[test]
    fn devices_have_a_place_and_a_mode() {
        let options = |text: &str| CreateOptions { device: vec![text.into()], ..CreateOptions::default() };
        let found = devices(&options("/dev/null:r")).unwrap().remove(0);
        assert_eq!((found.container_path.as_str(), found.permissions.as_str()), ("/dev/null", "r"));
        assert_eq!(devices(&options("/dev/null:/dev/x")).unwrap()[0].container_path, "/dev/x");
        assert!(devices(&options("/dev/none")).is_err());
        assert!(devices(&options("/dev/null:/dev/x:what")).is_err());
    }
}
