//! `knarr` where its data directory lies on an overlay, as it does in a container without a volume: the kernel refuses
//! to put another overlay there.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::image_lab::ImageLab;
use knarr_tests::skip::skip;
use std::path::Path;
use std::process::Command;

/// Mounts and commands go with their mount namespace; `K` is knarr, on the overlay.
const SETUP: &str = r#"
set -e
mkdir overlay overlay/l overlay/u overlay/w overlay/o
mount -t overlay over -o lowerdir=overlay/l,upperdir=overlay/u,workdir=overlay/w overlay/o
cd overlay/o
K() { "$KNARR" --config ../../config.toml --data-dir "$PWD/data" --state-dir "$PWD/state" "$@"; }
R() { K run --network none "$@"; }
trap 'K down' EXIT
K image import ../../base base:1 >/dev/null
"#;

fn there(name: &str, script: &str, path: &str) -> bins::Said {
    let lab = ImageLab::new();
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["-m", "--propagation", "private", "/bin/sh", "-c", &format!("{SETUP}{script}")]);
    command.current_dir(lab.path("")).env("KNARR", bins::find("knarr")).env("PATH", path);
    command.env("C", format!("{name}-{}", std::process::id()));
    bins::run(&mut command)
}

#[test]
fn containers_and_builds_on_an_overlay() {
    if !Path::new("/usr/bin/fuse-overlayfs").exists() || !Path::new("/dev/fuse").exists() {
        return skip("containers_and_builds_on_an_overlay", "no fuse-overlayfs");
    }
    let said = there(
        "over",
        "R --name $C base:1 sh -c 'echo new > /n; rm /bin/cat; mkdir /d; echo old > /etc/group'\n\
         K diff $C | grep -E 'bin|/n|/d$|etc'\n\
         K commit $C made:1 >/dev/null\n\
         R --rm made:1 sh -c 'echo /bin/ca*; read a < /n; read b < /etc/group; echo $a $b'\n\
         printf 'FROM made:1\\nRUN rm /n && echo built > /b\\n' | K image build -q -t b:1 - >/dev/null\n\
         R --rm b:1 ls /n /b 2>/dev/null || echo gone\n\
         grep -c fuse-overlayfs /proc/mounts\n",
        "/usr/sbin:/usr/bin:/sbin:/bin",
    );
    let expected = "C /bin\nD /bin/cat\nA /d\nC /etc\nC /etc/group\nA /n\n/bin/ca*\nnew old\n\
                    /b\ngone\n1\n";
    assert_eq!(said.ok(), expected);
}

#[test]
fn without_fuse_overlayfs_each_container_has_a_copy() {
    // Where `ip`, `nft` and `mount` are, and fuse-overlayfs is not.
    let programs = tempfile::tempdir().unwrap();
    for name in ["mkdir", "mount", "grep", "ip", "nft", "umount"] {
        let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"]
            .iter()
            .map(|directory| Path::new(directory).join(name));
        let found = found.into_iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(found, programs.path().join(name)).unwrap();
    }
    let said = there(
        "copied",
        "R --name $C base:1 sh -c 'echo new > /n; cat /n'\n\
         R --rm base:1 ls /n 2>&1 || echo other\n\
         K diff $C 2>&1 || true\n\
         grep -c fuse-overlayfs /proc/mounts || true\n",
        programs.path().to_str().unwrap(),
    );
    let expected = "new\nls: /n: No such file or directory\nother\n\
                    knarr: telling what a container wrote, without overlayfs: not supported yet\n0\n";
    assert_eq!(said.ok(), expected);
}
