//! The runtime against the real kernel: root only, each test in its own root, pods made of a static busybox.

mod fixture;

use std::time::{Duration, Instant};

use fixture::{Fixture, container, sandbox};
use futures::StreamExt;
use node_api::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_container_runs_to_its_end_and_its_log_is_complete() {
    let f = Fixture::new().await;
    let pod = f.run(&sandbox("logs")).await;
    let mut events = f.runtime.container_events().await.unwrap();
    let script = "echo out; echo err >&2; printf 'no newline'; exit 3";
    let id = f.start(&pod, &container("c", &["sh", "-c", script])).await;
    let status = f.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (3, REASON_ERROR));
    assert!(status.started_at > 0 && status.finished_at > status.started_at);
    let log = std::fs::read_to_string(&status.log_path).unwrap();
    let lines: Vec<&str> = log.lines().map(|l| l.split_once(' ').unwrap().1).collect();
    assert!(lines.contains(&"stdout F out") && lines.contains(&"stderr F err"), "{log}");
    assert!(lines.contains(&"stdout P no newline"), "{log}");
    let mut seen = Vec::new();
    while seen.last() != Some(&ContainerEventType::Stopped) {
        seen.push(events.next().await.unwrap().event_type);
    }
    assert_eq!(seen, [ContainerEventType::Created, ContainerEventType::Started, ContainerEventType::Stopped]);
    f.close().await;
}

#[tokio::test]
async fn what_cannot_run_is_named() {
    let f = Fixture::new().await;
    let pod = f.run(&sandbox("missing")).await;
    let id = f.runtime.create_container(&pod, &container("c", &["nosuch"])).await.unwrap();
    let error = f.runtime.start_container(&id).await.unwrap_err();
    assert!(error.chain().contains(r#"exec: "nosuch": executable file not found in $PATH"#), "{}", error.chain());
    let status = f.runtime.container_status(&id).await.unwrap();
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 128));
    assert_eq!(status.reason, REASON_START_ERROR);
    for fd in 3..40 {
        let config = ContainerConfig { working_dir: format!("/proc/self/fd/{fd}"), ..container("c", &["true"]) };
        let id = f.runtime.create_container(&pod, &config).await.unwrap();
        assert!(f.runtime.start_container(&id).await.is_err(), "escaped through descriptor {fd}");
    }
    f.close().await;
}

#[tokio::test]
async fn identity_confinement_and_mounts_are_as_configured() {
    let f = Fixture::new().await;
    let pod = f.run(&sandbox("confined")).await;
    let volume = f.dir.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    std::fs::write(volume.join("file"), "content").unwrap();
    let mut config = container("c", &["sleep", "1000"]);
    let security = &mut config.linux.security_context;
    security.run_as_user = Some(1234);
    security.run_as_group = Some(5678);
    security.supplemental_groups = vec![60000];
    security.no_new_privs = true;
    security.readonly_rootfs = true;
    security.seccomp = SecurityProfile::RuntimeDefault;
    security.capabilities.drop = vec!["ALL".to_owned()];
    security.masked_paths = vec!["/proc/uptime".to_owned(), "/sys/firmware".to_owned()];
    security.readonly_paths = vec!["/proc/sys".to_owned()];
    config.envs = vec![KeyValue { key: "data-1".to_owned(), value: "x y".to_owned() }];
    config.mounts = vec![Mount {
        container_path: "/data/sub".to_owned(),
        host_path: volume.display().to_string(),
        readonly: true,
        ..Mount::default()
    }];
    let id = f.start(&pod, &config).await;
    let cases: &[(&str, &str)] = &[
        ("id -u; id -g; id -G", "1234\n5678\n5678 60000\n"),
        (
            "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'",
            "CapEff:0000000000000000\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n",
        ),
        ("cat /data/sub/file; touch /data/sub/x 2>&1 | grep -o Read-only", "contentRead-only\n"),
        ("touch /x 2>&1 | grep -o Read-only", "Read-only\n"),
        ("hostname; cat /etc/hostname", "confined\nconfined\n"),
        ("cat /etc/resolv.conf", "search a.b\nnameserver 10.0.0.1\noptions ndots:5\n"),
        ("tr '\\0' '\\n' < /proc/1/environ | grep data-1", "data-1=x y\n"),
        ("cat /proc/1/comm; ps | grep -c '[s]leep'", "sleep\n1\n"),
        ("wc -c < /proc/uptime; ls /sys/firmware | wc -l", "0\n0\n"),
        ("echo 1 > /proc/sys/kernel/panic 2>&1 || echo denied", "denied\n"),
        ("echo x > /dev/null && ls -d /dev/fd /dev/shm /dev/mqueue /dev/pts/ptmx | wc -l", "4\n"),
        ("cat /proc/self/cgroup | grep memory | grep -o ':/$'", ":/\n"),
        ("ip -o link | wc -l", "1\n"),
    ];
    for (script, expect) in cases {
        let cmd = ["sh", "-c", script].map(str::to_owned);
        let got = f.runtime.exec_sync(&id, &cmd, Some(Duration::from_secs(10))).await.unwrap();
        let stdout = String::from_utf8_lossy(&got.stdout);
        assert_eq!(stdout, *expect, "{script}: {}", String::from_utf8_lossy(&got.stderr));
    }
    f.close().await;
}

