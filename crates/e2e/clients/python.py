"""The Python client against a cluster: KUBECONFIG names it, the first argument an image with a shell, httpd and tar."""

import json
import os
import subprocess
import sys
import threading

from check import case, contains, equal, run
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import BadRequestError, ConflictError, NotFoundError, ResourceNotFoundError
from kubernetes.informer.informer import SharedInformer
from kubernetes.stream import portforward, stream

SPACE = "client-python"
LIMIT = 60


def config_map(name, data=None, labels=None):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data=data or {})


def pod(name, image, command=None):
    container = {"name": "it", "image": image, "imagePullPolicy": "Never", "ports": [{"containerPort": 80}]}
    if command:
        container["command"] = command
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def wait_for(list_function, wanted, *arguments, **keywords):
    """Follows until an object is as wanted."""
    for event in watch.Watch().stream(list_function, *arguments, timeout_seconds=LIMIT, **keywords):
        if wanted(event):
            return event["object"]
    raise AssertionError("not as wanted in time")


def running(core, name):
    return wait_for(
        core.list_namespaced_pod,
        lambda e: any(c.type == "Ready" and c.status == "True" for c in e["object"].status.conditions or []),
        SPACE, field_selector=f"metadata.name={name}",
    )


def refused(code, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except ApiException as error:
        equal(error.status, code)
        return json.loads(error.body)
    raise AssertionError(f"not refused with {code}")


@case
def create_read_list_delete(core, image):
    made = core.create_namespaced_config_map(SPACE, config_map("one", {"a": "b"}, {"for": "list"}))
    assert made.metadata.uid and made.metadata.creation_timestamp
    equal(core.read_namespaced_config_map("one", SPACE).data, {"a": "b"})
    for number in range(5):
        core.create_namespaced_config_map(SPACE, config_map(f"page-{number}", labels={"for": "pages"}))
    pages, token = [], None
    while token != "":
        page = core.list_namespaced_config_map(SPACE, label_selector="for=pages", limit=2, _continue=token)
        pages.append([item.metadata.name for item in page.items])
        token = page.metadata._continue or ""
    equal(pages, [["page-0", "page-1"], ["page-2", "page-3"], ["page-4"]])
    done = core.delete_collection_namespaced_config_map(SPACE, label_selector="for=pages")
    assert done is not None
    equal(core.list_namespaced_config_map(SPACE, label_selector="for=pages").items, [])
    core.delete_namespaced_config_map("one", SPACE)
    equal(refused(404, core.read_namespaced_config_map, "one", SPACE)["reason"], "NotFound")


@case
def error_bodies(core, image):
    core.create_namespaced_config_map(SPACE, config_map("twice"))
    equal(refused(409, core.create_namespaced_config_map, SPACE, config_map("twice"))["reason"], "AlreadyExists")
    body = refused(422, core.create_namespaced_config_map, SPACE, config_map("Not_A_Name"))
    equal((body["kind"], body["reason"], body["details"]["name"]), ("Status", "Invalid", "Not_A_Name"))
    equal(body["details"]["causes"][0]["field"], "metadata.name")
    old = core.read_namespaced_config_map("twice", SPACE)
    core.patch_namespaced_config_map("twice", SPACE, {"data": {"x": "y"}})
    equal(refused(409, core.replace_namespaced_config_map, "twice", SPACE, old)["reason"], "Conflict")
    bad = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "bad"}, "data": {"number": 1}}
    api = dynamic.DynamicClient(client.ApiClient())
    try:
        api.create(api.resources.get(api_version="v1", kind="ConfigMap"), body=bad, namespace=SPACE)
        raise AssertionError("a number was taken for a string")
    except BadRequestError as error:
        equal(json.loads(error.body)["reason"], "BadRequest")
    equal(refused(400, core.list_namespaced_config_map, SPACE, label_selector="a in (")["reason"], "BadRequest")
    unknown = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "strict"}, "datas": {}}
    path = f"/api/v1/namespaces/{SPACE}/configmaps"
    try:
        api.request("post", path, body=unknown, query_params=[("fieldValidation", "Strict")])
        raise AssertionError("an unknown field was taken")
    except BadRequestError as error:
        contains(json.loads(error.body)["message"], 'unknown field "datas"')


