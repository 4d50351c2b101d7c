#!/usr/bin/env bash
# kubectl against a cluster: `kubectl.sh KUBECTL IMAGE [old]`, KUBECONFIG names the cluster. One line per case: `ok NAME`, or
# `not ok NAME: WHY`. With `old`, only what a kubectl of 2020 has.
set -u
program=$1
export IMAGE=$2
generation=${3:-new}
# A document in YAML's flow style: what begins with a brace is taken for JSON.
y() { printf '#\n%s\n' "$1"; }
# await PATTERN COMMAND...: the first line with a pattern, from a command that goes on and is then ended.
await() {
    local pattern=$1 lines
    shift
    exec {lines}< <(exec "$@")
    grep -m1 -- "$pattern" <&"$lines"
    kill $!
}
export -f y await
space=kubectl-$generation
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/bin"
ln -s "$program" "$dir/bin/kubectl"
export PATH=$dir/bin:$PATH HOME=$dir
cd "$dir" || exit 1
cp "$KUBECONFIG" "$dir/config"
export KUBECONFIG=$dir/config
failed=0

# check NAME SCRIPT PATTERN...: each pattern is in the output; `!` before one: it is not; `fails` as the first: so does the script.
check() {
    name=$1 script=$2
    shift 2
    wanted=0
    if [ "${1:-}" = fails ]; then
        wanted=1
        shift
    fi
    began=$SECONDS
    said=$(timeout 90 bash -euo pipefail -c "$script" 2>&1)
    code=$?
    why=
    if [ $wanted = 0 ] && [ $code != 0 ]; then why="exit code $code"; fi
    if [ $wanted = 1 ] && [ $code = 0 ]; then why="it succeeded"; fi
    for pattern; do
        case $pattern in
            !*) if grep -Eq -- "${pattern#!}" <<<"$said"; then why="$why; there is ${pattern#!}"; fi ;;
            *) if ! grep -Eq -- "$pattern" <<<"$said"; then why="$why; there is no $pattern"; fi ;;
        esac
    done
    if [ -z "$why" ]; then
        echo "ok $name"
        [ -z "${TIMES:-}" ] || echo "$name: $((SECONDS - began)) s" >&2
    else
        failed=1
        echo "not ok $name: $(tr -s '\n' ' ' <<<"${why#; }, in: $said" | cut -c 1-700)"
    fi
}

# Only for a kubectl of today.
new() {
    if [ "$generation" = new ]; then check "$@"; fi
}

cat > web.yaml <<YAML
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: web, image: "$IMAGE", imagePullPolicy: Never, ports: [{containerPort: 80, name: http}]}
YAML
cat > map.yaml <<'YAML'
apiVersion: v1
kind: ConfigMap
metadata: {name: map}
data: {a: one, b: two}
YAML
mkdir kustom
cp map.yaml kustom/
printf 'namePrefix: k-\nresources: [map.yaml]\ncommonLabels: {by: kustomize}\n' > kustom/kustomization.yaml

check create_namespace "kubectl create namespace $space" "namespace/$space created"
check config "kubectl config set-context --current --namespace=$space && kubectl config view --minify" "namespace: $space"
check version 'kubectl version' 'Server Version.*v?1\.?36|Minor:"36"'
check cluster_info 'kubectl cluster-info' 'is running at'

