//! An unmodified Docker Engine drives runc and ours (`--add-runtime`) through its client: what is printed must be equal.

use knarr_tests::caller;
use knarr_tests::skip::skip;
use std::path::{Path, PathBuf};

/// An engine of its own without a network; `D` is its client, `RUN` starts a container.
const SETUP: &str = r#"
mount -t tmpfs run /run
echo '{}' >daemon.json
dockerd --config-file $DIR/daemon.json --data-root $DIR/data --exec-root $DIR/exec --pidfile $DIR/pid -H unix://$DIR/sock --bridge none \
    --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false --storage-driver vfs --exec-opt native.cgroupdriver=cgroupfs \
    --cgroup-parent $CGROUP --default-ulimit nofile=1024:1024 --default-ulimit nproc=4096:4096 --add-runtime tested=$RUNTIME >log 2>&1 &
SERVER=$!
export DOCKER_CONFIG=$DIR/docker
D() { docker -H unix://$DIR/sock "$@"; }
for try in $(seq 600); do D version >/dev/null 2>&1 && break; sleep 0.1; done
tar -C rootfs -c . | D import - bb >/dev/null
RUN() { D run --network none --runtime tested "$@"; }
"#;

const END: &str = "D rm -f $(D ps -aq); kill $SERVER; wait $SERVER; \
    find /sys/fs/cgroup -depth -type d -path \"*$CGROUP/*\" -exec rmdir {} +; umount -R data exec";

/// Where the engine is: unpacked beside the system, or installed.
fn engine() -> Option<PathBuf> {
    let unpacked = std::env::var_os("KNARR_DOCKER").map(PathBuf::from);
    unpacked.into_iter().chain([PathBuf::from("/")]).find(|root| root.join("usr/sbin/dockerd").exists())
}

fn same(test: &str, script: &str) {
    let Some(root) = engine() else {
        return skip(test, "no Docker Engine (make test unpacks one; see scripts/unpack-beside)");
    };
    let path = |root: &Path| format!("export PATH={0}/usr/bin:{0}/usr/sbin:$PATH\n", root.display());
    let setup = path(&root) + SETUP;
    caller::same(&setup, script, END);
}

#[test]
fn a_container_lives_its_life() {
    same(
        "docker a_container_lives_its_life",
        r#"
        RUN -d --name aa bb sh -c 'trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done'
        until D logs aa | grep -q ready; do :; done
        D exec aa sh -c 'echo in; exit 3'; echo $?; D exec -e X=1 -w /tmp -u 5:6 aa sh -c 'echo $X; pwd; id'; echo foo | D exec -i aa cat
        D pause aa; D inspect aa -f '{{.State.Status}}'; D exec aa true; echo $?; D unpause aa
        D stats --no-stream --format '{{.Name}}' aa; D top aa -o pid,comm | head -1
        D update --memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 50 aa
        D exec aa sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null'
        D stop -t 20 aa; D inspect aa -f '{{.State.ExitCode}}'; D start aa; D restart -t 0 aa; D kill aa; D wait aa; D logs aa | head -1; D rm -f aa
        script -qec "docker -H unix://$DIR/sock run --rm -it --network none --runtime tested bb sh -c 'tty; stty size; exit 3'" /dev/null </dev/null; echo $?
        echo hello | RUN -i --rm bb cat
        RUN --name bb --memory 16m bb sh -c 'exec tail /dev/zero'; D inspect bb -f '{{.State.OOMKilled}} {{.State.ExitCode}}'
        echo end of the script"#,
    );
}

#[test]
fn options_builds_and_errors() {
    same(
        "docker options_builds_and_errors",
        r#"
        RUN --rm --memory 64m --cpus 0.5 --pids-limit 20 --cpuset-cpus 0 --cap-drop all --cap-add kill --read-only --tmpfs /t --device /dev/null:/dev/mine \
            --sysctl net.ipv4.ip_forward=1 --security-opt no-new-privileges --oom-score-adj 500 --hostname foo --shm-size 1m --ulimit core=0 bb sh -c '
            id; grep -E "Cap|Seccomp:|NoNew" /proc/self/status; cat /proc/self/oom_score_adj; hostname; stat -c %t:%T /dev/mine
            touch /x 2>&1; touch /t/x && echo ok; mount | grep -v -e "^/dev" -e "devtmpfs" -e "/proc/" -e /sys/ | cut -d" " -f3,5,6 | sort'
        RUN --rm --pid host --ipc host --uts host bb sh -c 'test -d /proc/2 && echo sees all'
        mkdir v; RUN --rm -v $DIR/v:/v:ro --mount type=tmpfs,dst=/tt,tmpfs-mode=0700 bb sh -c 'touch /v/x 2>&1; stat -c %a /tt'
        printf 'FROM bb\nRUN echo hi >/f && id\nCMD ["cat","/f"]\n' | DOCKER_BUILDKIT=0 D build --network none -q -t built - >/dev/null; RUN --rm built
        for program in nope /etc /etc/passwd /nope; do RUN --rm bb $program; echo $?; done 2>&1 | grep -v 'error waiting for container'
        RUN -d --name aa bb sleep 100; for program in nope /etc/passwd; do D exec aa $program; echo $?; done
        echo end of the script"#,
    );
}
