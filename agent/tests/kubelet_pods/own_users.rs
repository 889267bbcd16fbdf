//! `hostUsers: false`: root in the pod is nobody on the host, each pod another nobody, and volumes do not notice.

use super::{lab, pod, shell};
use lab::{Lab, is_ready};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;

fn with_own_users(name: &str) -> Value {
    let script = "while read -r inside outside count; do echo $inside $outside $count; done < /proc/self/uid_map; \
                  id -u; echo x > /shared/f; stat -c %u /shared/f /map/k; sleep 1000";
    let mut container = shell("c", script);
    container["volumeMounts"] =
        json!([{"name": "shared", "mountPath": "/shared"}, {"name": "map", "mountPath": "/map"}]);
    let volumes = json!([{"name": "shared", "emptyDir": {}}, {"name": "map", "configMap": {"name": "m"}}]);
    pod(
        name,
        json!({"hostUsers": false, "terminationGracePeriodSeconds": 0, "containers": [container],
            "volumes": volumes}),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_have_users_of_their_own() {
    lab::with(async |lab: &mut Lab| {
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}});
        lab.write("m.json", map);
        lab.write("a.json", with_own_users("a"));
        let first = lab.pod_when("a", is_ready).await;
        lab.log_is(&first, "c", "0 65536 65536\n0\n0\n0\n").await;
        let file = lab.volume_file(&first, "empty-dir/shared", "f");
        assert_eq!(
            std::fs::metadata(file).unwrap().uid(),
            0,
            "on disk it is the host's root's, as in any pod"
        );
        lab.restart().await;
        lab.write("b.json", with_own_users("b"));
        let second = lab.pod_when("b", is_ready).await;
        lab.log_is(&second, "c", "0 131072 65536\n0\n0\n0\n").await;
        lab.delete("a.json");
        lab.gone("a").await;
        lab.write("c.json", with_own_users("c"));
        let third = lab.pod_when("c", is_ready).await;
        lab.log_is(&third, "c", "0 65536 65536\n0\n0\n0\n").await;
    })
    .await;
}
