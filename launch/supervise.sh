#!/usr/bin/env bash
# Runs one training process and tells a finished run from one that was stopped: the process itself
# ends with status 0 in both cases.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: launch/supervise.sh STATE_FILE COMMAND [ARGUMENT...]

Runs COMMAND and passes SIGTERM on to it. STATE_FILE (-: none) holds one line, always whole:
  running PID     PID is this script's
  finished        COMMAND ended with status 0 by itself; so does this script
  stopped         COMMAND ended after a SIGTERM; this script ends with status 143
  failed STATUS   COMMAND ended otherwise; this script ends with its status
USAGE
}

if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  usage
  exit 0
fi
if (($# < 2)); then
  usage >&2
  exit 2
fi
state_file=$1
shift

write_state() {
  [[ $state_file != - ]] || return 0
  printf '%s\n' "$1" >"$state_file.new"
  mv -f -- "$state_file.new" "$state_file"
}

stopped=false
interrupted=false
child=
# shellcheck disable=SC2317,SC2329 # called by the trap
on_term() {
  stopped=true
  interrupted=true
  if [[ -n $child ]]; then
    kill -TERM "$child" 2>/dev/null || true
  fi
}
trap on_term TERM

write_state "running $$"
"$@" &
child=$!
if $stopped; then
  kill -TERM "$child" 2>/dev/null || true
fi

# A trap ends `wait` early, with status 143. Where an earlier `wait` has had the status already, or it
# was lost because the child died together with the trap, `wait` says 127 or -1.
status=127
while true; do
  interrupted=false
  code=0
  wait "$child" || code=$?
  if ((code >= 0 && code != 127)); then
    status=$code
  fi
  $interrupted || break
done

if $stopped && ((status == 0 || status == 143)); then
  write_state stopped
  exit 143
elif ((status == 0)); then
  write_state finished
else
  write_state "failed $status"
fi
exit "$status"