check apply 'kubectl apply -f web.yaml -f map.yaml' 'deployment.apps/web created' 'configmap/map created'
check apply_again 'kubectl apply -f web.yaml -f map.yaml' 'deployment.apps/web unchanged' 'configmap/map unchanged'
check apply_changed 'sed "s/two/three/" map.yaml | kubectl apply -f - && kubectl get cm map -o jsonpath={.data.b}' 'configured' 'three$'
check apply_removes 'sed "s/, b: two//" map.yaml | kubectl apply -f - && kubectl get cm map -o json' '!"b":'
check diff 'kubectl diff -f map.yaml' fails '^\+.*b: two'
check diff_of_nothing 'kubectl apply -f map.yaml && kubectl diff -f map.yaml' '!^\+'
check apply_dry_run 'kubectl apply --dry-run=server -f map.yaml && kubectl apply --dry-run=client -f map.yaml' 'unchanged \(server dry run\)' '\(dry run\)'
check server_side 'y "{apiVersion: v1, kind: ConfigMap, metadata: {name: ssa}, data: {a: one}}" | kubectl apply --server-side -f -' 'configmap/ssa serverside-applied'
check server_side_conflict 'y "{apiVersion: v1, kind: ConfigMap, metadata: {name: ssa}, data: {a: two}}" | kubectl apply --server-side --field-manager=other -f -' fails 'conflict with "kubectl": .data.a' 'force-conflicts'
check server_side_forced 'y "{apiVersion: v1, kind: ConfigMap, metadata: {name: ssa}, data: {a: two}}" | kubectl apply --server-side --force-conflicts --field-manager=other -f -' 'serverside-applied'
new managed_fields 'kubectl get cm ssa -o yaml --show-managed-fields' 'manager: other' 'operation: Apply'
check create_exists 'kubectl create -f map.yaml' fails 'Error from server \(AlreadyExists\)'
check create_kinds 'kubectl create secret generic s --from-literal=k=v; kubectl create sa robot; kubectl create quota q --hard=pods=20; kubectl create job j --image=$IMAGE -- true; kubectl create role r --verb=get --resource=pods; kubectl create rolebinding rb --role=r --serviceaccount='$space':robot' \
    'secret/s created' 'serviceaccount/robot created' 'resourcequota/q created' 'job.batch/j created' 'rolebinding.rbac.authorization.k8s.io/rb created'
new create_more 'kubectl create cronjob c --image=$IMAGE --schedule="0 0 1 1 *" -- true; kubectl create pdb p --selector=app=none --min-available=1; kubectl get cronjob c' 'cronjob.batch/c created' 'poddisruptionbudget.policy/p created' '0 0 1 1'
check create_invalid 'y "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {ports: [{port: 70000}]}}" | kubectl create -f -' fails 'The Service "bad" is invalid' 'spec.ports\[0\].port: Invalid value: 70000'
new validate_strict 'y "{apiVersion: v1, kind: ConfigMap, metadata: {name: bad}, datas: {}}" | kubectl create -f -' fails 'strict decoding error: unknown field "datas"'
check edit 'EDITOR="sed -i s/two/edited/" kubectl edit cm map && kubectl get cm map -o jsonpath={.data.b}' 'configmap/map edited' 'edited$'
check patch 'kubectl patch cm map -p "{\"data\":{\"c\":\"3\"}}"; kubectl patch cm map --type=merge -p "{\"data\":{\"c\":null}}"; kubectl patch cm map --type=json -p "[{\"op\":\"add\",\"path\":\"/data/d\",\"value\":\"4\"}]"; kubectl get cm map -o jsonpath={.data}' 'configmap/map patched' '"d":"4"' '!"c":'
check replace 'kubectl get cm map -o yaml | sed s/edited/replaced/ | kubectl replace -f - && kubectl replace --force -f map.yaml' 'configmap/map replaced' 'configmap "map" deleted'
check label_annotate 'kubectl label cm map x=y; kubectl label cm map x=z --overwrite; kubectl annotate cm map note=this; kubectl get cm -l x=z --show-labels; kubectl label cm map x-' 'labeled' 'annotated' 'x=z'
check label_refused 'kubectl label cm map a=b; kubectl label cm map a=c' fails "already has a value"

