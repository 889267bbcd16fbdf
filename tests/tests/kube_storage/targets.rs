//! iSCSI: the kernel's target, open-iscsi on the node's side, and pods that share a disk, one of which may only read.

use crate::{SOON, SPACIOUS, delete, mounts, pod, says, sh};
use knarr_tests::agent::Agent;
use knarr_tests::eventually::eventually;
use serde_json::{Value, json};

const OPEN: &str = "iqn.2026-11.test.knarr:open";
const LOCKED: &str = "iqn.2026-11.test.knarr:locked";

/// Two targets with a disk each (the second lets in who knows the password), and the daemon of the node's side.
const SERVE: &str = r#"
[ ! -e /sys/kernel/config/target/iscsi ] || exit 0
mkdir -p /run/lock/iscsi /sys/kernel/config
mount -t configfs none /sys/kernel/config 2>/dev/null || true
target=/sys/kernel/config/target
mkdir -p $target/iscsi
for name in open locked; do
    truncate -s 64M /tmp/knarr-disk-$name
    disk=$target/core/fileio_0/$name
    mkdir -p $disk
    echo "fd_dev_name=/tmp/knarr-disk-$name,fd_dev_size=67108864" >$disk/control
    echo 1 >$disk/enable
    iqn=$target/iscsi/iqn.2026-11.test.knarr:$name
    mkdir $iqn
    mkdir $iqn/tpgt_1
    mkdir $iqn/tpgt_1/lun/lun_0
    ln -s $disk $iqn/tpgt_1/lun/lun_0/disk
    mkdir "$iqn/tpgt_1/np/127.0.0.1:3260"
    echo 0 >$iqn/tpgt_1/attrib/authentication
    echo 1 >$iqn/tpgt_1/attrib/generate_node_acls
    echo 0 >$iqn/tpgt_1/attrib/demo_mode_write_protect
    echo 1 >$iqn/tpgt_1/enable
done
echo 1 >$target/iscsi/iqn.2026-11.test.knarr:locked/tpgt_1/attrib/authentication
echo -n somebody >$target/iscsi/iqn.2026-11.test.knarr:locked/tpgt_1/auth/userid
echo -n twelve-letters >$target/iscsi/iqn.2026-11.test.knarr:locked/tpgt_1/auth/password
echo InitiatorName=iqn.2026-11.test.knarr:node >/etc/iscsi/initiatorname.iscsi
iscsid >/dev/null 2>&1"#;

fn disk(target: &str, more: Value) -> Value {
    let mut iscsi = json!({"targetPortal": "127.0.0.1", "iqn": target, "lun": 0, "fsType": "ext4"});
    iscsi.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"iscsi": iscsi})
}

/// Waits until the node has so many sessions.
fn sessions(count: usize) {
    eventually(&format!("{count} sessions"), SOON, || {
        let found: Vec<_> = std::fs::read_dir("/sys/class/iscsi_session").unwrap().flatten().collect();
        if found.len() == count { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

pub(crate) fn disks_of_a_target_are_formatted_shared_and_let_go_of() {
    sh(SERVE);
    let mut agent = Agent::new("node", "", SPACIOUS);
    let writes = "stat -c 'group %g' /v; echo kept >/v/file; sync; sleep 1000";
    pod(&agent, "writer", disk(OPEN, json!({})), writes);
    agent.start();
    says(&agent, "writer", "group 4321");
    let reads = "touch /v/more || echo may-not-write; cat /v/file; sleep 1000";
    pod(&agent, "reader", disk(OPEN, json!({"readOnly": true})), reads);
    says(&agent, "reader", "may-not-write");
    says(&agent, "reader", "kept");
    // Once for the node, and once in each pod.
    mounts(&agent, "ext4", 3);
    sessions(1);
    delete(&agent, "writer");
    mounts(&agent, "ext4", 2);
    sessions(1);
    // A pod that was deleted while nobody was there.
    agent.kill();
    delete(&agent, "reader");
    agent.start();
    mounts(&agent, "ext4", 0);
    sessions(0);
    eventually("nobody logs in to it at the next start", SOON, || {
        let known = sh("iscsiadm -m node 2>&1 || true");
        if known.contains(OPEN) { Err(known) } else { Ok(()) }
    });
    // What is on the disk stays there, also for one who calls itself otherwise.
    let named = json!({"initiatorName": "iqn.2026-11.test.knarr:other"});
    pod(&agent, "again", disk(OPEN, named), "cat /v/file; sleep 1000");
    says(&agent, "again", "kept");
    let known_as = "cat /sys/class/iscsi_session/*/initiatorname";
    assert_eq!(sh(known_as), "iqn.2026-11.test.knarr:other", "it says who it is as the volume wants");
    delete(&agent, "again");
    sessions(0);
    the_locked_one_opens_to_who_knows_the_password(&agent);
}

fn the_locked_one_opens_to_who_knows_the_password(agent: &Agent) {
    let password = |word: &str| {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/iscsi-chap",
            "metadata": {"name": "chap"}, "stringData":
            {"node.session.auth.username": "somebody", "node.session.auth.password": word}});
        std::fs::write(agent.path("manifests").join("chap.json"), secret.to_string()).unwrap();
    };
    password("something-else");
    let locked = disk(LOCKED, json!({"chapAuthSession": true, "secretRef": {"name": "chap"}}));
    pod(agent, "locked", locked, "echo open >/v/file; cat /v/file; sleep 1000");
    eventually("the refusal is told", SOON, || {
        let log = agent.log();
        let told = log.contains("iscsi: failed to attach disk") && log.contains("authorization failure");
        if told { Ok(()) } else { Err(log) }
    });
    password("twelve-letters");
    says(agent, "locked", "open");
    delete(agent, "locked");
    mounts(agent, "ext4", 0);
    sessions(0);
}