@case
def patches(core, image):
    apps = client.AppsV1Api()
    template = {"metadata": {"labels": {"app": "p"}}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "p"}}, "template": template}
    apps.create_namespaced_deployment(SPACE, {"metadata": {"name": "p"}, "spec": spec})
    # Strategic: lists are merged by key.
    more = {"spec": {"template": {"spec": {"containers": [{"name": "b", "image": "b"}]}}}}
    made = apps.patch_namespaced_deployment("p", SPACE, more, _content_type="application/strategic-merge-patch+json")
    equal(sorted(c.name for c in made.spec.template.spec.containers), ["a", "b"])
    # Merge: lists are replaced.
    made = apps.patch_namespaced_deployment("p", SPACE, more, _content_type="application/merge-patch+json")
    equal([c.name for c in made.spec.template.spec.containers], ["b"])
    # JSON.
    steps = [{"op": "test", "path": "/spec/replicas", "value": 0},
             {"op": "add", "path": "/metadata/annotations", "value": {"by": "json"}}]
    made = apps.patch_namespaced_deployment("p", SPACE, steps, _content_type="application/json-patch+json")
    equal(made.metadata.annotations["by"], "json")
    steps = [{"op": "test", "path": "/spec/replicas", "value": 7}]
    refused(422, apps.patch_namespaced_deployment, "p", SPACE, steps, _content_type="application/json-patch+json")
    # Subresources.
    equal(apps.patch_namespaced_deployment_scale("p", SPACE, {"spec": {"replicas": 2}}).spec.replicas, 2)
    equal(apps.read_namespaced_deployment_scale("p", SPACE).status.selector, "app=p")
    # Dry run.
    apps.delete_namespaced_deployment("p", SPACE, dry_run="All")
    apps.read_namespaced_deployment("p", SPACE)


@case
def watches(core, image):
    start = core.list_namespaced_config_map(SPACE).metadata.resource_version
    core.create_namespaced_config_map(SPACE, config_map("watched", labels={"for": "watch"}))
    core.patch_namespaced_config_map("watched", SPACE, {"data": {"k": "1"}})
    core.delete_namespaced_config_map("watched", SPACE)
    seen, watcher = [], watch.Watch()
    keywords = {"label_selector": "for=watch", "resource_version": start, "timeout_seconds": LIMIT}
    for event in watcher.stream(core.list_namespaced_config_map, SPACE, **keywords):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            watcher.stop()
    equal(seen, [("ADDED", "watched"), ("MODIFIED", "watched"), ("DELETED", "watched")])
    # Resumes where it was left, with nothing twice.
    later = watcher.resource_version
    core.create_namespaced_config_map(SPACE, config_map("watched-too", labels={"for": "watch"}))
    keywords["resource_version"] = later
    for event in watcher.stream(core.list_namespaced_config_map, SPACE, **keywords):
        equal((event["type"], event["object"].metadata.name), ("ADDED", "watched-too"))
        watcher.stop()


@case
def watch_ends_after_its_timeout(core, image):
    events = list(watch.Watch().stream(core.list_namespaced_secret, SPACE, timeout_seconds=1))
    equal(events, [])


@case
def watch_from_the_future_and_from_nonsense(core, image):
    body = refused(400, core.list_namespaced_config_map, SPACE, resource_version="nonsense")
    equal(body["reason"], "BadRequest")
    body = refused(504, core.list_namespaced_config_map, SPACE, resource_version="999999999")
    equal(body["reason"], "Timeout")
    contains(body["message"], "Too large resource version")
    equal(body["details"]["causes"][0]["reason"], "ResourceVersionTooLarge")


