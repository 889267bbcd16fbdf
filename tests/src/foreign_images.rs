//! The images that Kubernetes' own CRI suite asks for, made from busybox, in a registry that stands in for the public
//! ones by the engine's mirror settings.

use crate::bins;
use crate::engine::Engine;
use crate::registry::Registry;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const STAGING: &str = "k8s-staging-cri-tools";
const E2E: &str = "e2e-test-images";

/// A web server that looks like nginx from outside: its name, its command line, its pid file, its answer.
const NGINX: &str = "#!/bin/sh\necho $$ >/var/run/nginx.pid\nhttpd -f -p ${2:-80} -h /www &\nwait\n";
/// One that says something, as others log.
const HTTPD: &str = "#!/bin/sh\necho httpd: resuming normal operations\nhttpd -f -p 80 -h /www &\nwait\n";
/// Ids of processes with this name.
const PGREP: &str = "#!/bin/sh\nfor p in /proc/[0-9]*; do\n  read -r name 2>/dev/null <$p/comm || continue\n  \
                     [ \"$name\" != \"$1\" ] || { echo ${p#/proc/}; found=1; }\ndone\n[ -n \"$found\" ]\n";
const EFFECTIVE: &str =
    "#include <stdio.h>\n#include <unistd.h>\nint main() { printf(\"Effective uid: %d\\n\", geteuid()); }\n";

/// Fills a registry, and has the engine ask it instead of the public ones.
///
/// # Panics
/// When anything fails.
pub fn serve(engine: &Engine) -> Registry {
    let registry = Registry::open(&engine.path("registry"));
    for host in ["gcr.io", "registry.k8s.io", "k8s.gcr.io"] {
        let directory = engine.path("hosts.d").join(host);
        std::fs::create_dir_all(&directory).expect("mkdir");
        let mirror = format!("server = \"http://127.0.0.1:{}\"\n", registry.port);
        std::fs::write(directory.join("hosts.toml"), mirror).expect("hosts.toml");
    }
    let push = |name: &str, options: &[&str]| {
        let name = format!("127.0.0.1:{}/{name}", registry.port);
        engine.import("busybox", &name, &[options, &["--push"]].concat());
        bins::run(engine.knarr().args(["image", "rm", &name])).ok();
    };
    let staging = |name: &str, options: &[&str]| push(&format!("{STAGING}/{name}"), options);
    add_programs(&engine.path("busybox"));
    for (name, user) in [
        ("test-image-user-uid", "1002"),
        ("test-image-user-username", "www-data"),
        ("test-image-user-uid-group", "1003:users"),
        ("test-image-user-username-group", "www-data:100"),
        ("test-image-predefined-group", "1000"),
    ] {
        staging(name, &["--user", user]);
    }
    for name in ["test-image-latest", "test-image-tag:test", "test-image-tag:all"] {
        staging(name, &["--label", &format!("name={name}")]);
    }
    for number in ["1", "2", "3"] {
        staging(&format!("test-image-{number}"), &["--label", &format!("number={number}")]);
        staging(&format!("test-image-tags:{number}"), &["--label", "same=true"]);
    }
    push("pause:3.9", &["--cmd", "[\"sleep\", \"100000\"]"]);
    push(&format!("{E2E}/busybox:1.29-2"), &["--cmd", "[\"sh\"]"]);
    let nginx = |port: &str| format!("[\"/usr/sbin/nginx\", \"master process\", \"{port}\"]");
    push(&format!("{E2E}/nginx:1.14-2"), &["--cmd", &nginx("80")]);
    staging("hostnet-nginx-amd64", &["--cmd", &nginx("12003")]);
    push(&format!("{E2E}/httpd:2.4.39-4"), &["--cmd", "[\"/usr/sbin/httpd-logs\"]"]);
    push(&format!("{E2E}/nonewprivs:1.3"), &["--cmd", "[\"/usr/sbin/effective\"]"]);
    registry
}

/// Programs and users that busybox alone has not.
fn add_programs(root: &Path) {
    for directory in ["usr/sbin", "var/run", "www"] {
        std::fs::create_dir_all(root.join(directory)).expect("mkdir");
    }
    let script = |path: &str, text: &str| {
        let file = root.join(path);
        std::fs::write(&file, text).expect("a script");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("chmod");
    };
    script("usr/sbin/nginx", NGINX);
    script("usr/sbin/httpd-logs", HTTPD);
    script("bin/pgrep", PGREP);
    script("bin/ipcs", "#!/bin/sh\ncat /proc/sysvipc/shm\n");
    std::fs::write(root.join("www/index.html"), "welcome\n").expect("a page");
    let source = root.join("usr/sbin/effective.c");
    std::fs::write(&source, EFFECTIVE).expect("a source");
    let program = root.join("usr/sbin/effective");
    bins::run(Command::new("gcc").arg("-static").arg("-o").arg(&program).arg(&source)).ok();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o4755)).expect("chmod");
    let passwd = "root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000:u:/tmp:/bin/sh\n\
                  www-data:x:33:33:w:/tmp:/bin/sh\nnobody:x:65534:65534:n:/:/bin/sh\n";
    std::fs::write(root.join("etc/passwd"), passwd).expect("passwd");
    let group = "root:x:0:\nwww-data:x:33:\nusers:x:100:\ndefault-user:x:1000:\n\
                 group-defined-in-image:x:50000:default-user\n";
    std::fs::write(root.join("etc/group"), group).expect("group");
}