check rollout 'kubectl rollout status deployment/web --timeout=80s' 'successfully rolled out'
check wait 'kubectl wait --for=condition=Available deployment/web --timeout=60s; kubectl wait --for=condition=complete job/j --timeout=60s' 'deployment.apps/web condition met' 'job.batch/j condition met'
new wait_for_a_path 'kubectl wait --for=jsonpath={.status.readyReplicas}=1 deployment/web --timeout=60s; kubectl wait --for=create cm/map --timeout=5s' 'condition met'
check scale 'kubectl scale deployment web --replicas=2 --current-replicas=1 && kubectl rollout status deployment/web --timeout=80s && kubectl get deployment web' 'scaled' '2/2'
check autoscale 'kubectl autoscale deployment web --min=1 --max=3 --cpu-percent=80; kubectl get hpa web; kubectl delete hpa web' 'autoscaled' 'Deployment/web' 'deleted'
check expose 'kubectl expose deployment web --port=80 --target-port=http; kubectl get service,endpoints web' 'service/web exposed' 'service/web +ClusterIP'
check get_all 'kubectl get all' 'pod/web-' 'service/web' 'deployment.apps/web' 'replicaset.apps/web-' 'job.batch/j'
check get_wide 'kubectl get pods -o wide -l app=web' '^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE +NOMINATED NODE +READINESS GATES' 'Running'
check get_sorted 'kubectl get cm --sort-by=.metadata.name --no-headers -o custom-columns=N:.metadata.name | paste -sd,' 'kube-root-ca.crt,map,ssa'
check get_columns 'kubectl get deployment web -o custom-columns=NAME:.metadata.name,WANT:.spec.replicas' '^NAME +WANT' '^web +2'
check get_formats 'kubectl get deployment web -o name; kubectl get deployment web -o go-template={{.spec.replicas}}; kubectl get deployment web -o jsonpath="{range .spec.template.spec.containers[*]}<{.name}>{end}"' 'deployment.apps/web' '2<web>'
check get_selected 'kubectl get pods --field-selector=status.phase=Running -l "app in (web)" -o name' 'pod/web-' '!pod/j-'
check get_field_refused 'kubectl get pods --field-selector=spec.nothing=x' fails 'field label not supported'
check get_chunks 'kubectl get cm --chunk-size=1 -o name; kubectl get --raw "/api/v1/namespaces/'$space'/configmaps?limit=1"' 'configmap/ssa' 'configmap/map' '"continue":'
check get_watch 'exec 4< <(exec kubectl get cm -w -o name); pid=$!; grep -m1 ssa <&4; kubectl create cm watched >/dev/null; grep -m1 watched <&4; kubectl delete cm watched; kill $pid' 'configmap/ssa' 'configmap/watched'
check get_missing 'kubectl get pod nobody' fails 'Error from server \(NotFound\): pods "nobody" not found'
check get_unknown 'kubectl get nothings' fails 'the server doesn.t have a resource type "nothings"'
check describe 'kubectl describe deployment web; kubectl describe pod -l app=web; kubectl describe node' 'StrategyType: +RollingUpdate' 'Container ID: ' 'Allocated resources' 'ScalingReplicaSet|Scaled up'
check set 'kubectl set env deployment/web WORD=heard; kubectl set resources deployment/web --limits=memory=64Mi; kubectl set image deployment/web web=$IMAGE; kubectl rollout status deployment/web --timeout=80s; kubectl exec deploy/web -- sh -c "echo is \$WORD"' 'env updated' 'resource requirements updated' 'is heard'
check rollout_history 'kubectl rollout history deployment/web; kubectl rollout undo deployment/web; kubectl rollout status deployment/web --timeout=80s; kubectl rollout restart deployment/web; kubectl rollout pause deployment/web; kubectl rollout resume deployment/web; kubectl rollout status deployment/web --timeout=80s' 'REVISION' 'rolled back' 'restarted' 'paused' 'resumed'