#[tokio::test]
async fn stop_sends_the_signal_then_kills() {
    let f = Fixture::new().await;
    let pod = f.run(&sandbox("stop")).await;
    let trap = "trap 'exit 7' TERM; echo ready; while true; do sleep 0.05; done";
    let id = f.start(&pod, &container("polite", &["sh", "-c", trap])).await;
    f.log_has(&id, "ready").await;
    f.runtime.stop_container(&id, Duration::from_secs(20)).await.unwrap();
    assert_eq!(f.runtime.container_status(&id).await.unwrap().exit_code, 7);
    let id = f.start(&pod, &container("stubborn", &["sleep", "1000"])).await;
    let begin = Instant::now();
    f.runtime.stop_container(&id, Duration::from_millis(200)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert_eq!(f.runtime.container_status(&id).await.unwrap().exit_code, 137);
    f.close().await;
}

#[tokio::test]
async fn exec_streams_and_terminals() {
    let f = Fixture::new().await;
    let pod = f.run(&sandbox("exec")).await;
    let id = f.start(&pod, &container("c", &["sleep", "1000"])).await;
    let request = |cmd: &[&str], tty| ExecRequest {
        container_id: id.clone(),
        cmd: cmd.iter().map(|c| (*c).to_owned()).collect(),
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    };
    let mut cat = f.runtime.exec(&request(&["cat"], false)).await.unwrap();
    let mut stdin = cat.stdin.take().unwrap();
    stdin.write_all(b"hello").await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut text = String::new();
    cat.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), cat.exit.await.unwrap()), ("hello", 0));

    let mut shell = f.runtime.exec(&request(&["sh", "-c", "read x; stty size; tty; exit 4"], true)).await.unwrap();
    shell.resize.send(TerminalSize { width: 100, height: 30 }).await.unwrap();
    shell.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    let mut text = String::new();
    shell.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("30 100") && text.contains("/dev/pts/0"), "{text:?}");
    assert_eq!(shell.exit.await.unwrap(), 4);

    // What is left behind does not keep the command from ending.
    let cmd = ["sh", "-c", "sleep 100 & echo done"].map(str::to_owned);
    let got = f.runtime.exec_sync(&id, &cmd, None).await.unwrap();
    assert_eq!(got.stdout, b"done\n");
    // Nothing of what a short command prints is lost, whoever hears first of its end.
    for _ in 0..100 {
        let got = f.runtime.exec_sync(&id, &["echo", "marco"].map(str::to_owned), None).await.unwrap();
        assert_eq!(got.stdout, b"marco\n");
    }
    let cmd = ["sleep", "100"].map(str::to_owned);
    let late = f.runtime.exec_sync(&id, &cmd, Some(Duration::from_millis(100))).await;
    assert!(matches!(late, Err(Error::DeadlineExceeded(_))));
    f.close().await;
}

