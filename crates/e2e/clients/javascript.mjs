// The JavaScript client against a cluster: KUBECONFIG names it, the first argument an image with a shell, httpd and tar.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';

import * as k8s from '@kubernetes/client-node';

import { run, Skip } from './check.mjs';

const namespace = 'client-node';
const image = process.argv[2];
const config = new k8s.KubeConfig();
config.loadFromFile(process.env.KUBECONFIG);
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);

const configMap = (name, data = {}, labels = {}) =>
  ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace, labels }, data });

const pod = (name, command, more = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace },
  spec: {
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'it', image, imagePullPolicy: 'Never', ...(command ? { command } : {}), ...more }],
  },
});

async function refused(code, promise) {
  const error = await promise.then(() => assert.fail(`not refused with ${code}`), (e) => e);
  if (error.code === undefined) throw error;
  assert.equal(error.code, code, String(error.body));
  return typeof error.body === 'string' && error.body.startsWith('{') ? JSON.parse(error.body) : error.body;
}

// Watches a path until an event is as wanted.
function until(where, query, wanted) {
  return new Promise((done, fail) => {
    let stop;
    let over = false;
    const end = (call, value) => {
      over = true;
      stop?.abort();
      call(value);
    };
    new k8s.Watch(config)
      .watch(where, query, (kind, object) => !over && wanted(kind, object) && end(done, object),
        (error) => !over && end(fail, error ?? new Error('the watch ended')))
      .then((controller) => {
        stop = controller;
        if (over) stop.abort();
      }, fail);
  });
}