check run 'kubectl run one --image=$IMAGE --image-pull-policy=Never --restart=Never --command -- sh -c "echo once; exit 3"; await Failed kubectl get pod one -w -o "jsonpath={.status.phase}{\"\n\"}"; kubectl logs one; kubectl get pod one -o jsonpath={.status.containerStatuses[0].state.terminated.exitCode}' 'pod/one created' 'once' '3$'
check run_attached 'echo typed | kubectl run two --image=$IMAGE --image-pull-policy=Never --restart=Never -i --rm --quiet --command -- sh -c "read w; echo heard \$w; cat > /dev/null"' 'heard typed'
check exec 'pod=$(kubectl get pod -l app=web -o "jsonpath=pod/{.items[0].metadata.name}"); kubectl exec $pod -- echo out; echo in | kubectl exec -i $pod -- cat; kubectl exec $pod -- sh -c "exit 9" || echo code $?' 'out' 'in' 'code 9'
new exec_tty 'pod=$(kubectl get pod -l app=web -o "jsonpath=pod/{.items[0].metadata.name}"); script -qec "kubectl exec -it $pod -- sh -c tty" /dev/null </dev/null' '/dev/pts/'
check cp 'pod=$(kubectl get pod -l app=web -o jsonpath={.items[0].metadata.name}); echo carried > file; kubectl cp file $pod:/tmp/file; kubectl cp $pod:/tmp/file back 2>/dev/null; cat back' 'carried'
check logs 'kubectl logs deploy/web; kubectl logs -l app=web --prefix --tail=1; kubectl logs job/j --timestamps' 'started' '\[pod/web-'
new logs_follow 'kubectl run talk --image=$IMAGE --image-pull-policy=Never --restart=Never --command -- sh -c "for n in 1 2 3; do echo line \$n; done" >/dev/null; kubectl wait --for=jsonpath={.status.phase}=Succeeded pod/talk --timeout=60s >/dev/null; kubectl logs -f talk' 'line 3'
check port_forward 'exec 4< <(exec kubectl port-forward service/web :80); f=$!; port=$(grep -m1 "from 127" <&4 | sed "s/.*127.0.0.1:\([0-9]*\) .*/\1/"); exec 3<>/dev/tcp/127.0.0.1/$port; printf "GET / HTTP/1.0\r\n\r\n" >&3; cat <&3; kill $f' 'Welcome'
check proxy 'exec 4< <(exec kubectl proxy --port=0); f=$!; port=$(grep -m1 serve <&4 | sed "s/.*://"); exec 3<>/dev/tcp/127.0.0.1/$port; printf "GET /api/v1/namespaces/'$space'/services/web:80/proxy/ HTTP/1.0\r\nHost: localhost\r\n\r\n" >&3; cat <&3; kill $f' 'Welcome'
new debug 'pod=$(kubectl get pod -l app=web -o jsonpath={.items[0].metadata.name}); kubectl debug $pod --image=$IMAGE --image-pull-policy=Never -c probe -- sh -c "echo debugging"; kubectl wait --for=jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}=0 pod/$pod --timeout=60s; kubectl logs $pod -c probe' '^debugging'
new events 'kubectl events; kubectl events --for deployment/web' 'ScalingReplicaSet' 'LAST SEEN'
check get_events 'kubectl get events --sort-by=.lastTimestamp' 'Scheduled|Started'

check can_i 'kubectl auth can-i create pods; kubectl auth can-i get pods --as=system:serviceaccount:'$space':robot; kubectl auth can-i delete pods --as=system:serviceaccount:'$space':robot || true; kubectl auth can-i --list --as=system:serviceaccount:'$space':robot' '^yes' '^no' 'pods +\[\] +\[\] +\[get\]'
new whoami 'kubectl auth whoami; kubectl auth whoami --as=somebody --as-group=people -o jsonpath={.status.userInfo.groups}' 'Username' 'people'
new token 'kubectl create token robot --duration=600s > token; kubectl --kubeconfig=/dev/null --server=$(kubectl config view --minify -o jsonpath={.clusters[0].cluster.server}) --insecure-skip-tls-verify --token=$(cat token) auth whoami' "system:serviceaccount:$space:robot"
check reconcile 'y "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: r, namespace: '$space'}, rules: [{apiGroups: [\"\"], resources: [pods, secrets], verbs: [get, list]}]}" | kubectl auth reconcile -f -' 'reconciled'
check certificates 'openssl req -new -newkey rsa:2048 -nodes -keyout /dev/null -subj "/CN=tester/O=people" 2>/dev/null | base64 -w0 > request; printf "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: '$space'}\nspec: {signerName: kubernetes.io/kube-apiserver-client, usages: [client auth], request: %s}\n" $(cat request) | kubectl create -f -; kubectl get csr '$space'; kubectl certificate approve '$space'; await . kubectl get csr '$space' -w -o "jsonpath={.status.certificate}{\"\n\"}" | base64 -d | openssl x509 -noout -subject; kubectl delete csr '$space'' 'Pending' 'approved' 'CN ?= ?tester'