#[tokio::test]
async fn attach_and_stdin_once() {
    let f = Fixture::new().await;
    let pod = f.run(&sandbox("attach")).await;
    let config = ContainerConfig { stdin: true, stdin_once: true, ..container("c", &["cat"]) };
    let id = f.start(&pod, &config).await;
    let request = AttachRequest { container_id: id.clone(), stdin: true, stdout: true, stderr: true };
    let mut streams = f.runtime.attach(&request).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    stdin.write_all(b"ping\n").await.unwrap();
    let mut buffer = [0u8; 5];
    streams.stdout.as_mut().unwrap().read_exact(&mut buffer).await.unwrap();
    assert_eq!(&buffer, b"ping\n");
    stdin.shutdown().await.unwrap();
    assert_eq!(streams.exit.await.unwrap(), 0);
    let log = std::fs::read_to_string(f.ended(&id).await.log_path).unwrap();
    assert!(log.contains("stdout F ping"), "{log}");
    f.close().await;
}

#[tokio::test]
async fn a_terminal_is_logged_attached_and_resized() {
    let f = Fixture::new().await;
    let pod = f.run(&sandbox("terminal")).await;
    let script = "read x; stty size; read y; exit 6";
    let config = ContainerConfig { stdin: true, tty: true, ..container("c", &["sh", "-c", script]) };
    let id = f.start(&pod, &config).await;
    let request = AttachRequest { container_id: id.clone(), stdin: true, stdout: true, stderr: true };
    let mut streams = f.runtime.attach(&request).await.unwrap();
    assert!(streams.tty && streams.stderr.is_none());
    streams.resize.send(TerminalSize { width: 90, height: 20 }).await.unwrap();
    // Sizes and input travel on different ways: ask until the size is there.
    let terminal = f
        .runtime
        .exec_sync(
            &id,
            &["sh", "-c", "until stty size < /dev/console | grep -q '20 90'; do :; done"].map(str::to_owned),
            Some(Duration::from_secs(10)),
        )
        .await;
    assert_eq!(terminal.unwrap().exit_code, 0);
    let stdin = streams.stdin.as_mut().unwrap();
    stdin.write_all(b"go\n").await.unwrap();
    f.log_has(&id, "20 90").await;
    stdin.write_all(b"on\n").await.unwrap();
    let mut text = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("20 90"), "{text:?}");
    assert_eq!(streams.exit.await.unwrap(), 6);
    f.close().await;
}

#[tokio::test]
async fn a_rotated_log_is_opened_anew() {
    let f = Fixture::new().await;
    let pod = f.run(&sandbox("rotate")).await;
    let config = ContainerConfig { stdin: true, ..container("c", &["cat"]) };
    let id = f.start(&pod, &config).await;
    let request = AttachRequest { container_id: id.clone(), stdin: true, stdout: false, stderr: false };
    let mut stdin = f.runtime.attach(&request).await.unwrap().stdin.unwrap();
    stdin.write_all(b"before\n").await.unwrap();
    f.log_has(&id, "before").await;
    let log = f.runtime.container_status(&id).await.unwrap().log_path;
    std::fs::rename(&log, format!("{log}.1")).unwrap();
    f.runtime.reopen_container_log(&id).await.unwrap();
    stdin.write_all(b"after\n").await.unwrap();
    f.log_has(&id, "after").await;
    assert!(!std::fs::read_to_string(&log).unwrap().contains("before"));
    f.close().await;
}

#[tokio::test]
async fn on_the_host_network_the_pod_is_the_node() {
    let f = Fixture::new().await;
    let mut config = sandbox("host");
    config.hostname = String::new();
    config.linux.security_context.namespace_options.network = NamespaceMode::Node;
    let pod = f.run(&config).await;
    let mut c =
        container("c", &["sh", "-c", "readlink /proc/self/ns/net; readlink /proc/self/ns/uts; cat /proc/1/comm"]);
    c.linux.security_context.namespace_options.pid = NamespaceMode::Node;
    let id = f.start(&pod, &c).await;
    let log = std::fs::read_to_string(f.ended(&id).await.log_path).unwrap();
    let own = |ns: &str| std::fs::read_link(format!("/proc/self/ns/{ns}")).unwrap().display().to_string();
    assert!(log.contains(&own("net")) && log.contains(&own("uts")), "{log}");
    let status = f.runtime.pod_sandbox_status(&pod).await.unwrap();
    assert_eq!((status.netns, status.network.len()), (None, 0));
    f.close().await;
}

