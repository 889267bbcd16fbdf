//! The program of a container or of an `exec`: as whom it runs, with which rights, and what it is given.

use crate::capabilities;
use crate::error::{Error, Result};
use crate::rlimits::{self, Limit};
use crate::scheduling::cpu_list;
use crate::security_label::SecurityLabel;
use crate::spec::Process;
use serde::Serialize;
use std::ffi::CString;
use std::path::PathBuf;

pub(crate) use crate::capabilities::Capabilities;

/// The ids to become.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct UserPlan {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// The program, decided.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct ProcessPlan {
    pub(crate) args: Vec<CString>,
    pub(crate) env: Vec<CString>,
    pub(crate) cwd: PathBuf,
    pub(crate) user: UserPlan,
    pub(crate) capabilities: Capabilities,
    pub(crate) rlimits: Vec<Limit>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) labels: Vec<SecurityLabel>,
    /// CPUs of an exec until it is in the container's cgroup.
    pub(crate) first_cpus: Vec<usize>,
    /// CPUs of an exec from then on.
    pub(crate) cpus: Vec<usize>,
    pub(crate) umask: u32,
    pub(crate) terminal: bool,
    /// Descriptors from 3 on that stay open.
    pub(crate) preserve_fds: u32,
}

impl ProcessPlan {
    /// Decides; a container that is only created to be executed into later may have no process.
    pub(crate) fn new(
        process: Option<&Process>,
        preserve_fds: u32,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let Some(process) = process else { return Err(Error::invalid("process: must be specified")) };
        if process.args.is_empty() {
            return Err(Error::invalid("process.args: must not be empty"));
        }
        if !process.cwd.starts_with('/') {
            return Err(Error::invalid("process.cwd: Cwd must be an absolute path"));
        }
        let (first_cpus, cpus) = affinity(process)?;
        if let Some(bad) = process.oom_score_adj.filter(|value| !(-1000..=1000).contains(value)) {
            return Err(Error::invalid(format!("process.oomScoreAdj: {bad} is not between -1000 and 1000")));
        }
        let user = &process.user;
        Ok(ProcessPlan {
            args: strings("args", &process.args)?,
            env: environment(&process.env)?,
            cwd: crate::safe_path::clean(&process.cwd),
            user: UserPlan { uid: user.uid, gid: user.gid, groups: user.additional_gids.clone() },
            capabilities: capabilities::plan(process.capabilities.as_ref(), warnings),
            rlimits: rlimits::plan(&process.rlimits)?,
            oom_score_adj: process.oom_score_adj,
            labels: labels(process),
            first_cpus,
            cpus,
            umask: user.umask.unwrap_or(0o022) & 0o777,
            terminal: process.terminal,
            preserve_fds,
        })
    }
}

/// The labels to ask for.
fn labels(process: &Process) -> Vec<SecurityLabel> {
    let profile = Some(&process.apparmor_profile).filter(|name| !name.is_empty() && *name != "unconfined");
    let label = Some(&process.selinux_label).filter(|label| !label.is_empty());
    profile
        .map(|name| SecurityLabel::AppArmor(name.clone()))
        .into_iter()
        .chain(label.map(|label| SecurityLabel::SeLinux(label.clone())))
        .collect()
}

/// CPUs before and after the container's cgroup is entered; empty where nothing is asked for.
fn affinity(process: &Process) -> Result<(Vec<usize>, Vec<usize>)> {
    let given = process.exec_cpu_affinity.clone().unwrap_or_default();
    Ok((
        cpu_list("process.execCPUAffinity.initial", &given.initial)?,
        cpu_list("process.execCPUAffinity.final", &given.last)?,
    ))
}

fn strings(field: &str, list: &[String]) -> Result<Vec<CString>> {
    let convert = |(index, text): (usize, &String)| {
        CString::new(text.as_str())
            .map_err(|_| Error::invalid(format!("process.{field}[{index}]: contains a null byte")))
    };
    list.iter().enumerate().map(convert).collect()
}

/// Of a variable that is given twice, the last value counts.
fn environment(list: &[String]) -> Result<Vec<CString>> {
    let mut unique: Vec<&String> = Vec::with_capacity(list.len());
    for (index, variable) in list.iter().enumerate() {
        let Some((name, _)) = variable.split_once('=') else {
            return Err(Error::invalid(format!("process.env[{index}]: {variable:?} is not NAME=value")));
        };
        if name.is_empty() {
            return Err(Error::invalid(format!("process.env[{index}]: the name is empty")));
        }
        unique.retain(|other| other.split_once('=').map(|(name, _)| name) != Some(name));
        unique.push(variable);
    }
    let owned: Vec<String> = unique.into_iter().cloned().collect();
    strings("env", &owned)
}
