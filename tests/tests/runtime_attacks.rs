//! Escapes that need a moment or an accomplice: races against the runtime, processes that wait inside for the next
//! `exec`, images that prepare a place for us to step into. `docs/security.md` has a row for each.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used, clippy::panic)]

use knarr_tests::bins;
use knarr_tests::bundle::Bundle;
use knarr_tests::effort::effort;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

fn mounts(bundle: &mut Bundle) -> &mut Vec<Value> {
    bundle.config["mounts"].as_array_mut().unwrap()
}

/// Every capability there is, as a `--privileged` container has them.
fn all_capabilities(bundle: &mut Bundle) {
    let names = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP SYS_ADMIN SYS_CHROOT \
                 SYS_PTRACE MKNOD SETFCAP";
    let names: Vec<String> = names.split_whitespace().map(|name| format!("CAP_{name}")).collect();
    bundle.config["process"]["capabilities"] =
        json!({"bounding": names, "effective": names, "permitted": names});
}

/// Runs a command of the runtime with descriptor 7 open on the host's root, which a careless caller forgot.
fn with_leaked_root(bundle: &Bundle, args: &[&str]) -> bins::Said {
    let inner = bundle.command(args);
    let mut outer = Command::new("/bin/busybox");
    outer.args(["sh", "-c", "exec 7</; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
    bins::run(&mut outer)
}

/// CVE-2019-5736: the container has the kernel run the runtime inside, keeps a descriptor of its file, and writes to it
/// once nobody executes it any more.
#[test]
fn a_descriptor_of_the_running_runtime_cannot_be_written_to() {
    let runtime = bins::find("knarr-runtime");
    let before = std::fs::read(&runtime).unwrap();
    // The runtime, run inside, stays alive because its bundle's config.json is a pipe that nobody writes to.
    let script = "mkdir /b; mkfifo /b/config.json; sleep 1000";
    let mut bundle = Bundle::shell(script);
    symlink("busybox", bundle.rootfs().join("bin/mkfifo")).unwrap();
    symlink("busybox", bundle.rootfs().join("bin/kill")).unwrap();
    all_capabilities(&mut bundle);
    bundle.start();
    let inside = ["/proc/self/exe", "run", "--bundle", "/b", "x"];
    let pid_file = bundle.path().join("pid");
    bundle.call_with("exec", &["--detach", "--pid-file", pid_file.to_str().unwrap()], &inside).ok();
    let attack = "for p in /proc/[0-9]*; do
            case $(tr '\\0' ' ' <$p/cmdline) in /proc/self/exe*) victim=${p#/proc/};; esac
        done
        exec 9</proc/$victim/exe
        stat -L -c %s /proc/self/fd/9
        kill -9 $victim
        while [ -e /proc/$victim/exe ] && readlink /proc/$victim/exe >/dev/null; do :; done
        mount -o remount,rw /proc/self/fd/9 2>/dev/null && echo remounted
        dd if=/dev/zero of=/proc/self/fd/9 bs=1 count=1 conv=notrunc 2>/dev/null && echo written
        true";
    symlink("busybox", bundle.rootfs().join("bin/tr")).unwrap();
    let out = bundle.call_with("exec", &[], &["sh", "-c", attack]).ok();
    // The attack got as far as it can: the descriptor was of the runtime's own file.
    assert_eq!(out, format!("{}\n", before.len()));
    assert_eq!(std::fs::read(&runtime).unwrap(), before);
}

/// CVE-2016-9962: a process inside waits for the runtime to come in, to look through its `/proc` entry at the host.
#[test]
fn a_process_inside_cannot_look_into_an_exec_that_is_being_made() {
    let spy = "while :; do for p in /proc/[0-9]*; do
            case $p in /proc/1|/proc/$$) continue;; esac
            for link in root cwd exe fd/3 fd/4 fd/5 fd/6 fd/7 fd/8; do readlink $p/$link >>/seen 2>/dev/null; done
        done; done";
    let bundle = Bundle::shell(spy);
    bundle.start();
    for _ in 0..effort(40) {
        bundle.call_with("exec", &[], &["true"]).ok();
    }
    let seen = std::fs::read_to_string(bundle.rootfs().join("seen")).unwrap_or_default();
    // What it may see is what runs in the container by then: busybox, in the container's root.
    let foreign: Vec<&str> =
        seen.lines().filter(|line| !["/", "/bin/busybox", "/seen", "/dev/null"].contains(line)).collect();
    assert_eq!(foreign, Vec::<&str>::new());
}

/// CVE-2021-30465, CVE-2024-45310: on a shared volume, a directory on the way to a mount is swapped for a link to the
/// host's root and back, as fast as the machine can.
#[test]
fn a_directory_swapped_for_a_link_while_mounts_are_made() {
    let mut bundle = Bundle::shell("true");
    let volume = bundle.path().join("volume");
    let mark = format!("knarr-race-{}", std::process::id());
    std::fs::create_dir_all(volume.join("real")).unwrap();
    symlink("/", volume.join("link")).unwrap();
    mounts(&mut bundle).extend([
        json!({"destination": "/vol", "type": "bind", "source": volume, "options": ["rbind"]}),
        json!({"destination": format!("/vol/real/{mark}/deep"), "type": "tmpfs", "source": "t"}),
        json!({"destination": format!("/vol/real/{mark}-file"), "type": "bind", "source": "/bin/busybox", "options": ["bind"]}),
    ]);
    let stop = AtomicBool::new(false);
    let (mut good, mut swaps) = (0, 0_u64);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let (real, link) = (volume.join("real"), volume.join("link"));
            let mut swaps = 0;
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        for _ in 0..effort(40) {
            good += i32::from(bundle.run().code == 0);
        }
        stop.store(true, Ordering::Relaxed);
        swaps = swapper.join().unwrap();
    });
    assert!(swaps > 1000, "{swaps} swaps are no race");
    assert!(good > 0, "not one container could be started");
    for escaped in [format!("/{mark}"), format!("/{mark}-file")] {
        assert!(!Path::new(&escaped).exists(), "{escaped} was made on the host");
    }
}

