#!/usr/bin/env bash
# Several processes on this machine: launch/local_processes.sh COUNT --config=FILE ...
# (One process drives all GPUs of a machine just as well: that is launch/run.sh alone.)
#   DEVICES_PER_PROCESS=4   process i gets GPUs 4i to 4i+3; without it JAX decides
#   PORT=8476               of the coordinator; without it a free one
#   PATIENCE=150            seconds from the first failure until the others are killed; they
#                           notice by themselves within JAX's heartbeat, 100 s
# SIGTERM and SIGINT are handed on to all. The exit status is that of the first process that
# failed; else 75 if one was stopped after saving; else 0.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/execute.sh"

count=${1:-}
if [[ ! $count =~ ^[1-9][0-9]{0,3}$ ]]; then
  fail "the first argument is $(printf '%q' "$count"), not a number of processes; give such as 2"
fi
shift
whole DEVICES_PER_PROCESS=4 1
whole PORT=8476 1 65535
whole PATIENCE=150 0

port=${PORT:-}
while [[ -z $port ]]; do
  port=$((20000 + RANDOM % 10000))
  # Whatever answers there has taken it.
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then port=; fi
done
export GMSRM_COORDINATOR=127.0.0.1:$port GMSRM_NUM_PROCESSES=$count

processes=()
start() {
  for ((i = 0; i < count; i++)); do
    export GMSRM_PROCESS_ID=$i
    if [[ -n ${DEVICES_PER_PROCESS:-} ]]; then
      export GMSRM_EXPECTED_LOCAL_DEVICES=$DEVICES_PER_PROCESS
      JAX_LOCAL_DEVICE_IDS=$(seq -s , $((i * DEVICES_PER_PROCESS)) $(((i + 1) * DEVICES_PER_PROCESS - 1)))
      export JAX_LOCAL_DEVICE_IDS
    fi
    if [[ ${DRY_RUN:-} == 1 ]]; then
      "$here/run.sh" "$@"
    else
      "$here/run.sh" "$@" &
      processes[i]=$!
    fi
  done
}

signal_all() {
  for process in ${processes[@]+"${processes[@]}"}; do kill "-$1" "$process" 2>/dev/null || true; done
}
# A shell's background processes ignore SIGINT, so they get SIGTERM for either.
trap 'signal_all TERM' TERM INT

start "$@"
status=0
deadline=
while ((${#processes[@]})); do
  for i in "${!processes[@]}"; do
    if kill -0 "${processes[i]}" 2>/dev/null; then continue; fi
    code=0
    wait "${processes[i]}" || code=$?
    unset "processes[i]"
    if ((code == 75 && status == 0)); then
      status=75
    elif ((code != 0 && code != 75)) && [[ -z $deadline ]]; then
      status=$code
      deadline=$((SECONDS + ${PATIENCE:-150}))
      echo "local_processes.sh: process $i ended with $code" >&2
    fi
  done
  if [[ -n $deadline ]] && ((SECONDS >= deadline)); then signal_all KILL; fi
  sleep 0.2
done
exit "$status"
