// API servers that trust a real OpenID provider: `oidc.mjs KUBECTL CORTEN DIR TOKEN`. Its tokens come by the code flow, and are
// signed with the keys that it publishes, over TLS with an authority of the test's own.

import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import crypto from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import https from 'node:https';
import net from 'node:net';
import path from 'node:path';
import readline from 'node:readline';

import { Provider } from 'oidc-provider';

import { run, within } from './check.mjs';

const [kubectl, corten, dir, admin] = process.argv.slice(2);
const file = (name) => path.join(dir, name);
const children = [];
process.on('SIGTERM', () => process.exit(1));
process.on('exit', () => children.forEach((child) => child.kill('SIGKILL')));

// -- certificates

fs.writeFileSync(file('openssl.cnf'), `[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
`);
function certificate(name, kind, ...more) {
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
    '-config', file('openssl.cnf'), '-extensions', kind, '-subj', `/CN=${name}`,
    '-keyout', file(`${name}.key`), '-out', file(`${name}.crt`), ...more], { stdio: 'ignore' });
}
certificate('ca', 'ca');
certificate('server', 'leaf', '-CA', file('ca.crt'), '-CAkey', file('ca.key'));
const ca = fs.readFileSync(file('ca.crt'));

// -- the provider

const accounts = {
  alice: { email: 'alice@oidc.test', email_verified: true, groups: ['developers', 'people'] },
  mallory: { email: 'mallory@oidc.test', email_verified: false, groups: ['people'] },
  system: { email: 'system@oidc.test', email_verified: true, groups: ['people'] },
};
const callback = 'https://localhost/callback';
let issuer;
let serving;

// A provider with a key of its own, in place of the one before.
function rotate(kid) {
  const { privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
  const key = { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' };
  const provider = new Provider(issuer, {
    jwks: { keys: [key] },
    clients: ['kubernetes', 'other'].map((client_id) => ({ client_id, client_secret: 'secret', redirect_uris: [callback] })),
    claims: { openid: ['sub', 'email', 'email_verified', 'groups'] },
    conformIdTokenClaims: false,
    pkce: { required: () => false },
    cookies: { keys: ['a key'] },
    ttl: { IdToken: 600, AccessToken: 600, Grant: 600, Session: 600, Interaction: 600 },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...accounts[id] }) }),
  });
  serving = provider.callback();
}

const server = https.createServer({ key: fs.readFileSync(file('server.key')), cert: fs.readFileSync(file('server.crt')) },
  (request, response) => serving(request, response));
server.listen(0, '127.0.0.1');
await once(server, 'listening');
issuer = `https://127.0.0.1:${server.address().port}`;
// It warns of what is not for production.
console.warn = console.info = () => {};
rotate('first');

function ask(where, { method = 'GET', form, cookies } = {}) {
  return new Promise((done, fail) => {
    const body = form && new URLSearchParams(form).toString();
    const headers = body ? { 'content-type': 'application/x-www-form-urlencoded', 'content-length': body.length } : {};
    if (cookies) headers.cookie = Object.entries(cookies).map(([name, value]) => `${name}=${value}`).join('; ');
    const request = https.request(new URL(where, issuer), { method, headers, ca }, (response) => {
      let text = '';
      response.on('data', (part) => (text += part));
      response.on('end', () => {
        for (const line of response.headers['set-cookie'] ?? []) {
          const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
          if (cookies) cookies[name] = value;
        }
        done({ code: response.statusCode, location: response.headers.location, text });
      });
    });
    request.on('error', fail);
    request.end(body);
  });
}

// Logs in as a person would, and gives the ID token.
async function login(account, client_id = 'kubernetes') {
  const cookies = {};
  const query = new URLSearchParams({ client_id, response_type: 'code', scope: 'openid', redirect_uri: callback });
  let answer = await ask(`/auth?${query}`, { cookies });
  const forms = [{ prompt: 'login', login: account, password: 'any' }, { prompt: 'consent' }];
  while (answer.location && !answer.location.startsWith(callback)) {
    answer = answer.location.includes('/interaction/')
      ? await ask(answer.location, { method: 'POST', form: forms.shift(), cookies })
      : await ask(answer.location, { cookies });
  }
  assert.ok(answer.location, `no way through the login: ${answer.code} ${answer.text.slice(0, 300)}`);
  const code = new URL(answer.location).searchParams.get('code');
  const form = { grant_type: 'authorization_code', code, redirect_uri: callback, client_id, client_secret: 'secret' };
  const basic = await ask('/token', { method: 'POST', form: { ...form }, cookies });
  if (basic.code === 200) return JSON.parse(basic.text).id_token;
  throw new Error(`no token: ${basic.code} ${basic.text}`);
}