@case
def informer(core, image):
    seen, arrived = [], threading.Condition()

    def note(kind):
        def handle(obj):
            with arrived:
                seen.append((kind, obj.metadata.name))
                arrived.notify_all()
        return handle

    def until(event):
        with arrived:
            assert arrived.wait_for(lambda: event in seen, LIMIT), f"no {event} in {seen}"

    core.create_namespaced_config_map(SPACE, config_map("before", labels={"for": "informer"}))
    shared = SharedInformer(core.list_namespaced_config_map, SPACE, label_selector="for=informer")
    for kind in ("ADDED", "MODIFIED", "DELETED"):
        shared.add_event_handler(kind, note(kind))
    shared.start()
    until(("ADDED", "before"))
    core.create_namespaced_config_map(SPACE, config_map("after", labels={"for": "informer"}))
    until(("ADDED", "after"))
    core.patch_namespaced_config_map("after", SPACE, {"data": {"a": "b"}})
    until(("MODIFIED", "after"))
    equal(shared.cache.get_by_key(f"{SPACE}/after").data, {"a": "b"})
    core.delete_namespaced_config_map("before", SPACE)
    until(("DELETED", "before"))
    # The client stops between events: one more lets it see that it shall.
    shared._stop_event.set()
    core.create_namespaced_config_map(SPACE, config_map("last", labels={"for": "informer"}))
    shared.stop()


@case
def dynamic_client(core, image):
    api = dynamic.DynamicClient(client.ApiClient())
    maps = api.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1", "b": "2"}}
    first = api.server_side_apply(maps, body=body, name="applied", namespace=SPACE, field_manager="one")
    equal(first.metadata.managedFields[0].manager, "one")
    equal(first.metadata.managedFields[0].operation, "Apply")
    other = dict(body, data={"a": "3"})
    try:
        api.server_side_apply(maps, body=other, name="applied", namespace=SPACE, field_manager="two")
        raise AssertionError("no conflict")
    except ConflictError as error:
        contains(error.body, 'conflict with \\"one\\": .data.a')
    forced = api.server_side_apply(
        maps, body=other, name="applied", namespace=SPACE, field_manager="two", force_conflicts=True)
    equal(dict(forced.data), {"a": "3", "b": "2"})
    # What nobody applies any more goes.
    gone = api.server_side_apply(maps, body=dict(body, data={}), name="applied", namespace=SPACE, field_manager="one")
    equal(dict(gone.data), {"a": "3"})
    api.delete(maps, name="applied", namespace=SPACE)
    try:
        api.get(maps, name="applied", namespace=SPACE)
        raise AssertionError("still there")
    except NotFoundError:
        pass


@case
def discovery(core, image):
    api = dynamic.DynamicClient(client.ApiClient())
    equal(api.resources.get(api_version="apps/v1", kind="Deployment").name, "deployments")
    equal(api.resources.get(kind="Ingress", group="networking.k8s.io").preferred, True)
    assert "deploy" in api.resources.get(api_version="apps/v1", kind="Deployment").short_names
    assert client.VersionApi().get_code().minor.startswith("36")
    groups = {group.name for group in client.ApisApi().get_api_versions().groups}
    assert {"apps", "batch", "rbac.authorization.k8s.io", "apiextensions.k8s.io"} <= groups, groups
    try:
        api.resources.get(api_version="v1", kind="NoSuchKind")
        raise AssertionError("found")
    except ResourceNotFoundError:
        pass


