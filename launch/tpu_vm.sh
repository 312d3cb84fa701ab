#!/usr/bin/env bash
# A run on a Cloud TPU VM slice (v4, v5e, v5p, v6e); DRY_RUN=1 prints the commands.
#   export PROJECT=my-project ZONE=us-east5-b TPU=NAME
#   ACCELERATOR_TYPE=v6e-16 RUNTIME=v2-alpha-tpuv6e IMAGE=REGISTRY/gmsrm:TAG SHARE=IP:/EXPORT \
#     launch/tpu_vm.sh run --config=FILE --workdir=/mnt/gmsrm/runs/paris ...
#   launch/tpu_vm.sh stop      # saves and ends; `run` goes on from there
#   launch/tpu_vm.sh delete
# `run` stays here until the run is done: it makes the slice if there is none, starts the container
# on every host, and starts again after 75, a crash, or the loss of the slice. SHARE is an NFS
# export (Filestore) that the hosts see as /mnt/gmsrm. Optional: SPOT=1, MAX_RESTARTS, PAUSE (s),
# DEVICES_PER_HOST, which is checked.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/execute.sh"
google_cloud
needs TPU=paris
label TPU=paris 63 a-z
installed gcloud

gcloud_tpu() {
  execute gcloud compute tpus tpu-vm "$1" "$TPU" --project="$PROJECT" --zone="$ZONE" "${@:2}"
}
on_all() { gcloud_tpu ssh --worker=all --command="$1"; }
remove="sudo docker stop --time=120 gmsrm >/dev/null 2>&1; sudo docker rm --force gmsrm >/dev/null 2>&1; true"

make_slice() {
  local spot=()
  if [[ ${SPOT:-} == 1 ]]; then spot=(--spot); fi
  gcloud_tpu create --accelerator-type="$ACCELERATOR_TYPE" --version="$RUNTIME" \
    ${spot[@]+"${spot[@]}"}
}

prepare() {
  on_all "sudo apt-get install -y -qq nfs-common \
&& sudo mkdir -p /mnt/gmsrm && { mountpoint -q /mnt/gmsrm || sudo mount -t nfs $SHARE /mnt/gmsrm; } \
&& sudo gcloud auth configure-docker ${IMAGE%%/*} --quiet && sudo docker pull --quiet $IMAGE"
}

# A line for every host. Run twice, as gcloud does when a connection breaks, it only looks on again.
start_line() {
  local environment=" --env JAX_COMPILATION_CACHE_DIR=/mnt/gmsrm/xla-0"
  if [[ -n ${DEVICES_PER_HOST:-} ]]; then
    environment+=" --env GMSRM_EXPECTED_LOCAL_DEVICES=$DEVICES_PER_HOST"
  fi
  printf 'sudo docker container inspect gmsrm >/dev/null 2>&1 '
  printf '|| sudo docker run --detach --name=gmsrm --user=root --privileged --net=host'
  printf ' --volume=/mnt/gmsrm:/mnt/gmsrm%s %s' "$environment" "$IMAGE"
  printf ' %q' "$@"
  printf ' >/dev/null || exit 125; sudo docker logs --follow gmsrm; exit "%s"' "\$(sudo docker wait gmsrm)"
}

run() {
  needs ACCELERATOR_TYPE=v6e-16 RUNTIME=v2-alpha-tpuv6e SHARE=10.0.0.2:/share
  matches ACCELERATOR_TYPE=v6e-16 'v[0-9]+[a-z]*-[1-9][0-9]*' "the API's name of a slice"
  label RUNTIME=v2-alpha-tpuv6e 63
  image
  matches SHARE=10.0.0.2:/share '[A-Za-z0-9.-]+:/[A-Za-z0-9._/-]*' "host and path of an NFS export"
  switches SPOT
  whole MAX_RESTARTS=100 0
  whole PAUSE=60 0
  whole DEVICES_PER_HOST=4 1
  for_container "$@"
  local restarts=0 state status prepared=''
  while true; do
    state=$([[ ${DRY_RUN:-} == 1 ]] || gcloud_tpu describe --format='value(state)') || state=''
    if [[ $state == PREEMPTED || $state == TERMINATED ]]; then
      echo "tpu_vm.sh: $TPU is $state; it is made anew" >&2
      gcloud_tpu delete --quiet || true
      state=''
    fi
    status=0
    if [[ -z $state ]]; then make_slice && prepared='' || status=$?; fi
    if ((status == 0)) && [[ -z $prepared ]]; then prepare && prepared=1 || status=$?; fi
    if ((status == 0)); then
      { on_all "$remove" && on_all "$(start_line "$@")"; } || status=$?
    fi
    if [[ ${DRY_RUN:-} == 1 ]]; then return 0; fi
    echo "tpu_vm.sh: ended with $status" >&2
    # Of these the same would come again.
    if ((status == 0 || status == 2 || status == 3)); then return "$status"; fi
    if ((restarts == ${MAX_RESTARTS:-100})); then return "$status"; fi
    restarts=$((restarts + 1))
    sleep "${PAUSE:-60}"
  done
}

case ${1:-} in
  run) run "${@:2}" ;;
  stop) on_all "sudo docker stop --time=120 gmsrm" ;;
  delete) gcloud_tpu delete --quiet ;;
  *) fail "the first argument is $(printf '%q' "${1:-}"), not run, stop or delete; put one first" ;;
esac
