//! Volumes that another machine exports, where that machine is not there.

use crate::node::Node;
use crate::simple;
use serde_json::json;

pub(crate) fn exports_of_nobody_hold_the_pod_back(node: &Node) {
    let mut spec = simple(node, "sleep 1000");
    spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
    spec["volumes"] =
        json!([{"name": "v", "nfs": {"server": "nobody.invalid", "path": "/e", "readOnly": true}}]);
    node.pod("exported", spec);
    node.event(
        "exported",
        "FailedMount",
        "MountVolume.SetUp failed for volume \"v\" : mount failed: exit status",
    );
    node.event("exported", "FailedMount", "Mounting arguments: -t nfs -o ro nobody.invalid:/e ");
    assert_eq!(node.get("exported")["status"]["phase"], "Pending");
    node.k(&["delete", "pod", "exported"]).ok();
}
