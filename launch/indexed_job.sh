#!/usr/bin/env bash
# gmsrm inpaint or gmsrm evaluate in shares, each a pod of an indexed Kubernetes job; DRY_RUN=1
# prints the manifest only.
#   NAME=fill IMAGE=REGISTRY/gmsrm:TAG CLAIM=gmsrm SHARES=8 GPUS=1 launch/indexed_job.sh \
#     inpaint --image /mnt/gmsrm/DIR --mask /mnt/gmsrm/DIR --output /mnt/gmsrm/DIR --skip-existing
# The same with --join 8, where the volume is seen, puts together what came out. CLAIM is a
# ReadWriteMany volume claim, seen as /mnt/gmsrm; GPUS are those of a pod, none without it.
# Optional: NAMESPACE, AT_ONCE (pods, if not all), MAX_RESTARTS (of a share), RUN_AS_USER.
# Needs Kubernetes 1.31 or newer.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/execute.sh"

in_shares "$@"
needs NAME=fill SHARES=8
whole SHARES=8 1 100000
# The name of the last pod's host is NAME-7.
last=$((SHARES - 1))
label NAME=fill $((63 - ${#last} - 1))
image
kubernetes
whole AT_ONCE=4 1 "$SHARES"
whole GPUS=1 1
on_volume --output -o "$@"
if [[ " $* " == *" --manifest"[\ =]* ]]; then on_volume --manifest --manifest "$@"; fi
installed kubectl
user=${RUN_AS_USER:-1000}

# Exit status 1 and 2 would come again, so they end their share alone; the others go on.
manifest() {
  cat <<YAML
apiVersion: batch/v1
kind: Job
metadata:
  name: "$NAME"
YAML
  if [[ -n ${NAMESPACE:-} ]]; then printf '  namespace: "%s"\n' "$NAMESPACE"; fi
  cat <<YAML
spec:
  completionMode: Indexed
  completions: $SHARES
  parallelism: ${AT_ONCE:-$SHARES}
  backoffLimitPerIndex: ${MAX_RESTARTS:-10}
  podFailurePolicy:
    rules:
      - action: FailIndex
        onExitCodes: {containerName: gmsrm, operator: In, values: [1, 2]}
  template:
    spec:
      restartPolicy: Never
      automountServiceAccountToken: false
      securityContext: {runAsUser: $user, runAsGroup: $user, fsGroup: $user}
      tolerations:
        - {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}
      containers:
        - name: gmsrm
          image: "$IMAGE"
          args:
YAML
  for argument in "$@" "--shard=auto/$SHARES"; do
    printf '            - %s\n' "$(quoted "$argument")"
  done
  cat <<YAML
          env:
            - {name: JAX_COMPILATION_CACHE_DIR, value: /mnt/gmsrm/xla-$user}
YAML
  if [[ -n ${GPUS:-} ]]; then
    cat <<YAML
            - {name: LD_LIBRARY_PATH, value: /usr/local/nvidia/lib64}
          resources:
            limits: {nvidia.com/gpu: $GPUS}
YAML
  fi
  cat <<YAML
          volumeMounts:
            - {name: shared, mountPath: /mnt/gmsrm}
      volumes:
        - {name: shared, persistentVolumeClaim: {claimName: "$CLAIM"}}
YAML
}

create "$@"
