//! The 2019 workshop, typed step by step: a cluster taken apart and put together by hand, with its deliberate failures.
//! The numbers are those of the table in `shared/reference/network.md`, section 4.

use anyhow::{Context, Result, ensure};
use e2e::workshop::{HOST, Workshop};

/// Asks an HTTP server as `curl` does in the workshop, with nothing but the shell.
const ASK: &str =
    r#"ask() { timeout 5 bash -c 'exec 3<>/dev/tcp/$0/80 && printf "GET / HTTP/1.0\r\n\r\n" >&3 && cat <&3' $1; }"#;
const API_SERVER: &str = "kube-apiserver --etcd-servers http://127.0.0.1:2379";
const MANAGER: &str = "kube-controller-manager --master http://localhost:8080";
const API_READY: &str = "API server started";
const LEADS: &str = "became leader";

/// Steps 2 to 5: nothing works without etcd; then an empty cluster.
fn api_server(shell: &mut Workshop) -> Result<()> {
    let said = shell.fails("kube-apiserver")?;
    ensure!(said.contains("--etcd-servers must be specified"), "2: {said}");
    shell.start("etcd", "etcd", "serving insecure on 127.0.0.1:2379").context("3")?;
    shell.start("api", API_SERVER, API_READY).context("4")?;
    let said = shell.ok("kubectl get nodes")?;
    ensure!(said.contains("No resources found"), "5: {said}");
    shell.until("services", "^kubernetes +ClusterIP +10.0.0.1 ").context("5")?;
    Ok(())
}

