//! NFS: the kernel's server, version 4.2, and pods that write, read, may not write, and lose their server.

use crate::{SOON, SPACIOUS, delete, mounts, pod, says, sh};
use knarr_tests::agent::Agent;
use knarr_tests::eventually::eventually;
use serde_json::json;

/// Everything that `rpc.nfsd` and `rpc.mountd` expect of a machine; a second time there is only the server to go on with.
const SERVE: &str = r"
if [ -e /srv/export/shared ]; then rpc.nfsd -N 3 -V 4.2 2; exit; fi
mkdir -p /var/lib/nfs/rpc_pipefs /var/lib/nfs/v4recovery /srv/export /run/lock /proc/fs/nfsd
touch /var/lib/nfs/etab /var/lib/nfs/rmtab /etc/exports
ln -sf /proc/self/mounts /etc/mtab
printf 'nfs 2049/tcp\nnfs 2049/udp\n' >/etc/services
printf 'udp 17 UDP\ntcp 6 TCP\n' >/etc/protocols
echo '127.0.0.1 localhost' >/etc/hosts
printf '%s\n' 'udp tpi_clts v inet udp - -' 'tcp tpi_cots_ord v inet tcp - -' 'tcp6 tpi_cots_ord v inet6 tcp - -' \
    'local tpi_cots_ord - loopback - - -' >/etc/netconfig
mount -t tmpfs none /srv/export
mkdir /srv/export/shared
chmod 777 /srv/export/shared
echo from-the-server >/srv/export/shared/found
mount -t nfsd nfsd /proc/fs/nfsd
echo 10 >/proc/fs/nfsd/nfsv4leasetime
echo 10 >/proc/fs/nfsd/nfsv4gracetime
exportfs -o rw,fsid=0,no_root_squash,insecure,no_subtree_check '*:/srv/export'
rpc.nfsd -N 3 -V 4.2 2
rpc.mountd -N 2 -N 3 >/dev/null 2>&1";

const STOP: &str = "rpc.nfsd 0";
/// The machine could not go down otherwise: it would wait for the server.
const RESUME: &str = "rpc.nfsd -N 3 -V 4.2 2";

pub(crate) fn directories_of_a_server_are_mounted_and_let_go_of() {
    sh(SERVE);
    let mut agent = Agent::new("node", "", SPACIOUS);
    let export =
        |read_only| json!({"nfs": {"server": "127.0.0.1", "path": "/shared", "readOnly": read_only}});
    pod(&agent, "writer", export(false), "cat /v/found; echo from-the-pod >/v/made; sleep 1000");
    agent.start();
    says(&agent, "writer", "from-the-server");
    // Two users of one export, one of whom may not write; it goes on asking the server.
    let reads = "touch /v/more || echo may-not-write; while cat /v/made; do sleep 1; done";
    pod(&agent, "reader", export(true), reads);
    says(&agent, "reader", "may-not-write");
    says(&agent, "reader", "from-the-pod");
    assert_eq!(sh("cat /srv/export/shared/made; ls /srv/export/shared"), "from-the-pod\nfound\nmade");
    mounts(&agent, "nfs4", 2);
    // What the server has keeps its owner: the group of the pod's files is no business of an export.
    assert_eq!(sh("stat -c %g /srv/export/shared/found"), "0");
    // A new agent knows them again, and mounts nothing over them.
    agent.kill();
    agent.start();
    delete(&agent, "writer");
    mounts(&agent, "nfs4", 1);
    // Nobody answers any more, and still the pod goes, while its process waits for the server.
    sh(STOP);
    delete(&agent, "reader");
    mounts(&agent, "nfs4", 0);
    eventually("nothing is left of it", SOON, || {
        let left = std::fs::read_dir(agent.path("data/kubelet/pods")).unwrap().count();
        if left == 0 { Ok(()) } else { Err(agent.log()) }
    });
    sh(RESUME);
}
