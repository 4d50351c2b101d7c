"""API servers on a real etcd: `etcd.py ETCD ETCDCTL CORTEN DIR TOKEN`."""

import concurrent.futures
import json
import os
import socket
import subprocess
import sys
import threading

from check import case, contains, equal, run
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

ETCD, ETCDCTL, CORTEN, DIR, TOKEN = sys.argv[1:6]
LIMIT = 60


def free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]


class Process:
    """A process that says when it is ready."""

    def __init__(self, ready, *arguments):
        self.child = subprocess.Popen(arguments, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.log, self.ready = [], threading.Event()
        threading.Thread(target=self._read, args=(ready,), daemon=True).start()
        if not self.ready.wait(LIMIT) or self.child.poll() is not None:
            self.kill()
            raise AssertionError(f"{arguments} does not say {ready!r}: {''.join(self.log[-20:])}")

    def _read(self, ready):
        for line in self.child.stderr:
            self.log.append(line)
            if ready in line:
                self.ready.set()
        self.ready.set()

    def kill(self):
        self.child.kill()
        self.child.wait()


class Etcd:
    def __init__(self):
        self.url, self.peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.process = None

    def start(self):
        self.process = Process(
            "ready to serve client requests", ETCD, "--data-dir", f"{DIR}/etcd", "--listen-client-urls", self.url,
            "--advertise-client-urls", self.url, "--listen-peer-urls", self.peer,
            "--initial-advertise-peer-urls", self.peer, "--initial-cluster", f"default={self.peer}", "--log-outputs", "stderr")

    def ctl(self, *words):
        done = subprocess.run([ETCDCTL, "--endpoints", self.url, *words], capture_output=True, check=True,
                              env={**os.environ, "ETCDCTL_API": "3"}, timeout=LIMIT)
        return done.stdout


class ApiServer:
    def __init__(self, etcd, name):
        port = free_port()
        with open(f"{DIR}/tokens", "w", encoding="utf-8") as tokens:
            tokens.write(f'{TOKEN},admin,1,"system:masters"\n')
        if not os.path.exists(f"{DIR}/sa.key"):
            subprocess.run(["openssl", "genrsa", "-out", f"{DIR}/sa.key", "2048"], check=True, capture_output=True)
        self.process = Process(
            "API server started", CORTEN, "kube-apiserver", f"--etcd-servers={etcd.url}", f"--secure-port={port}",
            "--bind-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24",
            "--service-node-port-range=30000-30063", "--authorization-mode=RBAC", f"--token-auth-file={DIR}/tokens",
            f"--cert-dir={DIR}/{name}", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={DIR}/sa.key", f"--service-account-key-file={DIR}/sa.key")
        settings = client.Configuration(host=f"https://127.0.0.1:{port}", api_key={"authorization": f"Bearer {TOKEN}"})
        settings.verify_ssl = False
        self.core = client.CoreV1Api(client.ApiClient(settings))


def config_map(name, data=None):
    return {"metadata": {"name": name}, "data": data or {}}


def service(name, **spec):
    return {"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}], **spec}}


def refused(code, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except ApiException as error:
        equal(error.status, code)
        return json.loads(error.body)
    raise AssertionError(f"not refused with {code}")


def until(core, name, **keywords):
    """Follows ConfigMaps until there is one of this name."""
    for event in watch.Watch().stream(core.list_namespaced_config_map, "default", timeout_seconds=LIMIT, **keywords):
        if event["object"].metadata.name == name:
            return event
    raise AssertionError(f"{name} is not seen")


@case
def objects_are_in_etcd(etcd, one, two):
    one.core.create_namespaced_config_map("default", config_map("stored", {"a": "b"}))
    keys = etcd.ctl("get", "/registry/configmaps/default/", "--prefix", "--keys-only").decode()
    contains(keys, "/registry/configmaps/default/stored")
    value = etcd.ctl("get", "/registry/configmaps/default/stored", "--print-value-only")
    equal(value[:4], b"k8s\x00")
    # What somebody else takes away is gone.
    etcd.ctl("del", "/registry/configmaps/default/stored")
    refused(404, one.core.read_namespaced_config_map, "stored", "default")


@case
def writes_of_one_are_read_and_watched_through_the_other(etcd, one, two):
    start = two.core.list_namespaced_config_map("default").metadata.resource_version
    for number in range(10):
        name = f"shared-{number}"
        made = one.core.create_namespaced_config_map("default", config_map(name))
        equal(two.core.read_namespaced_config_map(name, "default").metadata.uid, made.metadata.uid)
        names = [item.metadata.name for item in two.core.list_namespaced_config_map("default").items]
        assert name in names, f"{name} is not in {names}"
    seen = []
    for event in watch.Watch().stream(two.core.list_namespaced_config_map, "default", resource_version=start,
                                      timeout_seconds=LIMIT):
        seen.append(event["object"].metadata.name)
        if len(seen) == 10:
            break
    equal(seen, [f"shared-{number}" for number in range(10)])


@case
def updates_through_both_conflict(etcd, one, two):
    old = two.core.read_namespaced_config_map("shared-0", "default")
    one.core.patch_namespaced_config_map("shared-0", "default", {"data": {"by": "one"}})
    old.data = {"by": "two"}
    equal(refused(409, two.core.replace_namespaced_config_map, "shared-0", "default", old)["reason"], "Conflict")


@case
def addresses_and_ports_do_not_collide(etcd, one, two):
    make = lambda n: (one, two)[n % 2].core.create_namespaced_service("default", service(f"s-{n}"))  # noqa: E731
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(make, range(32)))
    equal(len({m.spec.cluster_ip for m in made}), 32)
    equal(len({m.spec.ports[0].node_port for m in made}), 32)
    taken = made[0]
    body = refused(422, two.core.create_namespaced_service, "default", service("ip", clusterIP=taken.spec.cluster_ip))
    contains(body["message"], "already allocated")
    port = [{"port": 80, "nodePort": taken.spec.ports[0].node_port}]
    body = refused(422, two.core.create_namespaced_service, "default", service("port", ports=port))
    contains(body["message"], "already allocated")
    # Given back through one, it is free through the other.
    one.core.delete_namespaced_service(taken.metadata.name, "default")
    two.core.create_namespaced_service("default", service("ip", clusterIP=taken.spec.cluster_ip))
    two.core.create_namespaced_service("default", service("port", ports=port))


@case
def compacted_revisions_are_gone(etcd, one, two):
    old = one.core.list_namespaced_config_map("default", limit=1)
    for number in range(3):
        one.core.patch_namespaced_config_map("shared-1", "default", {"data": {"n": str(number)}})
    revision = one.core.read_namespaced_config_map("shared-1", "default").metadata.resource_version
    etcd.ctl("compact", revision)
    # A server that starts now knows nothing from before.
    three = ApiServer(etcd, "three")
    try:
        stream = watch.Watch().stream(three.core.list_namespaced_config_map, "default", timeout_seconds=LIMIT,
                                      resource_version=old.metadata.resource_version)
        try:
            event = next(stream)
            raise AssertionError(f"a watch gave {event['type']} {event['object'].metadata.name}")
        except ApiException as error:
            equal(error.status, 410)
            contains(f"{error.reason} {error.body}", "Expired")
            contains(f"{error.reason} {error.body}", "too old resource version")
        body = refused(410, three.core.list_namespaced_config_map, "default", limit=1,
                       _continue=old.metadata._continue)
        equal((body["code"], body["reason"]), (410, "Expired"))
        # The answer says how to go on with what there is now.
        page = three.core.list_namespaced_config_map("default", _continue=body["metadata"]["continue"])
        assert page.items, "nothing to go on with"
        body = refused(410, three.core.list_namespaced_config_map, "default", resource_version_match="Exact",
                       resource_version=old.metadata.resource_version)
        equal(body["reason"], "Expired")
    finally:
        three.process.kill()


@case
def a_killed_etcd_comes_back(etcd, one, two):
    one.core.create_namespaced_config_map("default", config_map("before"))
    start = two.core.list_namespaced_config_map("default").metadata.resource_version
    etcd.process.kill()
    try:
        one.core.create_namespaced_config_map("default", config_map("meanwhile"), _request_timeout=2)
        raise AssertionError("written without a store")
    except ApiException as error:
        assert error.status >= 500, error.status
    except AssertionError:
        raise
    except Exception:  # noqa: BLE001: whatever the client's library says to a deadline
        pass
    etcd.start()
    one.core.create_namespaced_config_map("default", config_map("after"), _request_timeout=LIMIT)
    # Nothing acknowledged is lost, nothing is missed.
    for server in (one, two):
        equal(server.core.read_namespaced_config_map("before", "default").metadata.name, "before")
        equal(until(server.core, "after", resource_version=start)["type"], "ADDED")


@case
def a_killed_server_leaves_the_other_at_work(etcd, one, two):
    start = two.core.list_namespaced_config_map("default").metadata.resource_version
    one.process.kill()
    two.core.create_namespaced_config_map("default", config_map("alone"))
    again = ApiServer(etcd, "one")
    try:
        again.core.create_namespaced_config_map("default", config_map("again"))
        equal(until(two.core, "again", resource_version=start)["type"], "ADDED")
        equal(again.core.read_namespaced_config_map("alone", "default").metadata.name, "alone")
    finally:
        again.process.kill()


def main():
    import urllib3
    urllib3.disable_warnings()
    etcd = Etcd()
    started = []
    try:
        etcd.start()
        started = [ApiServer(etcd, "one"), ApiServer(etcd, "two")]
        run(etcd, *started)
    finally:
        for process in [server.process for server in started] + [etcd.process]:
            if process:
                process.kill()


main()
