//! Identity and confinement of a pod and its containers: users, profiles, sysctls, namespaces of the host.

use super::faults::Faults;
use super::{fields, validation, volume_sources};
use serde_json::{Value, json};

pub(super) const ID_RANGE: &str = "must be between 0 and 2147483647, inclusive";
const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const SYSCTL: &str = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

/// Every fault of the security context of a pod and of what it shares with its node.
pub(super) fn validate(spec: &Value, path: &str, faults: &mut Faults) {
    if let Some(context) = spec.get("securityContext") {
        of_pod(context, spec, &format!("{path}.securityContext"), faults);
    }
    if fields::flag(spec, "/shareProcessNamespace") && fields::flag(spec, "/hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        faults.invalid(format!("{path}.securityContext.shareProcessNamespace"), &json!(true), detail);
    }
    if spec.get("hostUsers") == Some(&Value::Bool(false)) {
        // The names of the fields are spelled like this in Kubernetes' own messages.
        for (field, name) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")]
        {
            if fields::flag(spec, &format!("/{field}")) {
                faults.forbidden(format!("{path}.{name}"), "when `hostUsers` is false");
            }
        }
    }
    if let Some(os) = spec.get("os").filter(|os| !os.is_null()) {
        match fields::text(os, "/name") {
            "" => faults.required(format!("{path}.os.name"), ""),
            name => validation::optional_choice(&format!("{path}.os"), name, &["linux", "windows"], faults),
        }
    }
}

fn of_pod(context: &Value, spec: &Value, path: &str, faults: &mut Faults) {
    identity(context, &["fsGroup", "runAsUser", "runAsGroup"], path, faults);
    for (index, group) in fields::list(context, "/supplementalGroups").iter().enumerate() {
        if group.as_i64().is_none_or(|group| group < 0) {
            faults.invalid(format!("{path}.supplementalGroups[{index}]"), group, ID_RANGE);
        }
    }
    let sysctls = fields::list(context, "/sysctls");
    for (index, sysctl) in sysctls.iter().enumerate() {
        let (name, field) = (fields::text(sysctl, "/name"), format!("{path}.sysctls[{index}].name"));
        sysctl_name(name, spec, &field, faults);
        if sysctls[..index].iter().any(|other| fields::text(other, "/name") == name) {
            faults.duplicate(field, &json!(name));
        }
    }
    let change = fields::text(context, "/fsGroupChangePolicy");
    let field = format!("{path}.fsGroupChangePolicy");
    validation::optional_choice(&field, change, &["Always", "OnRootMismatch"], faults);
    profiles(context, path, faults);
    let groups = fields::text(context, "/supplementalGroupsPolicy");
    let field = format!("{path}.supplementalGroupsPolicy");
    validation::optional_choice(&field, groups, &["Merge", "Strict"], faults);
    let change = fields::text(context, "/seLinuxChangePolicy");
    let field = format!("{path}.seLinuxChangePolicy");
    validation::optional_choice(&field, change, &["MountOption", "Recursive"], faults);
}

fn sysctl_name(name: &str, spec: &Value, field: &str, faults: &mut Faults) {
    let word = |part: &str| {
        let edge =
            |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let bytes = part.as_bytes();
        let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte);
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
    };
    match name {
        "" => faults.required(field, ""),
        name if name.len() > 253 || !name.split(['.', '/']).all(word) => {
            faults.invalid(field, &json!(name), SYSCTL);
        }
        _ => {}
    }
    let of_ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    for (shared, starts) in [("hostNetwork", &["net."][..]), ("hostIPC", &of_ipc[..])] {
        let below = starts.iter().any(|start| name.replace('/', ".").starts_with(start));
        if below && fields::flag(spec, &format!("/{shared}")) {
            faults.invalid(field, &json!(name), &format!("may not be specified when '{shared}' is true"));
        }
    }
}

/// Every fault of the security context of a container of the pod `spec`.
pub(super) fn of_container(container: &Value, spec: &Value, path: &str, faults: &mut Faults) {
    let Some(context) = container.get("securityContext") else { return };
    let path = format!("{path}.securityContext");
    identity(context, &["runAsUser", "runAsGroup"], &path, faults);
    let mount = fields::text(context, "/procMount");
    let field = format!("{path}.procMount");
    validation::optional_choice(&field, mount, &["Default", "Unmasked"], faults);
    if mount == "Unmasked" && spec.get("hostUsers") != Some(&Value::Bool(false)) {
        faults.invalid(field, &json!(mount), "`hostUsers` must be false to use `Unmasked`");
    }
    profiles(context, &path, faults);
    if context.get("allowPrivilegeEscalation") != Some(&Value::Bool(false)) {
        return;
    }
    if fields::flag(context, "/privileged") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        faults.invalid(path.clone(), context, detail);
    }
    if fields::list(context, "/capabilities/add").iter().any(|one| one == "CAP_SYS_ADMIN") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        faults.invalid(path, context, detail);
    }
}

fn identity(context: &Value, names: &[&str], path: &str, faults: &mut Faults) {
    for field in names {
        if let Some(id) = fields::int(context, &format!("/{field}")).filter(|id| *id < 0) {
            faults.invalid(format!("{path}.{field}"), &json!(id), ID_RANGE);
        }
    }
}

/// Seccomp and AppArmor: one of three kinds, and the name of a file for one of them.
fn profiles(context: &Value, path: &str, faults: &mut Faults) {
    for (field, what) in [("seccompProfile", "seccomp"), ("appArmorProfile", "AppArmor")] {
        let Some(profile) = context.get(field) else { continue };
        let path = format!("{path}.{field}");
        let kind = fields::text(profile, "/type");
        if kind.is_empty() {
            faults.required(format!("{path}.type"), &format!("type is required when {field} is set"));
        }
        validation::optional_choice(&format!("{path}.type"), kind, &PROFILES, faults);
        let (file, place) = (profile.get("localhostProfile"), format!("{path}.localhostProfile"));
        let text = file.and_then(Value::as_str).unwrap_or_default();
        match (kind, file) {
            ("Localhost", None) => {
                faults.required(place, &format!("must be set when {what} type is Localhost"));
            }
            ("Localhost", Some(_)) if what == "seccomp" => {
                if text.starts_with('/') {
                    faults.invalid(place.as_str(), &json!(text), "must be a relative path");
                }
                volume_sources::without_climbing(text, &place, faults);
            }
            ("Localhost", Some(_)) | (_, None) => {}
            (_, Some(_)) => {
                let shown = json!({"Type": kind, "LocalhostProfile": text});
                faults.invalid(place, &shown, &format!("can only be set when {what} type is Localhost"));
            }
        }
    }
}