/// CVE-2019-16884, CVE-2019-19921: a volume in the place of `/proc`, or over a part of it.
#[test]
fn what_only_looks_like_proc_is_refused() {
    let fake = |destination: &str, why: &str| {
        let mut bundle = Bundle::shell("true");
        let volume = bundle.path().join("volume");
        std::fs::create_dir_all(volume.join("self/attr")).unwrap();
        symlink("/proc/sys", bundle.rootfs().join("crooked")).unwrap();
        mounts(&mut bundle).push(
            json!({"destination": destination, "type": "bind", "source": volume, "options": ["rbind"]}),
        );
        let said = bundle.run().failed();
        assert!(said.contains(why), "{destination}: {said}");
        bundle.assert_gone();
    };
    fake("/proc", "cannot be mounted because it is not of type proc");
    fake("/proc/self/attr", "");
    fake("/proc/sys", "cannot be mounted because it is inside /proc");
    fake("/tmp/../proc/sys/kernel", "cannot be mounted because it is inside /proc");
    fake("/crooked", "cannot be mounted because it is inside /proc");
}

/// What lxcfs does, and a container that shares the host's `/proc`.
#[test]
fn honest_mounts_on_proc_are_allowed() {
    let mut bundle = Bundle::shell("cat /proc/uptime");
    let uptime = bundle.path().join("uptime");
    std::fs::write(&uptime, "emulated\n").unwrap();
    mounts(&mut bundle)
        .push(json!({"destination": "/proc/uptime", "type": "bind", "source": uptime, "options": ["bind"]}));
    assert_eq!(bundle.run().ok(), "emulated\n");
    let mut bundle = Bundle::shell("cat /proc/sys/kernel/ostype");
    bundle.config["mounts"][0] =
        json!({"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]});
    assert_eq!(bundle.run().ok(), "Linux\n");
}

/// CVE-2025-52881: files of the image in the places of kernel parameters.
#[test]
fn sysctls_are_not_written_to_files_of_the_image() {
    let mut bundle = Bundle::shell("cat /proc/sys/net/ipv4/ip_forward");
    mounts(&mut bundle).retain(|mount| mount["destination"] != "/proc");
    bundle.config["linux"]["maskedPaths"] = json!([]);
    bundle.config["linux"]["readonlyPaths"] = json!([]);
    bundle.config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
    let directory = bundle.rootfs().join("proc/sys/net/ipv4");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("ip_forward"), "untouched\n").unwrap();
    assert_eq!(bundle.run().ok(), "untouched\n");
}

/// CVE-2025-52881, CVE-2023-28642: kernel parameters of the host, or a way out of `/proc/sys`.
#[test]
fn sysctls_of_the_host_and_crooked_names_are_refused() {
    for name in
        ["kernel.core_pattern", "vm.overcommit_memory", "net/../kernel/core_pattern", "net...kernel.hostname"]
    {
        let mut bundle = Bundle::shell("true");
        bundle.config["linux"]["sysctl"] = json!({name: "1"});
        bundle.run().failed();
        bundle.assert_gone();
    }
}

/// CVE-2025-52565: `/dev/console` is a link, so the terminal would cover, or uncover, something else.
#[test]
fn a_console_that_is_a_link() {
    let mut bundle = Bundle::shell("cat /etc/passwd");
    mounts(&mut bundle).retain(|mount| mount["destination"] != "/dev");
    std::fs::create_dir_all(bundle.rootfs().join("dev/pts")).unwrap();
    symlink("/etc/passwd", bundle.rootfs().join("dev/console")).unwrap();
    bundle.config["process"]["terminal"] = json!(true);
    let said = bundle.run().failed();
    assert!(said.contains("/dev/console is a symbolic link"), "{said}");
    bundle.assert_gone();
}

/// CVE-2025-52565: a file of the image where the pty multiplexer should be.
#[test]
fn a_pty_multiplexer_that_is_none() {
    let mut bundle = Bundle::shell("true");
    mounts(&mut bundle).retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    std::fs::create_dir_all(bundle.rootfs().join("dev/pts")).unwrap();
    std::fs::write(bundle.rootfs().join("dev/pts/ptmx"), "").unwrap();
    bundle.config["process"]["terminal"] = json!(true);
    let said = bundle.run().failed();
    assert!(said.contains("is not a pty multiplexer on devpts"), "{said}");
}

/// CVE-2026-41579, CVE-2026-47766: `/dev` of the image is a link into a volume, which would be populated.
#[test]
fn a_dev_that_is_a_link_into_a_volume() {
    let mut bundle = Bundle::shell("true");
    let volume = bundle.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let list = mounts(&mut bundle);
    list.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    list.push(json!({"destination": "/vol", "type": "bind", "source": volume, "options": ["rbind"]}));
    std::fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
    symlink("/vol", bundle.rootfs().join("dev")).unwrap();
    let said = bundle.run().failed();
    assert!(said.contains("/dev is not an ordinary directory"), "{said}");
    assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 0, "the volume was written to");
}

