//! What `--help` prints: the commands, their flags, and a line on each.
//!
//! The lines are one text, found by a flag's name: a table of them would hold a pointer for each, which every start of a
//! position-independent program writes anew, and help is rarely asked for. A flag means the same wherever it is taken;
//! where it does not, its line begins with the command's name too. A test keeps flags and lines together.

use super::arguments::Flag;
use super::{COMMANDS, Command, GLOBAL, NAME};

/// The whole program's.
pub(super) fn program() -> String {
    let width = COMMANDS.iter().map(|command| command.name.len()).max().unwrap_or_default();
    let commands: String = COMMANDS
        .iter()
        .map(|command| format!("   {:<width$}  {}\n", command.name, command.summary))
        .collect();
    format!(
        "NAME:\n   {NAME} - Open Container Initiative runtime\n\n\
         USAGE:\n   {NAME} [global options] command [command options] [arguments...]\n\n\
         VERSION:\n   {}\n\nCOMMANDS:\n{commands}\nGLOBAL OPTIONS:\n{}",
        env!("CARGO_PKG_VERSION"),
        options("", GLOBAL),
    )
}

/// One command's.
pub(super) fn command(command: &Command) -> String {
    let name = command.name;
    format!(
        "NAME:\n   {NAME} {name} - {}\n\nUSAGE:\n   {NAME} {name} [options]{}\n\nOPTIONS:\n{}\nGLOBAL OPTIONS:\n{}",
        command.summary,
        arguments(command),
        options(name, command.flags),
        options("", GLOBAL),
    )
}

/// What a command takes beside its flags, with a space before it.
fn arguments(command: &Command) -> &'static str {
    match command.name {
        "exec" => " <container-id> <command> [command options]  || --process process.json <container-id>",
        "kill" => " <container-id> [signal]",
        "mounts" => " add|remove <container-id> <mounts.json>",
        "ps" => " <container-id> [ps options]",
        "plan" => " [container-id]",
        _ if command.count.1 == 0 => "",
        _ => " <container-id>",
    }
}

/// Flags in a column, what they mean in the next one; `--help` is every command's.
fn options(command: &str, flags: &[Flag]) -> String {
    let help = Flag::switch("help", Some('h'));
    let own = flags.iter().any(|flag| flag.name() == "help");
    let shown: Vec<_> = flags
        .iter()
        .chain((!own).then_some(&help))
        .map(|flag| (flag.written(), meaning(command, flag.name())))
        .collect();
    let width = shown.iter().map(|(written, _)| written.len()).max().unwrap_or_default();
    shown.iter().map(|(written, meaning)| format!("   {written:<width$}  {meaning}\n")).collect()
}

/// The line of a flag: the command's own, else the one for all.
fn meaning(command: &str, flag: &str) -> &'static str {
    let line = |key: &str| MEANINGS.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
    line(&format!("{command} {flag}")).or_else(|| line(flag)).unwrap_or_default()
}