// -- API servers

async function freePort() {
  const bound = net.createServer().listen(0, '127.0.0.1');
  await once(bound, 'listening');
  const { port } = bound.address();
  bound.close();
  await once(bound, 'close');
  return port;
}

function start(ready, ...words) {
  const child = spawn(corten, words, { stdio: ['ignore', 'ignore', 'pipe'] });
  children.push(child);
  const lines = [];
  return within(new Promise((done, fail) => {
    readline.createInterface({ input: child.stderr }).on('line', (line) => {
      lines.push(line);
      if (line.includes(ready)) done(lines);
    });
    child.on('exit', () => fail(new Error(`${words[0]} ended: ${lines.join(' ')}`)));
  }), words[0]);
}

execFileSync('openssl', ['genrsa', '-out', file('sa.key'), '2048'], { stdio: 'ignore' });
fs.writeFileSync(file('tokens'), `${admin},admin,1,"system:masters"\n`);

async function apiServer(name, ...flags) {
  const etcd = `http://127.0.0.1:${await freePort()}`;
  await start('serving insecure on', 'etcd', '--data-dir', file(`${name}-etcd`), '--listen-client-urls', etcd,
    '--advertise-client-urls', etcd);
  const port = await freePort();
  const log = await start('API server started', 'kube-apiserver', `--etcd-servers=${etcd}`, `--secure-port=${port}`,
    '--bind-address=127.0.0.1', '--service-cluster-ip-range=10.0.0.0/24', '--authorization-mode=RBAC',
    `--token-auth-file=${file('tokens')}`, `--cert-dir=${file(name)}`,
    '--service-account-issuer=https://kubernetes.default.svc', `--service-account-signing-key-file=${file('sa.key')}`,
    `--service-account-key-file=${file('sa.key')}`, ...flags);
  const as = (token, ...words) => new Promise((done) => {
    const all = ['--kubeconfig=/dev/null', `--server=https://127.0.0.1:${port}`, '--insecure-skip-tls-verify', `--token=${token}`];
    // Not waited for in a way that would stop the provider.
    execFile(kubectl, [...all, ...words], { timeout: 60_000 }, (error, output, errors) =>
      done({ worked: !error, text: output + errors }));
  });
  const who = async (token) => {
    const said = await as(token, 'auth', 'whoami', '-o', 'json');
    assert.ok(said.worked, `${said.text} | ${log.slice(-5).join(' | ')}`);
    return JSON.parse(said.text).status.userInfo;
  };
  const refused = async (token) => {
    const said = await as(token, 'auth', 'whoami');
    assert.ok(!said.worked && /Unauthorized|must be logged in/.test(said.text), `not refused: ${said.text}`);
  };
  return { as, who, refused, log };
}

// A server asks the provider when it begins, and knows no token before.
async function ready(server, token) {
  for (let n = 0; n < 100; n++) {
    if ((await server.as(token, 'auth', 'whoami')).worked) return;
  }
  throw new Error(`the token is never known: ${server.log.join('\n')}`);
}

const flags = await apiServer('flags', `--oidc-issuer-url=${issuer}`, '--oidc-client-id=kubernetes', `--oidc-ca-file=${file('ca.crt')}`,
  '--oidc-username-claim=email', '--oidc-username-prefix=oidc:', '--oidc-groups-claim=groups', '--oidc-groups-prefix=oidc:');