/// A bind mount whose source lies in the image, where it is a link to the host.
#[test]
fn a_mount_source_inside_the_root_that_is_a_link_to_the_host() {
    let mut bundle = Bundle::shell("cat /final/f");
    let secret = bundle.path().join("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("f"), "of the host\n").unwrap();
    let same = bundle.rootfs().join(secret.strip_prefix("/").unwrap());
    std::fs::create_dir_all(&same).unwrap();
    std::fs::write(same.join("f"), "of the image\n").unwrap();
    symlink(&secret, bundle.rootfs().join("mnt")).unwrap();
    for options in [json!(["bind"]), json!(["rbind", "ro"])] {
        let source = bundle.rootfs().join("mnt");
        let list = bundle.config["mounts"].as_array_mut().unwrap();
        list.retain(|mount| mount["destination"] != "/final");
        list.push(json!({"destination": "/final", "type": "bind", "source": source, "options": options}));
        assert_eq!(bundle.run().ok(), "of the image\n");
    }
}

/// CVE-2024-21626: the working directory of an `exec`, directly and through a link of the image, is a descriptor that
/// the runtime's caller left open on the host's root.
#[test]
fn an_exec_cannot_start_in_a_leaked_directory() {
    let bundle = Bundle::shell("sleep 1000");
    symlink("/proc/self/fd/7", bundle.rootfs().join("leak")).unwrap();
    bundle.start();
    for cwd in ["/proc/self/fd/7", "/proc/self/fd/7/", "/leak", "/leak/etc", "/proc/1/cwd/../../leak"] {
        let said = with_leaked_root(&bundle, &["exec", "--cwd", cwd, &bundle.id, "pwd"]);
        assert_ne!(said.code, 0, "{cwd}: {said:?}");
    }
}

/// CVE-2022-24769, CVE-2022-29162, CVE-2022-27650, CVE-2025-27612: inheritable capabilities of whoever called us.
#[test]
fn inheritable_capabilities_of_the_caller_end_here() {
    let bundle = Bundle::shell("grep -E 'Cap(Inh|Amb)' /proc/self/status");
    let path = bundle.path().to_str().unwrap().to_string();
    let inner = bundle.command(&["run", "--bundle", &path, &bundle.id]);
    let mut outer = Command::new("/bin/busybox");
    outer.args(["setpriv", "--inh-caps", "+chown,+kill", "--ambient-caps", "+chown,+kill"]);
    outer.arg(inner.get_program()).args(inner.get_args());
    assert_eq!(bins::run(&mut outer).ok(), "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n");
}

/// CVE-2023-25809: with a user namespace but without a cgroup namespace, the cgroups of others are in reach.
#[test]
fn a_container_sees_no_cgroup_but_its_own() {
    let mut bundle = Bundle::shell("grep ' - cgroup' /proc/self/mountinfo");
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    mounts(&mut bundle).push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}));
    let seen = bundle.run().ok();
    assert!(!seen.is_empty(), "it has no cgroup mounts");
    for line in seen.lines() {
        let root = line.split(' ').nth(3).unwrap();
        assert!(root.ends_with(&format!("/knarr-tests/{}", bundle.id)), "{line}");
    }
}