@case
def custom_objects(core, image):
    extensions = client.ApiextensionsV1Api()
    schema = {"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1}, "colour": {"type": "string", "default": "red"}}},
        "status": {"type": "object", "properties": {"seen": {"type": "integer"}}}}}
    definition = {
        "metadata": {"name": "boxes.python.test"},
        "spec": {"group": "python.test", "scope": "Namespaced",
                 "names": {"plural": "boxes", "singular": "box", "kind": "Box", "shortNames": ["bx"]},
                 "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
                               "subresources": {"status": {}}}]}}
    extensions.create_custom_resource_definition(definition)

    def established(event):
        conditions = event["object"].status and event["object"].status.conditions or []
        return any(c.type == "Established" and c.status == "True" for c in conditions)
    wait_for(extensions.list_custom_resource_definition, established, field_selector="metadata.name=boxes.python.test")
    custom = client.CustomObjectsApi()
    of = ("python.test", "v1", SPACE, "boxes")
    body = {"apiVersion": "python.test/v1", "kind": "Box", "metadata": {"name": "b"}, "spec": {"size": 1}}
    made = custom.create_namespaced_custom_object(*of, body)
    equal(made["spec"]["colour"], "red")
    body = refused(422, custom.patch_namespaced_custom_object, *of, "b", {"spec": {"size": 0}},
                   _content_type="application/merge-patch+json")
    equal(body["details"]["causes"][0]["field"], "spec.size")
    made = custom.patch_namespaced_custom_object_status(*of, "b", {"status": {"seen": 3}, "spec": {"size": 9}},
                                                        _content_type="application/merge-patch+json")
    equal((made["status"]["seen"], made["spec"]["size"], made["metadata"]["generation"]), (3, 1, 1))
    # Discovered as soon as it is there.
    api = dynamic.DynamicClient(client.ApiClient())
    boxes = api.resources.get(api_version="python.test/v1", kind="Box")
    equal([item.metadata.name for item in boxes.get(namespace=SPACE).items], ["b"])
    for event in boxes.watch(namespace=SPACE, timeout=LIMIT):
        equal((event["type"], event["object"].metadata.name), ("ADDED", "b"))
        break
    extensions.delete_custom_resource_definition("boxes.python.test")
    wait_for(extensions.list_custom_resource_definition, lambda e: e["type"] == "DELETED",
             field_selector="metadata.name=boxes.python.test")
    try:
        custom.list_namespaced_custom_object(*of)
        raise AssertionError("still served")
    except ApiException as error:
        equal((error.status, error.body), (404, "404 page not found\n"))


@case
def create_from_yaml(core, image):
    text = [{"apiVersion": "v1", "kind": "ConfigMapList", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"yaml-{n}"}} for n in (1, 2)]}]
    utils.create_from_yaml(client.ApiClient(), yaml_objects=text, namespace=SPACE)
    core.read_namespaced_config_map("yaml-2", SPACE)


@case
def pods_and_logs(core, image):
    core.create_namespaced_pod(SPACE, pod("web", image))
    running(core, "web")
    contains(core.read_namespaced_pod_log("web", SPACE), "started")
    # Followed until the end of the container.
    core.create_namespaced_pod(SPACE, dict(pod("count", image, ["sh", "-c", "for n in 1 2 3; do echo line $n; done"]), spec={
        **pod("count", image, ["sh", "-c", "for n in 1 2 3; do echo line $n; done"])["spec"], "restartPolicy": "Never"}))
    wait_for(core.list_namespaced_pod, lambda e: e["object"].status.phase == "Succeeded", SPACE,
             field_selector="metadata.name=count")
    lines = list(watch.Watch().stream(core.read_namespaced_pod_log, name="count", namespace=SPACE))
    equal(lines, ["line 1", "line 2", "line 3"])
    contains(core.read_namespaced_pod_log("count", SPACE, tail_lines=1), "line 3")
    equal(refused(400, core.read_namespaced_pod_log, "web", SPACE, container="none")["reason"], "BadRequest")


@case
def exec_over_web_socket(core, image):
    get = core.connect_get_namespaced_pod_exec
    running(core, "web")
    said = stream(get, "web", SPACE, command=["echo", "hello"], stdout=True, stderr=True, stdin=False, tty=False)
    equal(said.strip(), "hello")
    session = stream(get, "web", SPACE, command=["sh"], stdout=True, stderr=True, stdin=True, tty=False,
                     _preload_content=False)
    session.write_stdin("echo out; echo err >&2\n")
    equal(session.readline_stdout(timeout=LIMIT), "out")
    equal(session.readline_stderr(timeout=LIMIT), "err")
    session.write_stdin("exit 3\n")
    session.run_forever(timeout=LIMIT)
    equal(session.returncode, 3)
    session = stream(get, "web", SPACE, command=["no-such-program"], stdout=True, stderr=True, stdin=False, tty=False,
                     _preload_content=False)
    session.run_forever(timeout=LIMIT)
    assert session.read_channel(3), "no status of the failure"
    try:
        stream(get, "nobody", SPACE, command=["true"], stdout=True, stderr=True, stdin=False, tty=False)
        raise AssertionError("exec in no pod")
    except ApiException as error:
        contains(error, "404")


