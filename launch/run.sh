#!/usr/bin/env bash
# What every host runs, whatever started it: python -m gmsrm_jax.main with the arguments given, or
# the gmsrm command that they begin with. Python takes this shell's place, so that signals reach it. Variables: launch/README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source launch/execute.sh
whole GMSRM_EXPECTED_LOCAL_DEVICES=8 1
matches GMSRM_COORDINATOR=node1:8476 '[^[:space:]]+:[0-9]+' "HOST:PORT of process 0"
whole GMSRM_NUM_PROCESSES=2 1
whole GMSRM_PROCESS_ID=0 0
whole GMSRM_START_TIMEOUT=300 1
whole GMSRM_HEARTBEAT_TIMEOUT=100 1
program=gmsrm_jax.main
if [[ ${1:--} != -* ]]; then program=gmsrm_jax.cli; fi

# In a SLURM step JAX takes one GPU only, that of SLURM_LOCALID, unless it is told which.
if [[ -n ${GMSRM_EXPECTED_LOCAL_DEVICES:-} && -z ${JAX_LOCAL_DEVICE_IDS:-} ]]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s , 0 $((GMSRM_EXPECTED_LOCAL_DEVICES - 1)))
  export JAX_LOCAL_DEVICE_IDS
fi

if [[ ${DRY_RUN:-} == 1 ]]; then
  command=(env)
  for name in $(compgen -e | grep -E '^((GMSRM|JAX|LIBTPU|NCCL|XLA)_.*|CUDA_VISIBLE_DEVICES)$' | sort)
  do
    command+=("$name=${!name}")
  done
  command+=(python -m "$program" "$@")
  printf 'cd %q\n' "$PWD"
  if [[ -n ${VENV:-} ]]; then printf 'source %q\n' "$VENV/bin/activate"; fi
  printf '%q ' "${command[@]}"
  printf '\n'
  exit 0
fi

if [[ -n ${VENV:-} ]]; then
  if [[ ! -f $VENV/bin/activate ]]; then
    fail "VENV=$VENV holds no bin/activate; make one with: make install VENV=$VENV"
  fi
  # shellcheck disable=SC1091
  source "$VENV/bin/activate"
fi

# Whoever can write to compiled programs can run code here: the folder is for its owner only.
if [[ -n ${JAX_COMPILATION_CACHE_DIR:-} ]]; then
  (umask 077 && mkdir -p "$JAX_COMPILATION_CACHE_DIR")
fi

exec python -m "$program" "$@"
