# shellcheck shell=bash
# Sourced by the scripts that start something elsewhere.

# Runs a command, or prints it if DRY_RUN=1.
execute() {
  if [[ ${DRY_RUN:-} == 1 ]]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# A word as a string of YAML.
quoted() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}