#[tokio::test]
async fn the_oom_killer_is_named() {
    let f = Fixture::new().await;
    let mut config = sandbox("oom");
    config.linux.cgroup_parent = f.cgroup.clone();
    let pod = f.run(&config).await;
    let mut c = container("c", &["sh", "-c", "x=a; while true; do x=$x$x; done"]);
    c.linux.resources.memory_limit_bytes = 16 << 20;
    let id = f.start(&pod, &c).await;
    let status = f.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, REASON_OOM_KILLED));
    f.close().await;
}

#[tokio::test]
async fn limits_are_written_updated_and_measured() {
    let f = Fixture::new().await;
    let mut config = sandbox("limits");
    config.linux.cgroup_parent = f.cgroup.clone();
    let pod = f.run(&config).await;
    let mut c = container("c", &["sleep", "1000"]);
    c.linux.resources = LinuxResources {
        cpu_shares: 512,
        cpu_quota: 20_000,
        cpu_period: 100_000,
        memory_limit_bytes: 64 << 20,
        pids_limit: 50,
        ..LinuxResources::default()
    };
    let id = f.start(&pod, &c).await;
    let memory = || f.runtime.container_stats(&id);
    let stats = memory().await.unwrap();
    let limit = stats.memory.available_bytes.unwrap() + stats.memory.working_set_bytes;
    assert_eq!(limit, 64 << 20);
    assert_eq!(stats.process_count, 1);
    let more = LinuxResources { memory_limit_bytes: 128 << 20, ..LinuxResources::default() };
    f.runtime.update_container_resources(&id, &more).await.unwrap();
    let stats = memory().await.unwrap();
    assert_eq!(stats.memory.available_bytes.unwrap() + stats.memory.working_set_bytes, 128 << 20);
    let status = f.runtime.container_status(&id).await.unwrap();
    assert_eq!((status.resources.memory_limit_bytes, status.resources.cpu_shares), (128 << 20, 512));
    f.close().await;
}

#[tokio::test]
async fn pods_outlive_the_daemon() {
    let mut f = Fixture::new().await;
    let pod = f.run(&sandbox("outlive")).await;
    let running = f.start(&pod, &container("a", &["sh", "-c", "sleep 1000"])).await;
    let ended = f.start(&pod, &container("b", &["sh", "-c", "exit 5"])).await;
    f.ended(&ended).await;
    let created = f.runtime.create_container(&pod, &container("c", &["true"])).await.unwrap();
    f.reopen().await;
    let runtime = &f.runtime;
    let state = |id: String| async move { runtime.container_status(&id).await.unwrap() };
    assert_eq!(state(running.clone()).await.state, ContainerState::Running);
    assert_eq!(state(ended).await.exit_code, 5);
    assert_eq!(state(created.clone()).await.state, ContainerState::Created);
    f.runtime.start_container(&created).await.unwrap();
    assert_eq!(f.ended(&created).await.exit_code, 0);
    let got = f.runtime.exec_sync(&running, &["true".to_owned()], None).await.unwrap();
    assert_eq!(got.exit_code, 0);
    f.close().await;
}

#[tokio::test]
async fn a_killed_supervisor_is_noticed_and_nothing_is_left() {
    let f = Fixture::new().await;
    let mut config = sandbox("killed");
    config.linux.cgroup_parent = f.cgroup.clone();
    let pod = f.run(&config).await;
    let id = f.start(&pod, &container("c", &["sleep", "1000"])).await;
    let pid = f.runtime.container_status(&id).await.unwrap().pid;
    f.kill_supervisor(&pod);
    let status = f.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, REASON_UNKNOWN));
    let state = f.runtime.pod_sandbox_status(&pod).await.unwrap().state;
    assert_eq!(state, PodSandboxState::NotReady);
    f.gone(pid).await;
    f.close().await;
}