@case
def exec_with_a_terminal(core, image):
    session = stream(core.connect_get_namespaced_pod_exec, "web", SPACE, command=["sh", "-c", "stty size; tty"],
                     stdout=True, stderr=True, stdin=True, tty=True, _preload_content=False)
    session.run_forever(timeout=LIMIT)
    contains(session.read_stdout(timeout=1), "/dev/pts/")
    equal(session.returncode, 0)


@case
def port_forward(core, image):
    forward = portforward(core.connect_get_namespaced_pod_portforward, "web", SPACE, ports="80")
    socket = forward.socket(80)
    socket.settimeout(LIMIT)
    socket.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while part := socket.recv(4096):
        answer += part
    contains(answer.decode(), "Welcome")
    equal(forward.error(80), None)


@case
def eviction_and_delete_options(core, image):
    body = client.V1Eviction(metadata=client.V1ObjectMeta(name="count", namespace=SPACE))
    core.create_namespaced_pod_eviction("count", SPACE, body)
    uid = core.read_namespaced_pod("web", SPACE).metadata.uid
    options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid="not-this"))
    equal(refused(409, core.delete_namespaced_pod, "web", SPACE, body=options)["reason"], "Conflict")
    options.preconditions.uid = uid
    core.delete_namespaced_pod("web", SPACE, body=options)


ELECTION = """
import sys, threading
from kubernetes import client, config
from kubernetes.leaderelection import leaderelection, electionconfig
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock
config.load_kube_config()
def leads():
    print("leads", flush=True)
    threading.Event().wait()
settings = electionconfig.Config(LeaseLock("leader", sys.argv[1], sys.argv[2]), lease_duration=4, renew_deadline=3,
                                 retry_period=1, onstarted_leading=leads, onstopped_leading=None)
leaderelection.LeaderElection(settings).run()
"""


@case
def leader_election(core, image):
    leases = client.CoordinationV1Api()
    start = lambda name: subprocess.Popen(  # noqa: E731
        [sys.executable, "-c", ELECTION, SPACE, name], stdout=subprocess.PIPE, text=True)
    first = start("first")
    second = None
    try:
        equal(first.stdout.readline().strip(), "leads")
        equal(leases.read_namespaced_lease("leader", SPACE).spec.holder_identity, "first")
        second = start("second")
        first.kill()
        equal(second.stdout.readline().strip(), "leads")
        equal(leases.read_namespaced_lease("leader", SPACE).spec.holder_identity, "second")
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.wait()


@case
def identity_and_access(core, image):
    who = client.AuthenticationV1Api().create_self_subject_review({}).status.user_info
    contains(who.groups, "system:authenticated")
    review = {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": SPACE}}}
    assert client.AuthorizationV1Api().create_self_subject_access_review(review).status.allowed
    token = core.create_namespaced_service_account_token("default", SPACE, {"spec": {"expirationSeconds": 600}})
    settings = client.Configuration.get_default_copy()
    settings.api_key = {"authorization": f"Bearer {token.status.token}"}
    settings.cert_file = settings.key_file = None
    as_account = client.ApiClient(settings)
    who = client.AuthenticationV1Api(as_account).create_self_subject_review({}).status.user_info
    equal(who.username, f"system:serviceaccount:{SPACE}:default")
    body = refused(403, client.CoreV1Api(as_account).list_namespaced_secret, SPACE)
    contains(body["message"], f'User "system:serviceaccount:{SPACE}:default" cannot list resource "secrets"')
    settings.api_key = {"authorization": "Bearer nonsense"}
    equal(refused(401, client.CoreV1Api(client.ApiClient(settings)).list_node)["reason"], "Unauthorized")


def main():
    config.load_kube_config(os.environ["KUBECONFIG"])
    core = client.CoreV1Api()
    core.create_namespace({"metadata": {"name": SPACE}})
    wait_for(core.list_namespaced_service_account, lambda e: e["object"].metadata.name == "default", SPACE)
    run(core, sys.argv[1])


main()
