use std::time::Duration;

use super::Configuration;
use super::file::go_duration;

const HEAD: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";

#[test]
fn a_whole_file() {
    let text = format!(
        "{HEAD}
podInitialBackoffSeconds: 2
percentageOfNodesToScore: 30
clientConnection: {{kubeconfig: /etc/k, qps: 50}}
leaderElection: {{leaderElect: false}}
profiles:
- schedulerName: one
  plugins:
    score:
      enabled: [{{name: NodeAffinity, weight: 9}}]
      disabled: [{{name: ImageLocality}}]
- schedulerName: two
  pluginConfig:
  - name: NodeResourcesFit
    args:
      apiVersion: kubescheduler.config.k8s.io/v1
      kind: NodeResourcesFitArgs
      scoringStrategy: {{type: MostAllocated}}
extenders:
- {{urlPrefix: 'http://localhost:1', filterVerb: filter, httpTimeout: 1m500ms}}
"
    );
    let parsed = Configuration::parse(&text).unwrap();
    assert_eq!(parsed.profiles.len(), 2);
    assert_eq!(parsed.initial_backoff, Duration::from_secs(2));
    assert_eq!(parsed.extenders[0].timeout, Duration::from_millis(60_500));
    assert_eq!(parsed.profiles[0].set("score").enabled[0].weight, Some(9));
    assert_eq!(parsed.leader_election.leader_elect, Some(false));
}

#[test]
fn errors_name_the_field() {
    for (body, want) in [
        ("percentageOfNodesToScore: 101", "percentageOfNodesToScore"),
        ("podInitialBackoffSeconds: 0", "podInitialBackoffSeconds"),
        ("podMaxBackoffSeconds: 0", "podMaxBackoffSeconds"),
        ("nonsense: 1", "nonsense"),
        ("parallelism: 0", "parallelism"),
        ("profiles: [{schedulerName: a}, {schedulerName: a}]", "profiles[1].schedulerName: Duplicate"),
        ("profiles: [{plugins: {scores: {}}}]", "profiles[0].plugins.scores: unknown field"),
        (
            "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 101}}]}]",
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight",
        ),
        ("profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {foo: 1}}]}]", "unknown field `foo`"),
        ("profiles: [{plugins: {score: {enabled: [{name: A, weight: lots}]}}}]", "plugins.score.enabled[0].weight"),
        (
            "profiles: [{plugins: {score: {enabled: [{name: A, weight: 3000000000}]}}}]",
            "plugins.score.enabled[0].weight",
        ),
        ("profiles: [{schedulerName: ''}]", "profiles[0].schedulerName: Required value"),
        ("extenders: [{urlPrefix: 'http://x', prioritizeVerb: p}]", "extenders[0].weight"),
        ("leaderElection: {resourceLock: endpoints}", "leaderElection.resourceLock"),
    ] {
        let error = Configuration::parse(&format!("{HEAD}{body}\n")).unwrap_err().to_string();
        assert!(error.contains(want), "{body}: {error}");
    }
    assert!(Configuration::parse("apiVersion: v1\nkind: Pod\n").is_err());
}

#[test]
fn durations() {
    for (text, want) in [("5s", Some(5_000)), ("1m30s", Some(90_000)), ("1.5s", Some(1_500)), ("5", None), ("", None)] {
        assert_eq!(go_duration(text), want.map(Duration::from_millis), "{text}");
    }
}