#[tokio::test]
async fn containers_share_what_pods_share() {
    let f = Fixture::new().await;
    let mut config = sandbox("shared");
    config.linux.security_context.namespace_options.pid = NamespaceMode::Pod;
    let pod = f.run(&config).await;
    let mut serve = container("serve", &["sh", "-c", "echo hi > /dev/shm/x; nc -l -p 8080 -e echo hello"]);
    serve.linux.security_context.namespace_options.pid = NamespaceMode::Pod;
    let server = f.start(&pod, &serve).await;
    let script =
        "cat /proc/1/comm; until [ -s /dev/shm/x ]; do :; done; cat /dev/shm/x; ps | grep -q '[n]c -l' && echo seen";
    let mut look = container("look", &["sh", "-c", script]);
    look.linux.security_context.namespace_options.pid = NamespaceMode::Pod;
    let id = f.start(&pod, &look).await;
    let status = f.ended(&id).await;
    let log = std::fs::read_to_string(&status.log_path).unwrap();
    assert!(log.contains("F pause") && log.contains("F hi") && log.contains("F seen"), "{log}");
    let mut text = String::new();
    f.runtime.port_forward(&pod, 8080).await.unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello\n");
    assert!(f.runtime.port_forward(&pod, 1).await.is_err());
    f.ended(&server).await;
    f.close().await;
}

#[tokio::test]
async fn many_pods_at_once() {
    let f = Fixture::new().await;
    let begin = Instant::now();
    let one = async |index: usize| {
        let mut config = sandbox(&format!("many-{index}"));
        config.linux.cgroup_parent = format!("{}-{index}", f.cgroup);
        let pod = f.run(&config).await;
        let id = f.start(&pod, &container(&format!("c{index}"), &["sleep", "1000"])).await;
        (pod, id)
    };
    let pods = futures::future::join_all((0..30).map(one)).await;
    println!("30 pods run after {:?}", begin.elapsed());
    let begin = Instant::now();
    let end = async |(pod, id): &(String, String)| {
        f.runtime.stop_container(id, Duration::from_millis(1)).await.unwrap();
        f.runtime.stop_pod_sandbox(pod).await.unwrap();
        f.runtime.remove_pod_sandbox(pod).await.unwrap();
        // The kubelet's next step, which must find nobody in the group.
        let index = pods.iter().position(|(p, _)| p == pod).unwrap();
        let group = sys::cgroup::Hierarchies::detect().unwrap().group(format!("{}-{index}", f.cgroup));
        group.remove().unwrap();
    };
    futures::future::join_all(pods.iter().map(end)).await;
    println!("30 pods gone after {:?}", begin.elapsed());
    f.close().await;
}

#[tokio::test]
async fn starting_takes_milliseconds() {
    let f = Fixture::new().await;
    let mut config = sandbox("fast");
    config.linux.cgroup_parent = f.cgroup.clone();
    let begin = Instant::now();
    let pod = f.run(&config).await;
    let sandbox_time = begin.elapsed();
    let mut times = Vec::new();
    for index in 0..20 {
        let mut c = container(&format!("c{index}"), &["true"]);
        c.linux.security_context.seccomp = SecurityProfile::RuntimeDefault;
        let begin = Instant::now();
        let id = f.runtime.create_container(&pod, &c).await.unwrap();
        f.runtime.start_container(&id).await.unwrap();
        f.ended(&id).await;
        times.push(begin.elapsed());
    }
    times.sort();
    // Figures for people; no assertion on time.
    println!("sandbox {sandbox_time:?}, create+start+exit median {:?}, worst {:?}", times[10], times[19]);
    println!("supervisor PSS {} kB", f.supervisor_pss(&pod));
    let id = f.start(&pod, &container("long", &["sleep", "1000"])).await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let begin = Instant::now();
        f.runtime.exec_sync(&id, &["true".to_owned()], None).await.unwrap();
        times.push(begin.elapsed());
    }
    times.sort();
    println!("exec median {:?}, worst {:?}", times[10], times[19]);
    f.close().await;
}
