//! Unmodified podman drives runc and ours through the same scripts: what it prints and how it ends must be equal.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::caller;

/// `RUN` is podman's `run` with a container that needs nothing of this machine.
const SETUP: &str = r#"
mkdir -p ctx
RUN() { P run $OPTIONS "$@"; }
P import -q rootfs.tar bb >/dev/null
"#;

const END: &str = "P rm -a -f -t 0; P pod rm -a -f -t 0; umount -R root run";

fn same(script: &str) {
    caller::same(&format!("{}{SETUP}", caller::PODMAN), script, END);
}

#[test]
fn a_detached_container_lives_its_life() {
    same(
        r#"
        RUN -d --name aa bb sh -c 'trap "echo got; exit 7" TERM; echo ready; while :; do sleep 0.1; done'
        until P logs aa | grep -q ready; do :; done
        P exec aa sh -c 'echo in; exit 3'; echo $?
        P exec -e X=1 -w /tmp -u 5:6 aa sh -c 'echo $X; pwd; id'
        echo foo | P exec -i aa cat
        P pause aa; P inspect aa --format '{{.State.Status}}'
        P exec aa true; echo $?
        P unpause aa; P inspect aa --format '{{.State.Status}}'
        P top aa pid args | grep -c '^1  *sh -c'
        P stats --no-stream --format '{{.Name}}' aa
        P stop -t 20 aa; P inspect aa --format '{{.State.ExitCode}} {{.State.Status}}'; P logs aa
        P rm aa
        RUN -d --name bb bb sleep 1000; P kill -s KILL bb; P wait bb; P rm bb
        P create $OPTIONS --name cc bb sh -c 'echo run; echo err >&2; exit 5'
        P start -a cc; echo $?; P start -a cc; P logs cc; P rm cc
        echo end of the script"#,
    );
}

#[test]
fn terminals_and_standard_input() {
    same(
        r#"
        script -qec "podman $GLOBAL run --rm -it $OPTIONS bb sh -c 'tty; stty size; exit 6'" /dev/null </dev/null; echo $?
        RUN -d --name aa bb sleep 1000
        script -qec "podman $GLOBAL exec -it aa sh -c 'tty; exit 4'" /dev/null </dev/null; echo $?
        echo hello | RUN -i --rm bb cat
        echo data >in; exec 3<in; RUN --rm --preserve-fds 1 bb sh -c 'cat <&3'; exec 3<&-
        RUN -d -i --name bb bb sh -c 'read word; echo att $word; exit 6'
        echo go | P attach bb; echo $?
        echo end of the script"#,
    );
}

#[test]
fn limits_are_those_asked_for() {
    same(
        r#"
        for dir in /sys/fs/cgroup/memory /sys/fs/cgroup; do [ -e $dir/cgroup.procs ] && break; done
        RUN --rm --memory 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 20 bb sh -c '
            cd /sys/fs/cgroup
            cat memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.shares \
                pids/pids.max memory.max memory.low cpu.max cpu.weight pids.max cpuset.cpus 2>/dev/null
            grep Cpus_allowed_list /proc/self/status; cut -d: -f2 /proc/self/cgroup | sort'
        RUN --rm --oom-score-adj 500 --shm-size 1m --group-add 7 --umask 0077 --env A=b --ulimit core=0 bb sh -c '
            cat /proc/self/oom_score_adj; grep shm /proc/mounts | cut -d" " -f2-; id; umask; env | sort | grep -v HOSTNAME; ulimit -c'
        RUN --name aa --memory 16m bb sh -c 'exec tail /dev/zero'; echo $?; P inspect aa --format '{{.State.ExitCode}}'
        RUN --rm --cgroupns private bb sh -c 'cut -d: -f3 /proc/self/cgroup | sort -u; ls /sys/fs/cgroup | sort | head -20'
        RUN --rm --sysctl net.ipv4.ip_forward=1 --sysctl kernel.shmmax=12345 bb cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmax
        P run --rm --network none --cgroups disabled bb echo no cgroups
        echo end of the script"#,
    );
}