/// A path of cgroups that climbs out of its hierarchy, at creation and at `exec`.
#[test]
fn cgroup_paths_cannot_climb() {
    for path in ["/../../../tmp/escape", "../x", "/"] {
        let mut bundle = Bundle::shell("true");
        bundle.config["linux"]["cgroupsPath"] = json!(path);
        let said = bundle.run().failed();
        assert!(said.contains("linux.cgroupsPath"), "{path}: {said}");
    }
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let said = bundle.call_with("exec", &["--cgroup", "../../../.."], &["cat", "/proc/self/cgroup"]);
    let inside =
        |line: &str| line.ends_with(&format!("/knarr-tests/{}", bundle.id)) || line.starts_with("0::");
    assert!(said.code != 0 || said.out.lines().all(inside), "{said:?}");
}

/// CVE-2025-31133: the host's null device is bound over a masked file; nobody inside can turn it into another.
#[test]
fn masks_hold_against_root_inside() {
    let mut bundle = Bundle::shell(
        "echo x >/proc/keys; cat /proc/keys; ls /proc/acpi; echo x >/proc/sys/kernel/hostname || echo refused",
    );
    all_capabilities(&mut bundle);
    let said = bundle.run();
    assert!(said.out.ends_with("refused\n"), "{said:?}");
    assert_eq!(said.out.lines().count(), 1, "{said:?}");
}

/// A link inside the root to a directory of the host has nothing done to the host, whoever follows it.
#[test]
fn read_only_and_masked_paths_follow_links_only_inside() {
    let mut bundle = Bundle::shell("cat /outside/file");
    let outside = bundle.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "host\n").unwrap();
    symlink(&outside, bundle.rootfs().join("outside")).unwrap();
    bundle.config["linux"]["maskedPaths"] = json!(["/outside", "/outside/file"]);
    bundle.config["linux"]["readonlyPaths"] = json!(["/outside"]);
    assert_ne!(bundle.run().code, 0);
    let before = std::fs::metadata(outside.join("file")).unwrap();
    assert_eq!((before.len(), before.nlink()), (5, 1));
}
