//! What people do with etcdctl (`ETCDCTL_BIN`, else on `PATH`; skipped without).

use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::Server;

struct Ctl {
    program: PathBuf,
    endpoint: String,
}

impl Ctl {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // It warns of every variable with its prefix that it does not know.
        command.env_remove("ETCDCTL_BIN").arg("--endpoints").arg(&self.endpoint).args(args);
        command
    }

    fn all(&self, args: &[&str]) -> (bool, String) {
        let output = self.command(args).output().expect("etcdctl runs");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// The output of a command that must succeed.
    fn run(&self, args: &[&str]) -> String {
        let (success, text) = self.all(args);
        assert!(success, "etcdctl {args:?}: {text}");
        text
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_finds_etcd() {
    let Some(program) = testkit::etcd::program("ETCDCTL_BIN", "etcdctl") else {
        eprintln!("skipped: no etcdctl (set ETCDCTL_BIN or put it on PATH)");
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(&dir.path().join("db"), &[]).await;
    let ctl = Ctl { program, endpoint: server.endpoint.clone() };
    tokio::task::spawn_blocking(move || {
        keys(&ctl);
        transactions(&ctl);
        watches(&ctl);
        leases(&ctl);
        administration(&ctl);
    })
    .await
    .expect("the steps pass");
    assert_eq!(server.stop().await, 0);
}

fn keys(ctl: &Ctl) {
    assert_eq!(ctl.run(&["put", "/a", "1"]), "OK");
    assert_eq!(ctl.run(&["put", "--prev-kv", "/a", "2"]), "OK\n/a\n1");
    ctl.run(&["put", "/b", "0"]);
    assert_eq!(ctl.run(&["get", "/a"]), "/a\n2");
    assert_eq!(ctl.run(&["get", "--prefix", "/", "--keys-only"]), "/a\n\n/b");
    assert_eq!(ctl.run(&["get", "--prefix", "/", "--order=DESCEND", "--limit=1"]), "/b\n0");
    assert_eq!(ctl.run(&["get", "--prefix", "/", "--sort-by=VALUE", "--print-value-only"]), "0\n2");
    assert_eq!(ctl.run(&["get", "--from-key", "/b"]), "/b\n0");
    assert!(ctl.run(&["get", "--prefix", "/", "--count-only", "--write-out=fields"]).contains("\"Count\" : 2"));
    assert_eq!(ctl.run(&["get", "/a", "--rev=2"]), "/a\n1");
    assert_eq!(ctl.run(&["del", "--prev-kv", "/b"]), "1\n/b\n0");
    let (success, text) = ctl.all(&["get", "/a", "--rev=1000"]);
    assert!(!success && text.contains("required revision is a future revision"), "{text}");
    assert!(ctl.run(&["compaction", "4"]).contains("compacted revision 4"));
    let (success, text) = ctl.all(&["get", "/a", "--rev=2"]);
    assert!(!success && text.contains("required revision has been compacted"), "{text}");
}

fn transactions(ctl: &Ctl) {
    let mut child =
        ctl.command(&["txn", "-i=false"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("etcdctl runs");
    let script = "val(\"/a\") = \"2\"\nver(\"/none\") = \"0\"\n\nput /t done\nget /a\n\nput /t missed\n\n";
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("write");
    let output = child.wait_with_output().expect("wait");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("SUCCESS") && text.contains("/a\n2"), "{text}");
    assert_eq!(ctl.run(&["get", "/t", "--print-value-only"]), "done");
}

fn watches(ctl: &Ctl) {
    let mut child = ctl
        .command(&["watch", "--prefix", "/w", "--rev=1", "--prev-kv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("etcdctl runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let first = lines.next();
    // Revision 1 was compacted: the watch says so and ends.
    assert!(first.is_none() || first.is_some_and(|line| line.expect("a line").contains("compacted")));
    child.wait().expect("wait");
    ctl.run(&["put", "/w/1", "x"]);
    let mut child =
        ctl.command(&["watch", "--prefix", "/w", "--rev=6"]).stdout(Stdio::piped()).spawn().expect("etcdctl runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut take =
        |count: usize| (0..count).map(|_| lines.next().expect("a line").expect("a line")).collect::<Vec<_>>().join(" ");
    assert_eq!(take(3), "PUT /w/1 x");
    ctl.run(&["put", "/w/2", "y"]);
    assert_eq!(take(3), "PUT /w/2 y");
    ctl.run(&["del", "/w/1"]);
    assert_eq!(take(2), "DELETE /w/1");
    child.kill().expect("kill");
    child.wait().expect("wait");
}

fn leases(ctl: &Ctl) {
    let granted = ctl.run(&["lease", "grant", "600"]);
    let id = granted.split(' ').nth(1).expect("an id").to_owned();
    ctl.run(&["put", "/leased", "x", "--lease", &id]);
    assert!(ctl.run(&["lease", "list"]).contains(&id));
    let status = ctl.run(&["lease", "timetolive", &id, "--keys"]);
    assert!(status.contains("granted with TTL(600s)") && status.contains("/leased"), "{status}");
    assert!(ctl.run(&["lease", "keep-alive", "--once", &id]).contains("keepalived with TTL(600)"));
    ctl.run(&["lease", "revoke", &id]);
    assert_eq!(ctl.run(&["get", "/leased"]), "");
    let (_, text) = ctl.all(&["lease", "timetolive", &id]);
    assert!(text.contains("already expired"), "{text}");
}

fn administration(ctl: &Ctl) {
    assert!(ctl.run(&["endpoint", "health"]).contains("is healthy"));
    let status = ctl.run(&["endpoint", "status"]);
    assert!(status.contains(etcd_server::API_VERSION) && status.contains("true"), "{status}");
    assert!(ctl.run(&["member", "list"]).contains("started, default"));
    assert_eq!(ctl.run(&["alarm", "list"]), "");
    assert!(ctl.run(&["defrag"]).contains("Finished defragmenting"));
    let (success, text) = ctl.all(&["user", "list"]);
    assert!(!success && text.contains("no users"), "{text}");
    let file = std::env::temp_dir().join(format!("snapshot-{}", std::process::id()));
    let (success, text) = ctl.all(&["snapshot", "save", &file.to_string_lossy()]);
    assert!(!success && text.contains("no bbolt file"), "{text}");
}
