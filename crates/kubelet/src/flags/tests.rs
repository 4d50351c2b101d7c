//! Flags, file, and which of them wins.

use super::*;

fn options(args: &[&str]) -> Result<Options, String> {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().display().to_string();
    let all = ["kubelet", "--root-dir", root.as_str()].into_iter().chain(args.iter().copied());
    Flags::try_parse_from(all).map_err(|e| e.kind().to_string())?.options().map_err(|e| e.to_string())
}

#[test]
fn flags_are_read_and_unknown_ones_refused() {
    let read = options(&[
        "--hostname-override=N1",
        "--node-labels=a=b,c=d",
        "--register-with-taints=k=v:NoSchedule",
        "--max-pods",
        "7",
        "-v",
        "2",
    ]);
    let read = read.unwrap();
    assert_eq!((read.config.node_name.as_str(), read.config.max_pods, read.verbosity), ("n1", 7, 2));
    assert_eq!(read.config.node_labels.len(), 2);
    assert_eq!(read.config.taints[0].effect, "NoSchedule");
    assert!(read.kubeconfig.is_none() && read.config.server.auth.anonymous);
    assert!(!read.config.server.certificate.is_empty());
    assert!(options(&["--no-such-flag"]).is_err());
    assert!(options(&["--register-with-taints=k:Sometimes"]).is_err());
}

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yaml");
    let text = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\nmaxPods: 5\nclusterDNS: [10.0.0.10]\ncontainerLogMaxSize: 5Mi\nnodeStatusUpdateFrequency: 1m30s\nevictionHard: {}\nkubeReserved: {cpu: 100m}\nsystemReserved: {cpu: 50m}\n";
    std::fs::write(&path, text).unwrap();
    let file = format!("--config={}", path.display());
    let read = options(&[&file, "--max-pods=9"]).unwrap();
    assert_eq!((read.config.max_pods, read.config.cluster_dns.len(), read.config.log_max_size), (9, 1, 5 << 20));
    assert_eq!(read.config.status_frequency, Duration::from_secs(90));
    assert_eq!(read.config.reserved["cpu"], "150m");
    assert!(!read.config.server.auth.anonymous && read.config.server.auth.webhook_authorization);
    std::fs::write(&path, format!("{text}noSuchSetting: 1\n")).unwrap();
    assert!(options(&[&file]).unwrap_err().contains("unknown field \"noSuchSetting\""));
}
