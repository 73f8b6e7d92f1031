#!/usr/bin/env bash
# Several processes on this machine, as if each were a host.

usage() {
  cat <<'USAGE'
usage: launch/local.sh [--settings FILE] [--dry_run] [--devices D] [--port P] N [-- ARGUMENT...]

Starts N processes of dmlcsr_jax.main on this machine's CPU, joined by JAX's distributed runtime
with gloo collectives, as if each were a host. Each line of output begins with its process's
number. SIGTERM and SIGINT make all of them save and end (SIGTERM; SIGKILL 60 s after the first has
ended); this script then ends with status 143. When one process fails, the others are ended in the
same way, and this script ends with status 1, naming it.

  --devices D       CPU devices that each process has (1)
  --port P          of the coordinator on 127.0.0.1 (a free one)
USAGE
}

# The background job of a script is started with SIGINT ignored, which bash itself cannot undo.
if [[ $(trap -p INT) == "trap -- '' SIGINT" ]]; then
  exec env --default-signal=INT bash "${BASH_SOURCE[0]}" "$@"
fi

# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"

readonly grace_seconds=60
devices=1
port=

# The two options of its own are taken out; settings.sh reads the others.
common=()
while (($#)); do
  case $1 in
    --devices=*) devices=${1#*=} ;;
    --port=*) port=${1#*=} ;;
    --devices | --port)
      (($# >= 2)) || fail "$1 needs a number."
      if [[ $1 == --devices ]]; then devices=$2; else port=$2; fi
      shift
      ;;
    --)
      common+=("$@")
      break
      ;;
    *) common+=("$1") ;;
  esac
  shift
done
read_command_line "${common[@]}"
((${#words[@]} == 1)) || fail "name the number of processes; --help explains."
count=${words[0]}
check_number "the number of processes" "$count"
check_number --devices "$devices"
[[ -z $port ]] || check_number --port "$port"
require CONFIG WORKDIR

port_is_taken() {
  (exec 9<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

if [[ -z $port ]]; then
  # Below the range from which the system gives ports to outgoing connections.
  port=$((RANDOM % 12000 + 20000))
  while port_is_taken "$port"; do
    port=$((RANDOM % 12000 + 20000))
  done
fi

cd "$root"
environment=(
  JAX_PLATFORMS=cpu
  JAX_CPU_COLLECTIVES_IMPLEMENTATION=gloo
  XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }--xla_force_host_platform_device_count=$devices"
)
pids=()
prefixers=()
$dry_run || pipes=$(mktemp -d)
trap '[[ -z ${pipes:-} ]] || rm -rf -- "$pipes"' EXIT
for ((process = 0; process < count; process++)); do
  command=(env "${environment[@]}" python -m dmlcsr_jax.main "${main_arguments[@]}"
    --coordinator_address="127.0.0.1:$port" --num_processes="$count" --process_id="$process")
  if $dry_run; then
    run "${command[@]}"
    continue
  fi
  mkfifo "$pipes/$process"
  # It goes on reading when a signal is sent to all: the processes still have something to say.
  (
    trap '' TERM INT
    while IFS= read -r line || [[ -n $line ]]; do
      printf '[%s] %s\n' "$process" "$line"
    done <"$pipes/$process"
  ) &
  prefixers+=("$!")
  "${command[@]}" >"$pipes/$process" 2>&1 &
  pids+=("$!")
done
if $dry_run; then
  exit 0
fi

# shellcheck disable=SC2317,SC2329 # called by the traps
pass_on() {
  kill -TERM "${pids[@]}" 2>/dev/null || true
}
trap pass_on TERM INT

failed=
stopped=false
killer=
declare -A alive=()
for ((process = 0; process < count; process++)); do
  alive[${pids[process]}]=$process
done
while ((${#alive[@]})); do
  status=0
  wait -n -p ended "${!alive[@]}" || status=$?
  if [[ -z ${ended:-} ]]; then
    continue # a signal was passed on
  fi
  process=${alive[$ended]}
  unset "alive[$ended]"
  if ((status == 0)); then
    continue
  elif ((status == 143)); then
    stopped=true # it has saved after a SIGTERM
  elif [[ -z $failed ]]; then
    failed="process $process ended with status $status"
    if ((status > 128)); then
      failed+=" (signal $(kill -l "$status"))"
    fi
    if ((${#alive[@]})); then
      failed+="; the others were ended"
    fi
  fi
  if ((${#alive[@]})) && [[ -z $killer ]]; then
    kill -TERM "${!alive[@]}" 2>/dev/null || true
    (
      trap - TERM INT
      sleep "$grace_seconds" &
      trap 'kill $!; exit' TERM
      wait
      kill -KILL "${!alive[@]}"
    ) &>/dev/null 3>&- & # ended before its trap is set, it leaves a sleep: it must hold no pipe
    killer=$!
  fi
done
if [[ -n $killer ]]; then
  kill "$killer" 2>/dev/null || true
fi
# What the processes wrote last is out before this script ends.
wait "${prefixers[@]}" || true
[[ -z $failed ]] || fail "$failed."
! $stopped || exit 143