/// Steps 6 to 8: nobody makes ReplicaSets, then nobody makes pods.
fn controllers(shell: &mut Workshop) -> Result<()> {
    shell.ok("kubectl create deployment web --image=nginx")?;
    let said = shell.ok("kubectl get all")?;
    let bare = said.contains("deployment.apps/web   0/1") && !said.contains("replicaset") && !said.contains("pod/");
    ensure!(bare, "6: {said}");
    let said = shell.fails("kube-controller-manager")?;
    ensure!(said.contains("Neither --kubeconfig nor --master was specified"), "7: {said}");
    ensure!(said.contains("invalid configuration: no configuration has been provided"), "7: {said}");
    shell.start("manager", MANAGER, LEADS).context("8")?;
    shell.until("replicasets", "^web-[a-z0-9]+ +1 +0 +0").context("8")?;
    shell.log_has("manager", r#"No API token found for service account "default""#).context("8")?;
    let said = shell.ok("kubectl get pods")?;
    ensure!(said.contains("No resources found"), "8: {said}");
    Ok(())
}

/// Ends a component and starts it with other flags. The manager's lease is free only while the API server answers.
fn restart(shell: &mut Workshop, api: &str, manager: &str) -> Result<()> {
    shell.stop("manager")?;
    shell.stop("api")?;
    shell.start("api", &format!("{API_SERVER} {api}"), API_READY)?;
    shell.start("manager", &format!("{MANAGER} {manager}"), LEADS)
}

fn again(shell: &mut Workshop) -> Result<()> {
    shell.ok("kubectl delete deployment web --cascade=foreground")?;
    shell.ok("kubectl create deployment web --image=nginx")?;
    Ok(())
}

/// Steps 9 to 12: the three ways to deal with service accounts.
fn service_accounts(shell: &mut Workshop) -> Result<()> {
    restart(shell, "--disable-admission-plugins=ServiceAccount", "").context("9")?;
    shell.until("pods", "^web-.* 0/1 +Pending").context("9")?;
    let said = shell.ok("kubectl get pods -o jsonpath={.items[0].spec.serviceAccountName}{.items[0].spec.volumes}")?;
    ensure!(said.is_empty(), "9: a pod without an account has {said}");

    restart(shell, "", "").context("11")?;
    again(shell)?;
    shell.log_has("manager", "No API token found").context("11")?;
    shell.ok("openssl genrsa -out sa.key 2048 && openssl rsa -in sa.key -pubout -out sa.pub")?;
    restart(shell, "--service-account-key-file sa.pub", "--service-account-private-key-file sa.key").context("11")?;
    shell.until("secrets", "^default-token-.* kubernetes.io/service-account-token ").context("11")?;
    shell.until("pods", "^web-.* 0/1 +Pending").context("11")?;
    let said = shell.ok("kubectl get pods -o jsonpath={.items[0].spec.volumes[0].secret.secretName}")?;
    ensure!(said.starts_with("default-token-"), "11: the token is not mounted: {said}");
    let who = "kubectl --kubeconfig /dev/null --server https://127.0.0.1:6443 --insecure-skip-tls-verify --token \
               $(kubectl get secrets -o jsonpath={.items[0].data.token} | base64 -d) auth whoami";
    let said = shell.ok(who)?;
    ensure!(said.contains("system:serviceaccount:default:default"), "11: the token is not known: {said}");

    // Back to an account without a token, while nobody makes them.
    shell.stop("manager")?;
    shell.ok("kubectl delete secrets --all")?;
    shell.ok("kubectl patch sa default --type=json -p '[{\"op\":\"remove\",\"path\":\"/secrets\"}]'")?;
    shell.stop("api")?;
    shell.start("api", API_SERVER, API_READY).context("10")?;
    shell.start("manager", MANAGER, LEADS).context("10")?;
    again(shell)?;
    shell.log_has("manager", "No API token found").context("10")?;
    shell.ok("kubectl patch sa default -p 'automountServiceAccountToken: false'").context("10")?;
    // The back-off may be long by now; as the workshop says: if we're impatient, we can restart the controller manager.
    shell.stop("manager")?;
    shell.start("manager", MANAGER, LEADS)?;
    shell.until("pods", "^web-.* 0/1 +Pending").context("12")?;
    let said = shell.ok("kubectl get all")?;
    ensure!(said.contains("replicaset.apps/web-"), "12: {said}");
    Ok(())
}

/// Steps 14 to 16: a kubelet, alone and joined; nobody tells it to run the pod.
fn node(shell: &mut Workshop) -> Result<()> {
    shell.ok("kubectl config set-cluster localhost --server http://localhost:8080")?;
    shell.ok("kubectl config set-context localhost --cluster localhost")?;
    shell.ok("kubectl config use-context localhost")?;
    shell.start("kubelet", "kubelet", "standalone").context("15")?;
    shell.stop("kubelet")?;
    shell.start("kubelet", "kubelet --kubeconfig ~/.kube/config", "node registered").context("16")?;
    shell.until("nodes", &format!("^{HOST} +Ready ")).context("16")?;
    let said = shell.ok("kubectl get all")?;
    ensure!(said.contains("0/1     Pending"), "16: {said}");
    Ok(())
}

/// Steps 17 to 19: the scheduler, then a second pod without it.
fn scheduling(shell: &mut Workshop, command: &str) -> Result<()> {
    shell.start("scheduler", "kube-scheduler --master http://localhost:8080", LEADS).context("17")?;
    shell.until("pods", "^web-.* 1/1 +Running").context("17")?;
    shell.stop("scheduler")?;
    shell.ok("kubectl run manual --image=nginx")?;
    shell.until("pod manual", "^manual +0/1 +Pending")?;
    let binding = format!(
        "kubectl create -f- <<EOF\napiVersion: v1\nkind: Binding\nmetadata:\n  name: manual\ntarget:\n  apiVersion: v1\n  \
         kind: Node\n  name: {HOST}\nEOF"
    );
    shell.ok(&binding).context("18")?;
    shell.until("pod manual", "^manual +1/1 +Running").context("18")?;
    shell.ok(ASK)?;
    for pod in ["-l app=web", "-l run=manual"] {
        let ip = format!("$(kubectl get pods {pod} -o jsonpath={{.items[0].status.podIP}})");
        let said = shell.ok(&format!("ask {ip}")).context("19")?;
        ensure!(said.contains("Welcome to nginx!"), "19: {said}");
    }
    shell.ok(&format!("kubectl exec manual -- {command}"))?;
    shell.ok("kubectl logs manual")?;
    Ok(())
}

/// Steps 20 to 23: a Service answers only once there is a proxy; its rules; the `kubernetes` Service.
fn services(shell: &mut Workshop) -> Result<()> {
    shell.ok("kubectl expose deployment web --port=80")?;
    shell.ok("kubectl get service web")?;
    shell.ok("ip=$(kubectl get service web -o jsonpath={.spec.clusterIP})")?;
    shell.fails("ask $ip").context("20")?;
    shell.start("proxy", "kube-proxy --master http://localhost:8080", "").context("21")?;
    // The rules come a moment later.
    shell.ok("for n in 1 2 3 4 5 6; do ask $ip > page && break; done")?;
    let said = shell.ok("cat page").context("21")?;
    ensure!(said.contains("Welcome to nginx!"), "21: {said}");
    let rules = shell.ok("nft list table ip kube-proxy").context("22")?;
    ensure!(rules.contains("default/web/tcp") && rules.contains("dnat to"), "22: {rules}");
    shell.fails("ask 10.0.0.1").context("23")?;
    let said = shell.ok("kubectl get endpoints kubernetes")?;
    ensure!(said.contains("192.168.77.5:6443"), "23: {said}");
    Ok(())
}

/// A kubelet with a folder of static pods: standalone, then with the mirror in the API.
fn static_pods(shell: &mut Workshop) -> Result<()> {
    const POD: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: alone}\nspec:\n  containers: [{name: nginx, image: nginx}]\n";
    std::fs::create_dir(shell.file("manifests"))?;
    std::fs::write(shell.file("manifests/alone.yaml"), POD)?;
    shell.stop("kubelet")?;
    shell.start("kubelet", "kubelet --pod-manifest-path manifests -v 4", "Container started")?;
    shell.stop("kubelet")?;
    shell.start("kubelet", "kubelet --kubeconfig ~/.kube/config --pod-manifest-path manifests", "")?;
    shell.until("pods", &format!("^alone-{HOST} +1/1 +Running"))?;
    Ok(())
}

fn replay(shell: &mut Workshop, command: &str) -> Result<()> {
    shell.ok("corten image import nginx.tar")?;
    api_server(shell)?;
    controllers(shell)?;
    service_accounts(shell)?;
    node(shell)?;
    scheduling(shell, command)?;
    services(shell)?;
    static_pods(shell)
}

#[test]
fn the_workshop_of_2019_goes_as_told() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: the workshop needs root");
        return;
    }
    let (Some(binary), Some(kubectl)) = (e2e::binary(), e2e::kubectl()) else {
        eprintln!("skipped: CORTEN_BIN is not set, or there is no kubectl on PATH");
        return;
    };
    let Some(server) = e2e::image::web_server().expect("pack a web server") else {
        eprintln!("skipped: neither nginx nor busybox-static is installed");
        return;
    };
    let mut shell = Workshop::open(&binary, &kubectl).expect("open the workshop");
    server.recipe.docker_archive(&shell.file("nginx.tar"), &["nginx:latest"]).expect("write the image");
    if let Err(error) = replay(&mut shell, server.command) {
        for name in ["etcd", "api", "manager", "kubelet", "scheduler", "proxy"] {
            eprintln!("== {name}\n{}", shell.tail(name));
        }
        panic!("{error:#}");
    }
}