fs.writeFileSync(file('authentication.json'), JSON.stringify({
  apiVersion: 'apiserver.config.k8s.io/v1',
  kind: 'AuthenticationConfiguration',
  jwt: [{
    issuer: { url: issuer, audiences: ['kubernetes', 'other'], audienceMatchPolicy: 'MatchAny', certificateAuthority: ca.toString() },
    claimValidationRules: [{ expression: 'claims.email_verified == true', message: 'the address must be verified' }],
    claimMappings: {
      username: { expression: '"cel:" + claims.email.split("@")[0]' },
      groups: { expression: 'claims.groups.map(g, "cel:" + g)' },
      uid: { expression: 'claims.sub' },
      extra: [{ key: 'oidc.test/first', valueExpression: 'claims.groups[0]' }],
    },
    userValidationRules: [{ expression: "!user.username.startsWith('cel:system')", message: 'that name is reserved' }],
  }],
}));
const structured = await apiServer('structured', `--authentication-config=${file('authentication.json')}`);

let alice;
const cases = {
  async tokens_are_real() {
    alice = await login('alice');
    const [head, claims] = alice.split('.').slice(0, 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
    assert.deepEqual([head.alg, head.kid, claims.iss, claims.aud], ['RS256', 'first', issuer, 'kubernetes']);
    await ready(flags, alice);
    await ready(structured, alice);
  },

  async flags_map_claims() {
    const user = await flags.who(alice);
    assert.equal(user.username, 'oidc:alice@oidc.test');
    assert.deepEqual(user.groups, ['oidc:developers', 'oidc:people', 'system:authenticated']);
  },

  async roles_are_given_to_groups() {
    for (const words of ['create clusterrole maps --verb=get,list --resource=configmaps',
      'create clusterrolebinding maps --clusterrole=maps --group=oidc:developers']) {
      const given = await flags.as(admin, ...words.split(' '));
      assert.ok(given.worked, given.text);
    }
    const said = await flags.as(alice, 'get', 'configmaps');
    assert.ok(said.worked, said.text);
    const denied = await flags.as(alice, 'create', 'configmap', 'x');
    assert.match(denied.text, /forbidden: User "oidc:alice@oidc.test" cannot create resource "configmaps"/);
  },

  async structured_configuration_maps_claims() {
    const user = await structured.who(alice);
    assert.deepEqual([user.username, user.uid], ['cel:alice', 'alice']);
    assert.deepEqual(user.groups, ['cel:developers', 'cel:people', 'system:authenticated']);
    assert.deepEqual(user.extra['oidc.test/first'], ['developers']);
  },

  async claims_and_users_are_validated() {
    await structured.refused(await login('mallory'));
    // An address that is not verified is no name by the flags, either.
    await flags.refused(await login('mallory'));
    await structured.refused(await login('system'));
    assert.equal((await flags.who(await login('system'))).username, 'oidc:system@oidc.test');
  },

  async audiences() {
    const other = await login('alice', 'other');
    await flags.refused(other);
    assert.equal((await structured.who(other)).username, 'cel:alice');
  },

  async expired_tokens_are_refused() {
    const now = Date.now;
    // An hour ago for the provider, which is in this process.
    Date.now = () => now() - 3_600_000;
    const old = await login('alice').finally(() => (Date.now = now));
    await flags.refused(old);
    await structured.refused(old);
  },

  async forged_tokens_are_refused() {
    const [head, claims, signature] = alice.split('.');
    const changed = { ...JSON.parse(Buffer.from(claims, 'base64url')), email: 'root@oidc.test' };
    await flags.refused([head, Buffer.from(JSON.stringify(changed)).toString('base64url'), signature].join('.'));
    const none = Buffer.from('{"alg":"none"}').toString('base64url');
    await flags.refused(`${none}.${claims}.`);
    const { privateKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
    const signed = crypto.sign('sha256', Buffer.from(`${head}.${claims}`), privateKey).toString('base64url');
    await structured.refused(`${head}.${claims}.${signed}`);
  },

  async keys_rotate() {
    // Not shown to a server before: one that was seen to be good stays so for ten seconds.
    const old = await login('alice');
    rotate('second');
    const fresh = await login('alice');
    assert.equal(JSON.parse(Buffer.from(fresh.split('.')[0], 'base64url')).kid, 'second');
    for (const server of [flags, structured]) {
      await server.who(fresh);
      // The keys are those that are published now.
      await server.refused(old);
    }
  },
};
await run(cases);