node='$(kubectl get nodes -o jsonpath={.items[0].metadata.name})'
check nodes "kubectl taint node $node k=v:PreferNoSchedule; kubectl taint node $node k-; kubectl cordon $node; kubectl get nodes; kubectl uncordon $node" 'tainted' 'untainted' 'cordoned' 'SchedulingDisabled' 'uncordoned'
check drain "kubectl drain $node --ignore-daemonsets --delete-emptydir-data --force --pod-selector=app=web --timeout=80s; kubectl uncordon $node; kubectl rollout status deployment/web --timeout=80s" 'evicting pod' 'drained|node/.* evicted' 'successfully rolled out'
new top 'kubectl get --raw /apis/metrics.k8s.io/v1beta1 >/dev/null 2>&1 || { echo no metrics; exit 0; }; kubectl top nodes || true' '.'

check explain 'kubectl explain deployment.spec.strategy; kubectl explain pods --recursive' 'RollingUpdate' 'containers'
check api_resources 'kubectl api-resources; kubectl api-resources --namespaced=false -o name; kubectl api-versions' 'deployments +deploy +apps/v1 +true +Deployment' 'nodes' 'rbac.authorization.k8s.io/v1'
check kustomize 'kubectl apply -k kustom; kubectl get cm k-map --show-labels; kubectl delete -k kustom' 'configmap/k-map created' 'by=kustomize' 'deleted'
new prune 'y "{apiVersion: v1, kind: ConfigMap, metadata: {name: kept, labels: {by: prune}}}" | kubectl apply --prune -l by=prune -f -; y "{apiVersion: v1, kind: ConfigMap, metadata: {name: other, labels: {by: prune}}}" | kubectl apply --prune -l by=prune -f -' 'configmap/kept pruned'
check raw 'kubectl get --raw /readyz; kubectl get --raw "/livez?verbose"; kubectl get --raw /openapi/v3' '^ok' 'livez check passed' 'paths'
check custom_resources 'kubectl apply -f - <<Y
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: cups.'$space'.test}
spec:
  group: '$space'.test
  scope: Namespaced
  names: {plural: cups, singular: cup, kind: Cup, shortNames: [cu]}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    subresources: {scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, description: How it is., properties: {size: {type: integer}}}, status: {type: object, properties: {size: {type: integer}}}}}}
Y
kubectl wait --for=condition=Established crd/cups.'$space'.test
y "{apiVersion: '$space'.test/v1, kind: Cup, metadata: {name: c}, spec: {size: 3}}" | kubectl apply -f -
kubectl get cu; kubectl scale cup c --replicas=4; kubectl get cups -o jsonpath={.items[0].spec.size}; kubectl explain cup.spec; kubectl delete crd cups.'$space'.test' '^NAME +SIZE' '^c +3' '^4' 'How it is' 'scaled'

check delete_orphans 'kubectl delete deployment web --cascade=orphan; kubectl get rs -l app=web -o name; kubectl apply -f web.yaml; kubectl rollout status deployment/web --timeout=80s' 'replicaset.apps/web-' 'successfully rolled out'
check delete_foreground 'kubectl delete deployment web --cascade=foreground; kubectl get rs,pods -l app=web' 'deleted' 'No resources found'
check delete_background 'kubectl delete job j --cascade=background; kubectl delete cm -l by=prune; kubectl delete pod one --now --ignore-not-found; kubectl delete pod nobody --ignore-not-found; kubectl delete cm --all --dry-run=server' 'job.batch "j" deleted' 'server dry run'
check delete_namespace "kubectl delete namespace $space; kubectl get namespace $space" fails 'deleted' 'NotFound'
exit $failed