#[test]
fn rights_are_those_asked_for() {
    same(
        r#"
        CAPS='grep -E Cap|NoNew|Seccomp: /proc/self/status'
        RUN --rm bb $CAPS
        RUN --rm --cap-drop all --cap-add net_bind_service bb $CAPS
        RUN --rm --privileged bb sh -c 'grep Cap /proc/self/status; ls /dev | wc -l; mount -t tmpfs t /tmp && echo mounted'
        RUN --rm --security-opt no-new-privileges --user 1000:1000 bb $CAPS
        RUN -d --name aa bb sleep 1000
        P exec aa $CAPS; P exec --user 1000 aa $CAPS; P exec --privileged aa $CAPS
        echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}' >s.json
        RUN --rm --security-opt seccomp=s.json bb mkdir /x; RUN --rm --security-opt seccomp=unconfined bb grep Seccomp: /proc/self/status
        RUN --rm --read-only bb sh -c 'touch /x 2>&1; touch /tmp/x && stat -c %a /tmp /run /var/tmp'
        RUN --rm --device /dev/null:/dev/mine:r bb sh -c 'stat -c "%n %t:%T %a" /dev/mine; cat /dev/mine; echo 1 >/dev/mine'
        RUN --rm --uidmap 0:100000:65536 --gidmap 0:100000:65536 bb sh -c 'id; cat /proc/self/uid_map; touch /x; stat -c %u /x'
        RUN --rm --userns host bb id
        RUN --rm --pid host --ipc host --uts host bb sh -c 'test -d /proc/2 && echo sees all'; RUN --rm --hostname foo bb hostname
        echo end of the script"#,
    );
}

#[test]
fn errors_are_told_in_the_same_words_with_the_same_status() {
    same(
        r#"
        for program in nope /etc /etc/passwd /nope; do RUN --rm bb $program; echo $?; done
        RUN --rm -w /no/dir bb pwd; RUN --rm --entrypoint '["sh","-c","kill -9 $$"]' bb; echo $?
        RUN -d --name aa bb sleep 100
        for program in nope /etc/passwd /nope; do P exec aa $program; echo $?; done
        RUN --rm --ulimit nofile=99999999:99999999 bb true; echo $?
        echo end of the script"#,
    );
}

#[test]
fn volumes_copies_builds_and_pods() {
    same(
        r#"
        mkdir v; echo v >v/f
        RUN --rm -v $DIR/v:/v:ro bb sh -c 'cat /v/f; touch /v/g 2>&1'
        RUN --rm -v $DIR/v:/v --tmpfs /t:size=1m,mode=1777 bb sh -c 'touch /v/g; ls /v; grep " /t " /proc/mounts | cut -d" " -f2-'
        RUN --rm --mount type=tmpfs,destination=/etc,tmpcopyup bb cat /etc/passwd
        RUN --rm -v named:/data bb touch /data/x; RUN --rm -v named:/data bb ls /data
        RUN -d --name aa bb sleep 1000
        P cp v/f aa:/tmp/f; P exec aa cat /tmp/f; P diff aa | sort; P commit -q aa changed >/dev/null; RUN --rm changed cat /tmp/f
        printf 'FROM bb\nRUN echo hi >/f && id\nRUN cat /f\nCMD ["cat","/f"]\n' >File
        P build --network none --isolation oci -q -t built -f File ctx >/dev/null; RUN --rm built
        P pod create --name pp --network none --infra-image bb --infra-command "sleep 1000" --cgroup-parent $CGROUP >/dev/null
        P run -d --pod pp --name cc bb sleep 1000; P pod ps --format '{{.Name}} {{.Status}}'
        P pod pause pp; P pod unpause pp; P pod stop -t 0 pp >/dev/null; P pod ps --format '{{.Name}} {{.Status}}'; P pod rm -f pp >/dev/null
        echo end of the script"#,
    );
}
