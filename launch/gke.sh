#!/usr/bin/env bash
# A run on GKE as a JobSet, one pod for each host; DRY_RUN=1 prints the manifest only.
#   NAME=paris IMAGE=REGISTRY/gmsrm:TAG CLAIM=gmsrm NODES=2 GPUS=8 ACCELERATOR=nvidia-h100-80gb \
#     launch/gke.sh gpu --config=FILE --workdir=/mnt/gmsrm/runs/paris ...
#   NAME=paris IMAGE=REGISTRY/gmsrm:TAG CLAIM=gmsrm TOPOLOGY=4x4 CHIPS=4 ACCELERATOR=tpu-v6e-slice \
#     launch/gke.sh tpu --config=FILE --workdir=/mnt/gmsrm/runs/paris ...
# NAME also names the JobSet; CLAIM is a ReadWriteMany volume claim, seen as /mnt/gmsrm; CHIPS are
# those of one host. Optional: NAMESPACE, QUEUE (Kueue), SPOT=1, GCSFUSE=1 (CLAIM is a bucket),
# GRACE_SECONDS, MAX_RESTARTS, RUN_AS_USER, DEVICES_PER_HOST (if not one for each chip).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/execute.sh"

platform=${1:-}
case $platform in
  gpu)
    needs ACCELERATOR=nvidia-h100-80gb NODES=2 GPUS=8
    matches ACCELERATOR=nvidia-h100-80gb 'nvidia(-[a-z0-9]+)+' "GKE's name of a GPU"
    whole NODES=2 1 100000
    whole GPUS=8 1
    hosts=$NODES devices=${DEVICES_PER_HOST:-$GPUS} user=${RUN_AS_USER:-1000}
    ;;
  tpu)
    needs ACCELERATOR=tpu-v6e-slice TOPOLOGY=4x4 CHIPS=4
    matches ACCELERATOR=tpu-v6e-slice 'tpu[-a-z0-9]*[a-z0-9]' "GKE's name of a TPU"
    matches TOPOLOGY=4x4 '[1-9][0-9]{0,3}(x[1-9][0-9]{0,3}){1,2}' "the chips along each side"
    whole CHIPS=4 1
    all=$((${TOPOLOGY//x/*})) user=${RUN_AS_USER:-0}
    hosts=$((all / CHIPS)) devices=${DEVICES_PER_HOST:-$CHIPS}
    if ((hosts * CHIPS != all)); then
      fail "TOPOLOGY=$TOPOLOGY has $all chips, no multiple of CHIPS=$CHIPS; set those of one host"
    fi
    ;;
  *) fail "the first argument is $(printf '%q' "$platform"), not gpu or tpu; put one first" ;;
esac
shift
needs NAME=paris
# The longest name that is made of it is that of the last pod: NAME-hosts-0-9-abcde.
last=$((hosts - 1))
label NAME=paris $((63 - ${#last} - 15)) a-z
image
kubernetes
matches QUEUE=gpus '[a-z0-9]([-.a-z0-9]{0,61}[a-z0-9])?' "the name of a queue"
whole DEVICES_PER_HOST=8 1
whole GRACE_SECONDS=120 0
switches SPOT GCSFUSE
for_container "$@"
installed kubectl

# Spot hosts are taken away 30 s after the signal.
grace=${GRACE_SECONDS:-$([[ ${SPOT:-} == 1 ]] && echo 25 || echo 120)}

# Every pod gets all it needs from its own index: no access to the cluster's API, no service
# account, no package `kubernetes`. Exit status 2 and 3 would come again, so they end the JobSet.
# Anything else (75, a lost host, a crash) starts all hosts again: one alone cannot go on.
manifest() {
  cat <<YAML
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: "$NAME"
YAML
  if [[ -n ${NAMESPACE:-} ]]; then printf '  namespace: "%s"\n' "$NAMESPACE"; fi
  if [[ -n ${QUEUE:-} ]]; then printf '  labels:\n    kueue.x-k8s.io/queue-name: "%s"\n' "$QUEUE"; fi
  # The hosts of one TPU slice are those of one node pool.
  if [[ $platform == tpu ]]; then
    cat <<YAML
  annotations:
    alpha.jobset.sigs.k8s.io/exclusive-topology: cloud.google.com/gke-nodepool
YAML
  fi
  cat <<YAML
spec:
  failurePolicy:
    maxRestarts: ${MAX_RESTARTS:-100}
    restartStrategy: BlockingRecreate
    rules:
      - name: wouldComeAgain
        action: FailJobSet
        onJobFailureReasons: [PodFailurePolicy]
  replicatedJobs:
    - name: hosts
      replicas: 1
      template:
        spec:
          completionMode: Indexed
          completions: $hosts
          parallelism: $hosts
          backoffLimit: 0
          podFailurePolicy:
            rules:
              - action: FailJob
                onExitCodes: {containerName: train, operator: In, values: [2, 3]}
          template:
YAML
  if [[ ${GCSFUSE:-} == 1 ]]; then
    printf '            metadata:\n              annotations:\n                gke-gcsfuse/volumes: "true"\n'
  fi
  cat <<YAML
            spec:
              restartPolicy: Never
              terminationGracePeriodSeconds: $grace
YAML
  # The driver of buckets identifies the pod by its token.
  if [[ ${GCSFUSE:-} != 1 ]]; then printf '              automountServiceAccountToken: false\n'; fi
  cat <<YAML
              securityContext: {runAsUser: $user, runAsGroup: $user, fsGroup: $user}
              nodeSelector:
YAML
  if [[ ${SPOT:-} == 1 ]]; then printf '                cloud.google.com/gke-spot: "true"\n'; fi
  if [[ $platform == gpu ]]; then
    cat <<YAML
                cloud.google.com/gke-accelerator: $ACCELERATOR
              tolerations:
                - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
YAML
  else
    cat <<YAML
                cloud.google.com/gke-tpu-accelerator: $ACCELERATOR
                cloud.google.com/gke-tpu-topology: $TOPOLOGY
              tolerations:
                - {key: google.com/tpu, operator: Exists, effect: NoSchedule}
YAML
  fi
  if [[ ${SPOT:-} == 1 ]]; then
    printf '                - {key: cloud.google.com/gke-spot, operator: Exists, effect: NoSchedule}\n'
  fi
  cat <<YAML
              containers:
                - name: train
                  image: "$IMAGE"
                  args:
YAML
  for argument in "$@"; do printf '                    - %s\n' "$(quoted "$argument")"; done
  cat <<YAML
                  env:
                    - {name: GMSRM_EXPECTED_LOCAL_DEVICES, value: "$devices"}
                    - {name: JAX_COMPILATION_CACHE_DIR, value: /mnt/gmsrm/xla-$user}
                    - {name: GMSRM_START_TIMEOUT, value: "3600"}
YAML
  # On TPUs GKE tells each pod its place, and JAX reads it.
  if [[ $platform == gpu ]]; then
    cat <<YAML
                    - {name: GMSRM_COORDINATOR, value: "$NAME-hosts-0-0.$NAME:8476"}
                    - {name: GMSRM_NUM_PROCESSES, value: "$hosts"}
                    - name: GMSRM_PROCESS_ID
                      valueFrom:
                        fieldRef:
                          fieldPath: metadata.annotations['batch.kubernetes.io/job-completion-index']
                    - {name: LD_LIBRARY_PATH, value: /usr/local/nvidia/lib64}
                  resources:
                    limits: {nvidia.com/gpu: $GPUS}
                  volumeMounts:
                    - {name: shared, mountPath: /mnt/gmsrm}
                    - {name: memory, mountPath: /dev/shm}
              volumes:
                - {name: memory, emptyDir: {medium: Memory}}
YAML
  else
    cat <<YAML
                  securityContext: {privileged: true}
                  resources:
                    limits: {google.com/tpu: $CHIPS}
                  volumeMounts:
                    - {name: shared, mountPath: /mnt/gmsrm}
              volumes:
YAML
  fi
  printf '                - {name: shared, persistentVolumeClaim: {claimName: "%s"}}\n' "$CLAIM"
}

create "$@"
