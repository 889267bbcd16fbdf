//! Steps of claims as a table.

use super::*;
use serde_json::{Value, json};

fn claim(spec: Value, bound: bool) -> PersistentVolumeClaim {
    let mut whole = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let annotations = if bound { json!({"pv.kubernetes.io/bind-completed": "yes"}) } else { json!({}) };
    let meta = json!({"name": "c", "namespace": "n", "uid": "u", "annotations": annotations});
    let phase = if bound { "Bound" } else { "Pending" };
    serde_json::from_value(json!({"metadata": meta, "spec": whole, "status": {"phase": phase}})).unwrap()
}

fn volume(class: &str, owner: Value) -> Arc<PersistentVolume> {
    let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": class, "claimRef": owner});
    Arc::new(serde_json::from_value(json!({"metadata": {"name": "v"}, "spec": spec})).unwrap())
}

fn class(provisioner: &str, mode: &str) -> Option<Arc<StorageClass>> {
    let class = json!({"metadata": {"name": "s"}, "provisioner": provisioner, "volumeBindingMode": mode, "reclaimPolicy": "Delete"});
    Some(Arc::new(serde_json::from_value(class).unwrap()))
}

fn word(step: &Step) -> String {
    match step {
        Step::Nothing => "nothing".into(),
        Step::Reserve(_) => "reserve".into(),
        Step::Bind(_) => "bind".into(),
        Step::Provision(volume) => format!("provision {}", volume.name_any()),
        Step::External(provisioner) => format!("external {provisioner}"),
        Step::Lost(reason, _) | Step::Tell(_, reason, _) => (*reason).to_owned(),
    }
}

#[test]
fn every_case_of_a_claim() {
    let mine = json!({"name": "c", "namespace": "n", "uid": "u"});
    let theirs = json!({"name": "x", "namespace": "n", "uid": "x"});
    let (plain, named) = (json!({}), json!({"volumeName": "v"}));
    let classed = json!({"storageClassName": "s"});
    let none = Value::Null;
    let late = "WaitForFirstConsumer";
    type Case<'a> = (&'a Value, bool, Vec<Arc<PersistentVolume>>, Option<Arc<StorageClass>>, bool, &'a str);
    let cases: Vec<Case<'_>> = vec![
        (&plain, false, vec![], None, false, "FailedBinding"),
        (&plain, false, vec![volume("", none.clone())], None, false, "reserve"),
        (&plain, false, vec![volume("", mine.clone())], None, false, "bind"),
        (&plain, false, vec![volume("", theirs.clone())], None, false, "FailedBinding"),
        (&named, false, vec![volume("", none.clone())], None, false, "reserve"),
        (&named, false, vec![volume("x", none.clone())], None, false, "VolumeMismatch"),
        (&named, true, vec![volume("x", none.clone())], None, false, "reserve"),
        (&named, true, vec![volume("", mine.clone())], None, false, "nothing"),
        (&named, true, vec![volume("", theirs)], None, false, "ClaimMisbound"),
        (&named, true, vec![], None, false, "ClaimLost"),
        (&named, false, vec![], None, false, "nothing"),
        (&classed, false, vec![], None, false, "ProvisioningFailed"),
        (&classed, false, vec![], class("x.io/y", "Immediate"), false, "external x.io/y"),
        (
            &classed,
            false,
            vec![volume("s", none.clone())],
            class(PROVISIONER, late),
            false,
            "WaitForFirstConsumer",
        ),
        (&classed, false, vec![volume("s", none)], class(PROVISIONER, late), true, "reserve"),
        (&classed, false, vec![], class(PROVISIONER, late), true, "provision pvc-u"),
        (&classed, false, vec![], class(PROVISIONER, "Immediate"), false, "ProvisioningFailed"),
    ];
    for (at, (spec, bound, volumes, class, on_node, expected)) in cases.into_iter().enumerate() {
        let node = json!({"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "n"}}});
        let world = World {
            claim: &claim(spec.clone(), bound),
            volumes: &volumes,
            class_name: spec["storageClassName"].as_str(),
            class,
            node: on_node.then(|| Arc::new(serde_json::from_value(node).unwrap())),
            unscheduled: Vec::new(),
        };
        assert_eq!(word(&step(&world)), expected, "case {at}: {spec}");
    }
}

#[test]
fn a_claim_tells_whom_it_waits_for() {
    for (pods, reason, message) in [
        (&[][..], "WaitForFirstConsumer", "waiting for first consumer to be created before binding"),
        (&["p"], "WaitForPodScheduled", "waiting for pod p to be scheduled"),
        (&["p", "q"], "WaitForPodScheduled", "waiting for pods p,q to be scheduled"),
    ] {
        let world = World {
            claim: &claim(json!({"storageClassName": "s"}), false),
            volumes: &[],
            class_name: Some("s"),
            class: class("x.io/y", "WaitForFirstConsumer"),
            node: None,
            unscheduled: pods.iter().map(|pod| (*pod).to_owned()).collect(),
        };
        assert_eq!(step(&world), Step::Tell(Severity::Normal, reason, message.to_owned()));
    }
}

#[test]
fn a_volume_made_is_a_directory_of_its_node() {
    let node: Node = serde_json::from_value(
        json!({"metadata": {"name": "a", "annotations": {"knarr.io/volumes-dir": "/data/volumes"}}}),
    )
    .unwrap();
    let class = class(PROVISIONER, "WaitForFirstConsumer").unwrap();
    let volume = provision::volume(&claim(json!({}), false), &class, &node).unwrap();
    let spec = volume.spec.as_ref().unwrap();
    assert_eq!(spec.host_path.as_ref().unwrap().path, "/data/volumes/pvc-u_n_c");
    assert_eq!(spec.persistent_volume_reclaim_policy.as_deref(), Some("Delete"));
    assert!(volume_match::reaches(
        &volume,
        &serde_json::from_value(
            json!({"metadata": {"name": "a", "labels": {"kubernetes.io/hostname": "a"}}})
        )
        .unwrap()
    ));
    assert_eq!(volume.finalizers(), ["knarr.io/local-volume"]);
    let block = claim(json!({"volumeMode": "Block"}), false);
    assert!(provision::volume(&block, &class, &node).is_err());
}
