//! `process`: the command, its environment, directory and privileges.

use super::{Input, capabilities};
use knarr_cri::Status;
use knarr_runtime::spec::{Process, User};

/// What a shell expects when the image says nothing.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn build(input: &Input<'_>) -> Result<Process, Status> {
    let security = input.security();
    Ok(Process {
        terminal: input.config.tty,
        user: User {
            uid: input.user.uid,
            gid: input.user.gid,
            additional_gids: input.user.groups.clone(),
            ..User::default()
        },
        args: args(input)?,
        env: env(input),
        cwd: working_dir(input)?,
        capabilities: Some(capabilities::build(input)?),
        no_new_privileges: security.no_new_privs && !security.privileged,
        apparmor_profile: super::security::apparmor(input)?,
        oom_score_adj: input.config.linux.as_ref().and_then(|linux| linux.resources.as_ref()).map(
            |resources| input.host.allowed_oom_score_adj(resources.oom_score_adj.clamp(-1000, 1000) as i32),
        ),
        ..Process::default()
    })
}

/// A command replaces the image's entrypoint and its arguments; arguments alone replace only the image's arguments.
fn args(input: &Input<'_>) -> Result<Vec<String>, Status> {
    let (mut command, mut args) = (input.config.command.clone(), input.config.args.clone());
    if command.is_empty() {
        if args.is_empty() {
            args = input.image.cmd.clone();
        }
        command = input.image.entrypoint.clone();
    }
    command.extend(args);
    if command.first().is_none_or(String::is_empty) {
        return Err(Status::invalid_argument("no command specified"));
    }
    Ok(command)
}

/// The image's variables, then the pod's host name, then CRI's; a later value replaces an earlier one in place.
fn env(input: &Input<'_>) -> Vec<String> {
    let mut env = vec![DEFAULT_PATH.to_owned()];
    input.image.env.iter().for_each(|variable| set(&mut env, variable.clone()));
    if input.config.tty {
        set(&mut env, "TERM=xterm".into());
    }
    set(&mut env, format!("HOSTNAME={}", input.hostname));
    for variable in &input.config.envs {
        set(&mut env, format!("{}={}", variable.key, String::from_utf8_lossy(&variable.value)));
    }
    env
}

fn set(env: &mut Vec<String>, variable: String) {
    let key = variable.split('=').next().unwrap_or_default();
    match env.iter_mut().find(|known| known.split('=').next() == Some(key)) {
        Some(known) => *known = variable,
        None => env.push(variable),
    }
}

fn working_dir(input: &Input<'_>) -> Result<String, Status> {
    let candidates = [&input.config.working_dir, &input.image.working_dir];
    let cwd = candidates.into_iter().find(|dir| !dir.is_empty()).cloned().unwrap_or_else(|| "/".into());
    if !cwd.starts_with('/') {
        return Err(Status::invalid_argument(format!("working_dir {cwd:?} is not an absolute path")));
    }
    Ok(cwd)
}