const MEANINGS: &str = "\
additional-gids: a supplementary group of the process (may be given several times)
apparmor: AppArmor profile of the process
auto-dedup: let criu drop pages of older images that newer ones replace
blkio-weight: weight of block IO, 10 to 1000
bundle: directory of config.json and the root file system (default: the current directory)
cap: a capability that the process gets beside its own (may be given several times)
cgroup: run the process in this existing cgroup below the container's, [controller:]path (may be given several times)
console-socket: AF_UNIX socket that is sent the master end of the container's pseudoterminal
cpu-burst: time above the quota that may be saved up, in microseconds
cpu-idle: 1: run only when the processor is idle (SCHED_IDLE), 0: as usual
cpu-period: period of the quota, in microseconds; 0: the kernel's default
cpu-quota: processor time in each period, in microseconds
cpu-rt-period: period of real-time scheduling, in microseconds; 0: the kernel's default
cpu-rt-runtime: time of real-time scheduling in each period, in microseconds
cpu-share: share of processor time in relation to other cgroups
cpuset-cpus: processors that may be used, such as 0-2,7
cpuset-mems: memory nodes that may be used, such as 0-1
criu: path of criu (default: the one on PATH)
cwd: working directory in the container
debug: log every operation that builds the container
detach: return once the process runs
empty-ns: make this namespace, do not restore its content: network
env: a variable of the environment, NAME=VALUE (may be given several times)
ext-unix-sk: allow UNIX sockets whose other end is outside
file-locks: save and restore file locks
force: kill the container first if it still runs (SIGKILL)
all: send the signal to every process of the container
format: table or json (default: table)
plan format: text or json (default: text)
help: show help
ignore-paused: allow it in a paused container, where it begins when that is resumed
image-path: directory of criu's images
interval: time between two statistics (default: 5s)
keep: do not delete the container when it has ended
kernel-memory: limit of the kernel's memory, in bytes; not used by kernels any more
kernel-memory-tcp: limit of the memory of TCP buffers, in bytes (cgroup version 1)
l3-cache-schema: schema of Intel RDT's L3 cache allocation
lazy-pages: restore memory when it is used (userfaultfd)
leave-running: leave the container running after its checkpoint
link-remap: link unlinked files back where that is possible
log: file that messages are written to (default: standard error)
log-format: text or json (default: text)
lsm-mount-context: SELinux context of the mounts that are restored
lsm-profile: security profile of the processes that are restored, TYPE:NAME
manage-cgroups-mode: how criu restores cgroups: soft, full, strict or ignore (default: soft)
mem-bw-schema: schema of Intel RDT's memory bandwidth allocation
memory: limit of memory, in bytes
memory-reservation: memory that is kept under pressure, in bytes
memory-swap: limit of memory and swap together, in bytes; -1: none
no-new-keyring: stay in the caller's session keyring
no-new-privs: the process gains no privileges by execve
no-pivot: change the root by MS_MOVE and chroot, for roots on a ramdisk; weaker than pivot_root
no-subreaper: do not become the reaper of the container's orphans
page-server: ADDRESS:PORT of criu's page server
parent-path: images of the dump before this one, relative to the image path
pid-file: file that the process id is written to
pidfd-socket: AF_UNIX socket that is sent a pidfd of the process
pids-limit: number of processes and threads; -1: no limit
pre-dump: dump memory only, and leave the container running
preserve-fds: number of further file descriptors that are handed on, from 3 (after those of LISTEN_FDS)
process: process.json with the process to run
process-label: SELinux label of the process
quiet: print ids only
resources: JSON file with the runtime specification's resources, - for standard input; other options are ignored then
root: directory of the containers' state (default: /run/knarr-runtime)
rootless: ignore cgroups that may not be written: true, false or auto (default: auto)
spec rootless: write a configuration for an ordinary user
shell-job: allow a session that began outside of the container
stats: print the statistics once, and end
status-fd: descriptor that criu writes a zero byte to once its page server is ready
systemd-cgroup: have systemd make the cgroup; cgroupsPath is slice:prefix:name
tcp-established: save and restore open TCP connections
tcp-skip-in-flight: leave TCP connections out that are being made
timeline: file that gets the time of each step, as a Chrome trace
tty: give the process a pseudoterminal
user: user and group of the process, uid[:gid]
version: print the version
work-path: directory of criu's logs and other working files
";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_flag_has_its_line_and_every_line_its_flag() {
        let mut used = BTreeSet::new();
        let commands = COMMANDS.iter().map(|command| (command.name, command.flags));
        for (command, flags) in commands.chain([("", GLOBAL)]) {
            for flag in flags.iter().map(Flag::name) {
                assert!(!meaning(command, flag).is_empty(), "{command} --{flag}");
                used.extend([flag.to_string(), format!("{command} {flag}")]);
            }
        }
        for line in MEANINGS.lines() {
            let (flag, _) = line.split_once(": ").unwrap();
            assert!(used.contains(flag), "no command takes {flag}");
        }
    }

    #[test]
    fn a_command_says_what_it_takes() {
        let run = COMMANDS.iter().find(|command| command.name == "run").unwrap();
        let text = command(run);
        assert!(text.contains("   knarr-runtime run [options] <container-id>\n"), "{text}");
        assert!(text.contains("   --bundle string, -b string  directory of config.json"), "{text}");
        assert!(text.contains("\n   --help, -h                  show help\n\nGLOBAL OPTIONS:\n"), "{text}");
    }
}
