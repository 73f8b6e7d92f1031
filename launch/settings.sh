# shellcheck shell=bash
# The options and the settings file that all launch scripts share; sourced by them.

set -euo pipefail

fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)) ||
  fail "bash 5.1 or newer is needed, this is $BASH_VERSION."

launch_dir=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034 # read by the scripts that source this file
root=$(dirname -- "$launch_dir")

readonly setting_names=(
  CONFIG WORKDIR
  PROJECT PROVISIONING MAX_FAILURES
  ZONE TPU_NAME ACCELERATOR_TYPE RUNTIME_VERSION SERVICE_ACCOUNT NETWORK SUBNETWORK
  PYTHON_VERSION POLL_SECONDS
  GKE_CLUSTER GKE_LOCATION GKE_NODE_POOL GKE_ZONE GKE_MACHINE_TYPE GKE_ACCELERATOR GKE_TOPOLOGY
  GKE_HOSTS GKE_CHIPS_PER_HOST GKE_RESERVATION GKE_NAMESPACE GKE_SERVICE_ACCOUNT GKE_JOB IMAGE
  SLURM_JOB SLURM_NODES SLURM_GPUS_PER_NODE SLURM_CPUS_PER_GPU SLURM_PROCESS_PER SLURM_TIME
  SLURM_PARTITION SLURM_ACCOUNT SLURM_PYTHON SLURM_LOGS
)

declare -A settings=() # by name
settings_file=$launch_dir/settings.env
main_arguments=() # of dmlcsr_jax.main: those of the settings file, then those after --
behind_dashes=()  # the latter alone
words=()          # what is neither an option nor behind --
dry_run=false
assume_yes=false

# Standard output stays reachable from inside $(...).
exec 3>&1

# Prints one line that any POSIX shell reads back as exactly these arguments.
quote() {
  local argument separator='' escaped_quote="'\\''"
  for argument in "$@"; do
    if [[ ! $argument =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
      argument="'${argument//\'/"$escaped_quote"}'"
    fi
    printf '%s%s' "$separator" "$argument"
    separator=' '
  done
  printf '\n'
}

# Runs a command; with --dry_run prints it instead.
run() {
  if $dry_run; then
    quote "$@" >&3
  else
    "$@"
  fi
}

# Prints what a command prints; with --dry_run shows the command and prints the assumed answer.
ask() {
  local assumed=$1
  shift
  if $dry_run; then
    quote "$@" >&3
    printf '%s\n' "$assumed"
  else
    "$@"
  fi
}

# Says something to the person; inside --dry_run's list of commands it is a comment.
say() {
  if $dry_run; then
    printf '# %s\n' "$*" >&3
  else
    printf '%s\n' "$*" >&2
  fi
}

# Asks before something is lost; --yes answers.
confirm() {
  local answer=''
  if $dry_run || $assume_yes; then
    return 0
  fi
  printf '%s [y/N] ' "$1" >&2
  read -r answer || true
  [[ $answer == [yY] || $answer == [yY][eE][sS] ]] || fail "not confirmed, nothing was done."
}

# Refuses a text that has the placeholder of the examples; $1 says where it is.
_refuse_placeholder() {
  [[ $2 != *gs://BUCKET* ]] || fail "$1 still says gs://BUCKET; put the name of your bucket there."
}

_read_settings() {
  local line name value number=0
  local -A first=() # line in which a setting was first given
  [[ -f $settings_file ]] || fail "there is no settings file $settings_file; copy $launch_dir/settings.env."
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    line=${line%$'\r'}
    if [[ -z ${line//[[:blank:]]/} || $line == \#* ]]; then
      continue
    fi
    [[ $line =~ ^[A-Z_]+= ]] || fail "$settings_file, line $number: write NAME=value."
    name=${line%%=*}
    value=${line#*=}
    if [[ ${#value} -ge 2 && ($value == \'*\' || $value == \"*\") ]]; then
      value=${value:1:-1}
    fi
    _refuse_placeholder "$settings_file, line $number: $name" "$value"
    if [[ $name == ARGUMENT ]]; then
      main_arguments+=("$value")
      continue
    fi
    [[ " ${setting_names[*]} " == *" $name "* ]] ||
      fail "$settings_file, line $number: there is no setting $name; the settings are ARGUMENT, ${setting_names[*]}."
    [[ -z ${first[$name]:-} ]] ||
      fail "$settings_file, line $number: $name is set twice, first in line ${first[$name]}; keep one of the two lines."
    first[$name]=$number
    settings[$name]=$value
  done <"$settings_file"
}

# The options that all scripts share, for their --help.
common_usage() {
  cat <<'USAGE'

  --settings FILE   read FILE (launch/settings.env)
  --dry_run         print every command and run none
  --yes             do not ask before deleting or cancelling
  -- ARGUMENT...    more arguments of dmlcsr_jax.main; they win over those of the settings file
USAGE
}

# Reads the command line and the settings file: fills words, settings and main_arguments.
read_command_line() {
  local argument
  while (($#)); do
    case $1 in
      --settings=*) settings_file=${1#*=} ;;
      --settings)
        (($# >= 2)) || fail "--settings needs a file."
        settings_file=$2
        shift
        ;;
      --dry_run) dry_run=true ;;
      --yes) assume_yes=true ;;
      --help | -h)
        usage
        common_usage
        exit 0
        ;;
      --)
        shift
        behind_dashes=("$@")
        break
        ;;
      -*) fail "there is no option $1; --help lists them." ;;
      *) words+=("$1") ;;
    esac
    shift
  done
  _read_settings
  for argument in "${behind_dashes[@]}"; do
    _refuse_placeholder "the argument $argument" "$argument"
  done
  main_arguments=("--config=${settings[CONFIG]:-}" "--workdir=${settings[WORKDIR]:-}"
    "${main_arguments[@]}" "${behind_dashes[@]}")
}

# Refuses to go on without these settings, naming all that are missing.
require() {
  local name missing=()
  for name in "$@"; do
    if [[ -z ${settings[$name]:-} ]]; then
      missing+=("$name")
    fi
  done
  ((${#missing[@]} == 0)) || fail "$settings_file lacks ${missing[*]}: fill in what is missing."
}

# Refuses a value that is not a whole number above 0; $1 says what it is of.
check_number() {
  [[ $2 =~ ^[1-9][0-9]*$ ]] || fail "$1 is '$2'; it must be a whole number above 0."
}

require_number() {
  local name
  require "$@"
  for name in "$@"; do
    check_number "$settings_file: $name" "${settings[$name]}"
  done
}

# Refuses a setting that is none of the words after its name.
require_choice() {
  local name=$1
  shift
  require "$name"
  [[ " $* " == *" ${settings[$name]} "* ]] ||
    fail "$settings_file: $name is '${settings[$name]}'; it must be one of: $*."
}

# Refuses a setting that Google Cloud would not take as a name.
require_cloud_name() {
  local name
  require "$@"
  for name in "$@"; do
    [[ ${settings[$name]} =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] ||
      fail "$settings_file: $name is '${settings[$name]}'; it must be made of a-z, 0-9 and -, and begin with a letter."
  done
}

# Refuses the empty or unknown subcommand; the known ones are the arguments.
require_subcommand() {
  ((${#words[@]})) || fail "name what to do: $*; --help explains them."
  [[ " $* " == *" ${words[0]} "* ]] || fail "there is no '${words[0]}'; it is one of: $*."
}
