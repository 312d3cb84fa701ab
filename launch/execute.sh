# shellcheck shell=bash
# Sourced by the scripts: what they check before anything is started, and how they start it.

script=${0##*/} # names itself in errors

# Ends with one line: what is wrong, and the cure.
fail() {
  echo "$script: $*" >&2
  exit 2
}

# A check is given a variable with an example of its value, NAME=paris. All but `needs` let a
# variable pass that has no value.

# Ends unless all of the variables have a value.
needs() {
  local example variable
  for example in "$@"; do
    variable=${example%%=*}
    if [[ -z ${!variable:-} ]]; then fail "$variable is not set; set it, such as $example"; fi
  done
}

# Ends: a variable has to be something else, in words.
wrong() {
  local variable=${1%%=*}
  fail "$variable=$(printf '%q' "${!variable}"); set $2, such as $1"
}

# matches NAME=EXAMPLE PATTERN WORDS: a regular expression, of the whole value.
matches() {
  local LC_ALL=C variable=${1%%=*} # in other locales a to z may hold A
  if [[ -n ${!variable:-} && ! ${!variable} =~ ^($2)$ ]]; then wrong "$1" "$3"; fi
}

# whole NAME=EXAMPLE LEAST [MOST]: a whole number.
whole() {
  local variable=${1%%=*} most=${3:-2147483647}
  local value=${!variable:-$2}
  if [[ ! $value =~ ^(0|[1-9][0-9]{0,9})$ ]] || ((value < $2 || value > most)); then
    wrong "$1" "a whole number from $2${3:+ to $3}"
  fi
}

# label NAME=EXAMPLE MOST [FIRST]: a name as RFC 1123 has it; FIRST is a-z where it needs a letter.
label() {
  local words="at most $2 lower-case letters, digits and -"
  matches "$1" "[${3:-a-z0-9}]([-a-z0-9]{0,$(($2 - 2))}[a-z0-9])?" "$words${3:+, a letter first}"
}

# switches NAME ...: 1, 0 or nothing.
switches() {
  local variable
  for variable in "$@"; do matches "$variable=1" '[01]' "1, or leave it out"; done
}

image() {
  local path='[A-Za-z0-9._-]+(:[0-9]+)?(/[a-z0-9._-]+)+'
  needs IMAGE=REGISTRY/gmsrm:TAG
  matches IMAGE=REGISTRY/gmsrm:TAG "$path(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[0-9a-f]{64})?" \
    "an image with its registry"
}

google_cloud() {
  needs PROJECT=my-project ZONE=us-east5-b
  matches PROJECT=my-project '([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]' "a project's id"
  matches ZONE=us-east5-b '[a-z]+-[a-z]+[0-9]+-[a-z0-9]+' "a zone"
}

kubernetes() {
  label NAMESPACE=default 63
  whole MAX_RESTARTS=10 0
  whole RUN_AS_USER=1000 0
  needs CLAIM=gmsrm
  matches CLAIM=gmsrm '[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?' "the name of a volume claim"
}

# on_volume LONG SHORT ARGUMENTS ...: ends unless an option, by either name, is a path on the
# volume, /mnt/gmsrm; what is written elsewhere is lost with the container.
on_volume() {
  local long=$1 short=$2 value='' word before=''
  for word in "${@:3}"; do
    case $word in
      "$long"=* | "$short"=*) value=${word#*=} ;;
      *) if [[ $before == "$long" || $before == "$short" ]]; then value=$word; fi ;;
    esac
    before=$word
  done
  if [[ -z $value ]]; then
    fail "$long is not given, and what is written outside /mnt/gmsrm is lost with the container;" \
      "give it, such as $long=/mnt/gmsrm/runs/paris"
  elif [[ $value/ != /mnt/gmsrm/* || $value/ == */../* ]]; then
    fail "$long=$(printf '%q' "$value") is not on the volume, and lost with the container; give a" \
      "path there, such as $long=/mnt/gmsrm/runs/paris"
  fi
}

# Ends unless the arguments are for the program, and what it writes outlives its container.
for_container() {
  case ${1:-} in
    '')
      fail "no arguments for the program; give such as" \
        "--config=configs/paris.py --workdir=/mnt/gmsrm/runs/paris"
      ;;
    -*) on_volume --workdir -workdir "$@" ;;
    compare) on_volume --workdir --workdir "$@" ;;
    evaluate | export | inpaint) on_volume --output -o "$@" ;;
    convert | data | doctor | masks | serve | study) ;;
    *)
      fail "there is no command $(printf '%q' "$1"); begin with --config=FILE for a training, or" \
        "with compare, convert, data, doctor, evaluate, export, inpaint, masks, serve or study"
      ;;
  esac
}

# Ends unless the arguments are of a work that is done in shares; the scripts add which.
in_shares() {
  local word
  if [[ ${1:-} != inpaint && ${1:-} != evaluate ]]; then
    fail "the first argument is $(printf '%q' "${1:-}"), and works in no shares; give inpaint or" \
      "evaluate, and its options"
  fi
  for word in "$@"; do
    case $word in
      --shard | --shard=* | --join | --join=*)
        fail "$word is not for a share; leave it out: --shard is added here, --join is for the end"
        ;;
    esac
  done
}

# Ends unless a program that is to be run is there.
installed() {
  if [[ ${DRY_RUN:-} != 1 ]] && ! command -v "$1" >/dev/null; then
    fail "$1 is not on the PATH; install it, or look at what would be done with DRY_RUN=1"
  fi
}

# Runs a command, or prints it if DRY_RUN=1.
execute() {
  if [[ ${DRY_RUN:-} == 1 ]]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

# Hands Kubernetes what `manifest ARGUMENTS` prints, or prints it if DRY_RUN=1.
create() {
  if [[ ${DRY_RUN:-} == 1 ]]; then
    manifest "$@"
  else
    manifest "$@" | kubectl create --filename=-
  fi
}

# A word as a string of YAML.
quoted() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

switches DRY_RUN