const pods = `/api/v1/namespaces/${namespace}/pods`;
const maps = `/api/v1/namespaces/${namespace}/configmaps`;
const ready = (name) => until(pods, { fieldSelector: `metadata.name=${name}` }, (_, object) =>
  object.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True'));

function collect(stream) {
  const all = { text: '' };
  stream.on('data', (part) => (all.text += part));
  return all;
}

// Runs a command in a pod to its end.
async function execute(name, command, { input = null, tty = false } = {}) {
  const [output, errors] = [new PassThrough(), new PassThrough()];
  const [said, complained] = [collect(output), collect(errors)];
  const status = await new Promise((done, fail) => {
    new k8s.Exec(config).exec(namespace, name, 'it', command, output, errors, input, tty, done).catch(fail);
  });
  return { said: said.text, complained: complained.text, status };
}

const cases = {
  async kubeconfig_loads_in_all_ways() {
    const text = fs.readFileSync(process.env.KUBECONFIG, 'utf8');
    const one = new k8s.KubeConfig();
    one.loadFromString(text);
    const two = new k8s.KubeConfig();
    two.loadFromDefault();
    const user = config.getCurrentUser();
    const three = new k8s.KubeConfig();
    three.loadFromOptions({
      clusters: [config.getCurrentCluster()],
      users: [user],
      contexts: [{ name: 'c', cluster: config.getCurrentCluster().name, user: user.name }],
      currentContext: 'c',
    });
    for (const each of [one, two, three]) {
      const version = await each.makeApiClient(k8s.VersionApi).getCode();
      assert.match(version.gitVersion, /^v1\.36\./);
    }
    const health = new k8s.Health(config);
    assert.equal(await health.readyz({}), true);
    assert.equal(await health.livez({}), true);
  },

  async create_read_list_delete() {
    await core.createNamespacedConfigMap({ namespace, body: configMap('one', { a: 'b' }) });
    assert.deepEqual((await core.readNamespacedConfigMap({ namespace, name: 'one' })).data, { a: 'b' });
    for (let n = 0; n < 5; n++) {
      await core.createNamespacedConfigMap({ namespace, body: configMap(`page-${n}`, {}, { for: 'pages' }) });
    }
    const sizes = [];
    let _continue;
    do {
      const page = await core.listNamespacedConfigMap({ namespace, labelSelector: 'for=pages', limit: 2, _continue });
      sizes.push(page.items.length);
      _continue = page.metadata._continue;
    } while (_continue);
    assert.deepEqual(sizes, [2, 2, 1]);
    await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'for=pages' });
    await core.deleteNamespacedConfigMap({ namespace, name: 'one' });
    const body = await refused(404, core.readNamespacedConfigMap({ namespace, name: 'one' }));
    assert.equal(body.reason, 'NotFound');
  },

  async error_bodies() {
    await core.createNamespacedConfigMap({ namespace, body: configMap('twice') });
    const body = await refused(409, core.createNamespacedConfigMap({ namespace, body: configMap('twice') }));
    assert.equal(body.reason, 'AlreadyExists');
    const invalid = await refused(422, core.createNamespacedConfigMap({ namespace, body: configMap('No_Name') }));
    assert.equal(invalid.details.causes[0].field, 'metadata.name');
  },

  async patches() {
    const labels = { app: 'p' };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'a', image: 'a' }] } };
    const body = { metadata: { name: 'p' }, spec: { replicas: 0, selector: { matchLabels: labels }, template } };
    await apps.createNamespacedDeployment({ namespace, body });
    const as = (kind) => k8s.setHeaderOptions('Content-Type', kind);
    const names = (made) => made.spec.template.spec.containers.map((c) => c.name).sort();
    const more = { spec: { template: { spec: { containers: [{ name: 'b', image: 'b' }] } } } };
    const patch = (body, kind, rest = {}) =>
      apps.patchNamespacedDeployment({ namespace, name: 'p', body, ...rest }, as(kind));
    assert.deepEqual(names(await patch(more, k8s.PatchStrategy.StrategicMergePatch)), ['a', 'b']);
    assert.deepEqual(names(await patch(more, k8s.PatchStrategy.MergePatch)), ['b']);
    const steps = [{ op: 'replace', path: '/spec/template/spec/containers/0/image', value: 'c' }];
    const made = await patch(steps, k8s.PatchStrategy.JsonPatch);
    assert.equal(made.spec.template.spec.containers[0].image, 'c');
    const applied = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'p' }, spec: { revisionHistoryLimit: 3 } };
    const owned = await patch(applied, k8s.PatchStrategy.ServerSideApply, { fieldManager: 'node', force: true });
    assert.ok(owned.metadata.managedFields.some((m) => m.manager === 'node' && m.operation === 'Apply'));
    const scaled = await apps.patchNamespacedDeploymentScale({ namespace, name: 'p', body: { spec: { replicas: 2 } } },
      as(k8s.PatchStrategy.MergePatch));
    assert.equal(scaled.spec.replicas, 2);
    await apps.deleteNamespacedDeployment({ namespace, name: 'p', propagationPolicy: 'Background' });
  },

  async server_side_apply_conflicts() {
    const apply = (manager, data, force) => objects.patch(configMap('applied', data), undefined, undefined, manager, force,
      k8s.PatchStrategy.ServerSideApply);
    await apply('one', { a: '1' });
    const body = await refused(409, apply('two', { a: '2' }));
    assert.equal(body.details.causes[0].reason, 'FieldManagerConflict');
    assert.equal((await apply('two', { a: '2' }, true)).data.a, '2');
  },

  async objects_of_any_kind() {
    const list = await objects.list('v1', 'ConfigMap', namespace, undefined, undefined, undefined, undefined, 'no=such');
    assert.deepEqual(list.items, []);
    const made = await objects.create({
      apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'np', namespace },
      spec: { podSelector: {}, policyTypes: ['Ingress'] },
    });
    made.spec.policyTypes = ['Ingress', 'Egress'];
    assert.equal((await objects.replace(made)).metadata.generation, 2);
    await refused(409, objects.replace(made));
    await objects.delete(made);
    const documents = k8s.loadAllYaml('kind: ConfigMap\napiVersion: v1\nmetadata: {name: y}\n---\nkind: Secret\napiVersion: v1\nmetadata: {name: y}\n');
    for (const each of documents) {
      each.metadata.namespace = namespace;
      await objects.create(each);
    }
  },

  async watches() {
    const { metadata: { resourceVersion } } = await core.listNamespacedConfigMap({ namespace });
    await core.createNamespacedConfigMap({ namespace, body: configMap('watched', {}, { for: 'watch' }) });
    await core.deleteNamespacedConfigMap({ namespace, name: 'watched' });
    const seen = [];
    await until(maps, { labelSelector: 'for=watch', resourceVersion, allowWatchBookmarks: true }, (kind) => {
      if (kind !== 'BOOKMARK') seen.push(kind);
      return kind === 'DELETED';
    });
    assert.deepEqual(seen, ['ADDED', 'DELETED']);
    // A streaming list: what is there, then a bookmark that says so.
    const query = { sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan', allowWatchBookmarks: true };
    const mark = await until(maps, query, (kind) => kind === 'BOOKMARK');
    assert.equal(mark.metadata.annotations['k8s.io/initial-events-end'], 'true');
  },

  async informer() {
    const seen = [];
    const waiters = [];
    const note = (kind) => (object) => {
      seen.push(`${kind} ${object.metadata.name}`);
      waiters.splice(0).forEach((wake) => wake());
    };
    const until = async (event) => {
      while (!seen.includes(event)) await new Promise((wake) => waiters.push(wake));
    };
    await core.createNamespacedConfigMap({ namespace, body: configMap('before', {}, { for: 'informer' }) });
    const labelSelector = 'for=informer';
    const informer = k8s.makeInformer(config, maps, () => core.listNamespacedConfigMap({ namespace, labelSelector }), labelSelector);
    for (const kind of ['add', 'update', 'delete']) informer.on(kind, note(kind));
    informer.on('error', (error) => seen.push(String(error)));
    await informer.start();
    await until('add before');
    await core.createNamespacedConfigMap({ namespace, body: configMap('after', {}, { for: 'informer' }) });
    await until('add after');
    await core.replaceNamespacedConfigMap({ namespace, name: 'after', body: configMap('after', { a: 'b' }, { for: 'informer' }) });
    await until('update after');
    assert.equal(informer.get('after', namespace).data.a, 'b');
    await core.deleteNamespacedConfigMap({ namespace, name: 'before' });
    await until('delete before');
    assert.equal(informer.list(namespace).length, 1);
    await informer.stop();
  },

  async custom_resources() {
    const extensions = config.makeApiClient(k8s.ApiextensionsV1Api);
    const custom = config.makeApiClient(k8s.CustomObjectsApi);
    const name = 'crates.node.test';
    const openAPIV3Schema = {
      type: 'object',
      properties: {
        spec: { type: 'object', properties: { size: { type: 'integer' } }, x_kubernetes_validations: [{ rule: 'self.size > 0', message: 'must hold something' }] },
        status: { type: 'object', properties: { seen: { type: 'boolean' } } },
      },
    };
    await extensions.createCustomResourceDefinition({
      body: {
        metadata: { name },
        spec: {
          group: 'node.test', scope: 'Namespaced', names: { plural: 'crates', kind: 'Crate' },
          versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema }, subresources: { status: {} } }],
        },
      },
    });
    await until('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', { fieldSelector: `metadata.name=${name}` },
      (_, object) => object.status?.conditions?.some((c) => c.type === 'Established' && c.status === 'True'));
    const of = { group: 'node.test', version: 'v1', namespace, plural: 'crates' };
    const body = (size) => ({ apiVersion: 'node.test/v1', kind: 'Crate', metadata: { name: 'c' }, spec: { size } });
    const invalid = await refused(422, custom.createNamespacedCustomObject({ ...of, body: body(0) }));
    assert.match(invalid.message, /must hold something/);
    await custom.createNamespacedCustomObject({ ...of, body: body(1) });
    const merge = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
    const seen = await custom.patchNamespacedCustomObjectStatus({ ...of, name: 'c', body: { status: { seen: true } } }, merge);
    assert.equal(seen.status.seen, true);
    const list = await custom.listNamespacedCustomObject(of);
    assert.deepEqual([list.kind, list.items.length], ['CrateList', 1]);
    const found = await objects.read({ apiVersion: 'node.test/v1', kind: 'Crate', metadata: { name: 'c', namespace } });
    assert.equal(found.spec.size, 1);
    await extensions.deleteCustomResourceDefinition({ name });
  },

  async pods_become_ready() {
    await core.createNamespacedPod({ namespace, body: pod('web') });
    await core.createNamespacedPod({ namespace, body: pod('echo', ['sh', '-c', 'while read l; do echo "got $l"; [ "$l" = end ] && exit; done'], { stdin: true }) });
    await Promise.all([ready('web'), ready('echo')]);
  },

  async exec_gives_output_errors_and_codes() {
    const hello = await execute('web', ['sh', '-c', 'echo out; echo err >&2']);
    assert.deepEqual([hello.said, hello.complained, hello.status.status], ['out\n', 'err\n', 'Success']);
    const failed = await execute('web', ['sh', '-c', 'exit 7']);
    assert.equal(failed.status.reason, 'NonZeroExitCode');
    assert.deepEqual(failed.status.details.causes, [{ reason: 'ExitCode', message: '7' }]);
    const input = new PassThrough();
    const asked = execute('web', ['sh', '-c', 'read word; echo "said $word"'], { input });
    input.write('please\n');
    assert.equal((await asked).said, 'said please\n');
    const terminal = await execute('web', ['sh', '-c', 'tty'], { input: new PassThrough(), tty: true });
    assert.match(terminal.said, /\/dev\/pts\//);
  },

  async attach_talks_to_a_container() {
    const [input, output, errors] = [new PassThrough(), new PassThrough(), new PassThrough()];
    const said = collect(output);
    const socket = await new k8s.Attach(config).attach(namespace, 'echo', 'it', output, errors, input, false);
    const closed = once(socket, 'close');
    const first = once(output, 'data');
    input.write('hello\n');
    await first;
    input.write('end\n');
    await closed;
    assert.equal(said.text, 'got hello\ngot end\n');
  },

  async port_forward() {
    const forward = new k8s.PortForward(config);
    const server = net.createServer((socket) => {
      forward.portForward(namespace, 'web', [80], socket, null, socket).catch((error) => socket.destroy(error));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const socket = net.connect(server.address().port, '127.0.0.1');
    const answer = collect(socket);
    socket.write('GET / HTTP/1.0\r\n\r\n');
    while (!answer.text.includes('Welcome')) await once(socket, 'data');
    socket.destroy();
    server.close();
  },

  async logs_follow() {
    await core.createNamespacedPod({ namespace, body: pod('talk', ['sh', '-c', 'echo one; read l; echo two'], { stdin: true, stdinOnce: true }) });
    await until(pods, { fieldSelector: 'metadata.name=talk' }, (_, object) => object.status?.containerStatuses?.[0]?.state?.running);
    const output = new PassThrough();
    const said = collect(output);
    const ended = once(output, 'end');
    await new k8s.Log(config).log(namespace, 'talk', 'it', output, { follow: true });
    while (said.text !== 'one\n') await once(output, 'data');
    const input = new PassThrough();
    await new k8s.Attach(config).attach(namespace, 'talk', 'it', new PassThrough(), null, input, false);
    input.write('go on\n');
    while (said.text !== 'one\ntwo\n') await once(output, 'data');
    await ended;
    const tail = await core.readNamespacedPodLog({ namespace, name: 'web', tailLines: 1, timestamps: true });
    assert.match(tail, /^\d{4}-\d\d-\d\dT[\d:.]+Z started/);
  },

  async copies_files() {
    const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'client-node-'));
    try {
      fs.mkdirSync(path.join(dir, 'from'));
      fs.mkdirSync(path.join(dir, 'to'));
      const bytes = Buffer.alloc(300_000, 'copied ');
      fs.writeFileSync(path.join(dir, 'from', 'file'), bytes);
      // The client does not wait for the end of what it starts, and unpacks without gunzip what it asks to be gzipped.
      const exec = new k8s.Exec(config);
      let ended;
      const waiting = {
        exec(space, name, container, command, output, errors, input, tty, report) {
          const plain = command.map((word) => (word === 'zcf' ? 'cf' : word));
          ended = new Promise((done, fail) => {
            const unpacked = output ? once(output, 'finish') : null;
            exec.exec(space, name, container, plain, output, errors, input, tty, async (status) => {
              output?.end();
              await unpacked;
              done(status);
              report(status);
            }).catch(fail);
          });
          return ended;
        },
      };
      const cp = new k8s.Cp(config, waiting);
      await cp.cpToPod(namespace, 'web', 'it', path.join(dir, 'from'), '/tmp');
      // `tar` ends with its input's last block.
      assert.equal((await ended).status, 'Success');
      assert.equal((await execute('web', ['sh', '-c', 'wc -c < /tmp/file'])).said.trim(), String(bytes.length));
      await cp.cpFromPod(namespace, 'web', 'it', 'file', path.join(dir, 'to'), '/tmp');
      assert.equal((await ended).status, 'Success');
      assert.ok(fs.readFileSync(path.join(dir, 'to', 'file')).equals(bytes));
    } finally {
      fs.rmSync(dir, { recursive: true });
    }
  },

  async metrics() {
    const groups = await config.makeApiClient(k8s.ApisApi).getAPIVersions();
    const nodes = await k8s.topNodes(core);
    assert.ok(nodes.length > 0 && nodes[0].CPU.Capacity > 0);
    if (!groups.groups.some((group) => group.name === 'metrics.k8s.io')) throw new Skip('metrics.k8s.io is not served');
    await new k8s.Metrics(config).getNodeMetrics();
  },

  async tokens_and_identity() {
    const body = { spec: { audiences: [], expirationSeconds: 600 } };
    const made = await core.createNamespacedServiceAccountToken({ namespace, name: 'default', body });
    const other = new k8s.KubeConfig();
    other.loadFromClusterAndUser(config.getCurrentCluster(), { name: 'account', token: made.status.token });
    const who = await other.makeApiClient(k8s.AuthenticationV1Api).createSelfSubjectReview({ body: {} });
    assert.equal(who.status.userInfo.username, `system:serviceaccount:${namespace}:default`);
    const forbidden = await refused(403, other.makeApiClient(k8s.CoreV1Api).listNode());
    assert.equal(forbidden.reason, 'Forbidden');
  },
};

await core.createNamespace({ body: { metadata: { name: namespace } } });
await until(`/api/v1/namespaces/${namespace}/serviceaccounts`, {}, (_, object) => object.metadata.name === 'default');
await run(cases);
