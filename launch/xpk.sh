#!/usr/bin/env bash
# A run on GKE through xpk; DRY_RUN=1 prints the command.
#   PROJECT=my-project ZONE=us-east5-b CLUSTER=my-cluster NAME=paris STORAGE=gmsrm \
#     IMAGE=REGISTRY/gmsrm:TAG DEVICE_TYPE=v6e-16 \
#     launch/xpk.sh --config=FILE --workdir=/mnt/gmsrm/runs/paris ...
# DEVICE_TYPE is xpk's, of a TPU slice or of a GPU host (h100-80gb-8, with NODES=2 for two). STORAGE
# is what `xpk storage attach` or `create` made, mounted at /mnt/gmsrm. Optional: GRACE_SECONDS,
# MAX_RESTARTS, and DEVICES_PER_HOST, which is checked (on GPU hosts it always is).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/execute.sh"
google_cloud
needs CLUSTER=my-cluster NAME=paris STORAGE=gmsrm DEVICE_TYPE=v6e-16
label CLUSTER=my-cluster 40 a-z
label NAME=paris 40 a-z
image
label STORAGE=gmsrm 63
matches DEVICE_TYPE=v6e-16 '[a-z0-9]+(-[a-z0-9]+)+' "xpk's name of a TPU slice or a GPU host"
whole NODES=2 1
whole DEVICES_PER_HOST=8 1
whole GRACE_SECONDS=120 0
whole MAX_RESTARTS=100 0
for_container "$@"
installed xpk

# xpk runs one line of shell on every host, in place of the image's entry point. It writes that line
# between double quotes, so there are none in it.
line="exec /app/launch/run.sh"
for argument in "$@"; do
  if [[ $argument == *[\'\"\\\`\$]* ]]; then
    fail "$(printf '%q' "$argument") cannot be passed on; give arguments without a quote," \
      "backslash, backtick or \$"
  fi
  line+=" '$argument'"
done

extra=()
if [[ -n ${NODES:-} ]]; then
  if [[ $DEVICE_TYPE =~ ^(v[0-9]|tpu) ]]; then
    fail "NODES=$NODES is of GPU hosts, but DEVICE_TYPE=$DEVICE_TYPE is a TPU slice; leave NODES out"
  fi
  # GPU hosts: xpk tells each its place by names of its own.
  line="export GMSRM_COORDINATOR=\$JAX_COORDINATOR_ADDRESS:\$JAX_COORDINATOR_PORT \
GMSRM_NUM_PROCESSES=\$NNODES GMSRM_PROCESS_ID=\$NODE_RANK \
GMSRM_EXPECTED_LOCAL_DEVICES=\$GPUS_PER_NODE; $line"
  extra+=(--num-nodes="$NODES")
elif [[ -n ${DEVICES_PER_HOST:-} ]]; then
  extra+=(--env="GMSRM_EXPECTED_LOCAL_DEVICES=$DEVICES_PER_HOST")
fi

execute xpk workload create --project="$PROJECT" --zone="$ZONE" --cluster="$CLUSTER" \
  --workload="$NAME" --docker-image="$IMAGE" --device-type="$DEVICE_TYPE" --storage="$STORAGE" \
  --max-restarts="${MAX_RESTARTS:-100}" --restart-on-exit-codes=1,75 \
  --termination-grace-period-seconds="${GRACE_SECONDS:-120}" \
  ${extra[@]+"${extra[@]}"} --command="$line"
