"""What programs do with the official Python client: typed and dynamic objects, watches, custom resources, apply,
leader election. Argument: a kubeconfig. Says `ok` at the end; any surprise is an exception."""

import os
import sys
import threading
import time

from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.configmaplock import ConfigMapLock

NAMESPACE = "python"
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "boats.example.com"},
    "spec": {
        "group": "example.com",
        "names": {"kind": "Boat", "plural": "boats", "singular": "boat"},
        "scope": "Namespaced",
        "versions": [{
            "name": "v1", "served": True, "storage": True, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"oars": {"type": "integer", "minimum": 1}}},
                "status": {"type": "object", "properties": {"afloat": {"type": "boolean"}}},
            }}},
        }],
    },
}


def eventually(what, probe, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = probe()
        except ApiException as error:
            found = None
            if error.status not in (404, 409):
                raise
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {seconds} s")


def refused(code, call):
    try:
        call()
    except ApiException as error:
        assert error.status == code, error
        return error
    raise AssertionError(f"not refused with {code}")


def typed(core, apps):
    meta = client.V1ObjectMeta(generate_name="a-", labels={"x": "y"})
    made = core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=meta, data={"k": "v"}))
    name, seen = made.metadata.name, []

    def follow():
        stream = watch.Watch()
        for event in stream.stream(core.list_namespaced_config_map, NAMESPACE, label_selector="x=y", timeout_seconds=60):
            seen.append(event["type"])
            if event["type"] == "DELETED":
                stream.stop()

    follower = threading.Thread(target=follow)
    follower.start()
    eventually("the first event", lambda: seen)
    made.data["k"] = "w"
    made = core.replace_namespaced_config_map(name, NAMESPACE, made)
    assert core.patch_namespaced_config_map(name, NAMESPACE, {"data": {"z": "1"}}).data == {"k": "w", "z": "1"}
    refused(409, lambda: core.replace_namespaced_config_map(name, NAMESPACE, made))
    core.delete_namespaced_config_map(name, NAMESPACE)
    follower.join(60)
    assert seen == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"], seen
    container = client.V1Container(name="c", image="example.com/i:1")
    template = client.V1PodTemplateSpec(
        metadata=client.V1ObjectMeta(labels={"app": "web"}), spec=client.V1PodSpec(containers=[container]))
    spec = client.V1DeploymentSpec(replicas=2, selector={"matchLabels": {"app": "web"}}, template=template)
    apps.create_namespaced_deployment(NAMESPACE, client.V1Deployment(metadata={"name": "web"}, spec=spec))
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 3}})
    pods = eventually("three pods", lambda: [p for p in [core.list_namespaced_pod(NAMESPACE).items] if len(p) == 3])[0]
    assert pods[0].metadata.owner_references[0].kind == "ReplicaSet"
    error = refused(422, lambda: core.create_namespaced_config_map(NAMESPACE, {"metadata": {"name": "Bad_Name"}}))
    assert "metadata.name" in error.body
    refused(404, lambda: core.read_namespaced_pod("none", NAMESPACE))
    first = core.list_namespaced_pod(NAMESPACE, limit=1)
    rest = core.list_namespaced_pod(NAMESPACE, limit=5, _continue=first.metadata._continue)
    assert len(first.items) + len(rest.items) == 3


def custom(api):
    utils.create_from_dict(api, CRD)
    boats = client.CustomObjectsApi(api)
    body = {"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "skiff"}, "spec": {"oars": 2}}
    place = ("example.com", "v1", NAMESPACE, "boats")
    eventually("the new kind", lambda: boats.create_namespaced_custom_object(*place, body))
    assert boats.patch_namespaced_custom_object(*place, "skiff", {"spec": {"oars": 4}})["spec"]["oars"] == 4
    refused(422, lambda: boats.patch_namespaced_custom_object(*place, "skiff", {"spec": {"oars": 0}}))
    status = boats.patch_namespaced_custom_object_status(*place, "skiff", {"status": {"afloat": True}})
    assert status["status"] == {"afloat": True}
    assert len(boats.list_namespaced_custom_object(*place)["items"]) == 1


def dynamically(api):
    maps = dynamic.DynamicClient(api).resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "b"}}
    applied = maps.server_side_apply(body=body, namespace=NAMESPACE, field_manager="python")
    assert applied.metadata.managedFields[0].operation == "Apply"
    assert maps.get(name="applied", namespace=NAMESPACE).data.a == "b"


def elect():
    leading = threading.Event()
    lock = ConfigMapLock("leader", NAMESPACE, "me")
    settings = electionconfig.Config(lock, lease_duration=17, renew_deadline=15, retry_period=5,
                                     onstarted_leading=leading.set, onstopped_leading=None)
    threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()
    assert leading.wait(60), "nobody leads"


def main():
    config.load_kube_config(sys.argv[1])
    api = client.ApiClient()
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    assert client.VersionApi(api).get_code().major == "1"
    core.create_namespace(client.V1Namespace(metadata={"name": NAMESPACE}))
    typed(core, apps)
    custom(api)
    dynamically(api)
    elect()
    who = client.AuthenticationV1Api(api).create_self_subject_review(client.V1SelfSubjectReview())
    assert who.status.user_info.username == "kubernetes-admin"
    core.delete_namespace(NAMESPACE)
    print("ok", flush=True)
    os._exit(0)


main()
