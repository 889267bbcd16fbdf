//! An unmodified containerd and its shim drive runc and ours through `ctr`: what is printed must be equal.

use knarr_tests::caller;

/// A containerd of its own; `C` is its client, `RUN` starts a container from a directory.
const SETUP: &str = r#"
mount -t tmpfs run /run
cat >config.toml <<CONF
version = 2
root = "$DIR/root"
state = "$DIR/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing"]
[grpc]
  address = "$DIR/sock"
[ttrpc]
  address = "$DIR/sock.ttrpc"
CONF
containerd -c config.toml >log 2>&1 &
SERVER=$!
C() { ctr -a $DIR/sock "$@"; }
for try in $(seq 600); do C version >/dev/null 2>&1 && break; sleep 0.1; done
OPTIONS="--runc-binary $RUNTIME --rootfs"
RUN() { local id=$1; shift; C run --cgroup $CGROUP/$id "$@"; }
STATUS() { C task ls | awk '{print $1, $3}'; }
UNTIL() { for try in $(seq 600); do C task ls | grep -q "^$1 .*$2" && return; sleep 0.1; done; echo "never $2"; }
END() { C task kill -s 9 $1; UNTIL $1 STOPPED; C task delete $1 2>/dev/null; C c rm $1; }
"#;

const END: &str = r#"for task in $(C task ls -q); do C task kill -a -s 9 $task; UNTIL $task STOPPED; C task delete $task; done
    kill $SERVER; wait $SERVER; find /sys/fs/cgroup -depth -type d -path "*$CGROUP/*" -exec rmdir {} +"#;

fn same(script: &str) {
    caller::same(SETUP, script, END);
}

#[test]
fn tasks_live_their_lives() {
    same(
        r#"
        RUN aa --rm $OPTIONS rootfs aa /bin/sh -c 'echo hi; id; hostname; exit 3'; echo $?
        RUN aa -d $OPTIONS rootfs aa /bin/sleep 1000; STATUS
        C task exec --exec-id e1 aa /bin/sh -c 'echo in; exit 4'; echo $?
        C task pause aa; STATUS; C task exec --exec-id e2 aa /bin/true; echo $?; C task resume aa; STATUS
        C task metrics --format json aa | jq -c '[paths | map(select(type == "string")) | select(.[-1] | test("^(limit|usage|current|total|cache)$")) | join(".")] | unique'
        C task ps aa | awk '{print NF}'; C task exec --exec-id e3 -d aa /bin/sleep 44; C task ps aa | wc -l
        END aa; C c ls -q | wc -l
        script -qec "ctr -a $DIR/sock run --cgroup $CGROUP/aa --rm -t $OPTIONS rootfs aa /bin/sh -c 'tty; stty size; exit 2'" /dev/null </dev/null; echo $?
        echo end of the script"#,
    );
}

#[test]
fn options_and_errors() {
    same(
        r#"
        LOOK='cut -d: -f2,3 /proc/self/cgroup | sort; mount | grep -v -e " /proc/" -e " /sys/" | cut -d" " -f3,5,6 | sort; grep -E "Cap|Secc|NoNew" /proc/self/status; env | sort; pwd'
        RUN aa --rm --memory-limit 67108864 --cpus 0.5 $OPTIONS rootfs aa /bin/sh -c "$LOOK"
        RUN aa --rm --privileged $OPTIONS rootfs aa /bin/sh -c "$LOOK"
        RUN aa --rm --read-only --net-host $OPTIONS rootfs aa /bin/sh -c "touch /x 2>&1; $LOOK"
        RUN aa --rm --seccomp --cap-drop CAP_KILL --cap-add CAP_SYS_ADMIN --allow-new-privs --env A=b --cwd /tmp \
            --mount type=bind,src=$DIR/rootfs,dst=/mnt,options=rbind:ro $OPTIONS rootfs aa /bin/sh -c "touch /mnt/x 2>&1; $LOOK"
        RUN aa --rm --uidmap 0:100000:1000 --gidmap 0:100000:1000 $OPTIONS rootfs aa /bin/sh -c 'id; cat /proc/self/uid_map'
        for program in /bin/nope nope /etc/passwd; do RUN bb --rm $OPTIONS rootfs bb $program; echo $?; done
        RUN cc -d $OPTIONS rootfs cc /bin/sleep 1000; C task exec --exec-id e cc /nope; echo $?; END cc
        echo end of the script"#,
    );
}
