#!/usr/bin/env bash
# The part of tpu_vm.sh that runs on each machine of a slice, from the checkout that was sent there.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: launch/worker.sh provision PYTHON_VERSION
       launch/worker.sh start [ARGUMENT of dmlcsr_jax.main...]
       launch/worker.sh supervise [ARGUMENT of dmlcsr_jax.main...]
       launch/worker.sh stop
       launch/worker.sh state

Called by launch/tpu_vm.sh on every machine of a slice.
  provision  makes the virtual environment and installs this checkout for TPU into it
  start      starts training in the background; the log is ~/dmlcsr_jax_run/log
  supervise  what `start` leaves running: runs training and writes how it is to ~/dmlcsr_jax_run/state
  stop       sends SIGTERM and waits until the run has saved and ended
  state      prints one word: absent, running, finished, stopped, requested, lost or failed
             (stopped: by a SIGTERM from outside; requested: by `stop`; lost: its machine restarted)
USAGE
}

checkout=$(dirname -- "$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)")
lock=$checkout/launch/requirements.txt
venv=$HOME/dmlcsr_jax_venv
run_dir=$HOME/dmlcsr_jax_run

provision() {
  local python_version=$1
  if ! python3 -m pip --version >/dev/null 2>&1; then
    sudo apt-get -o DPkg::Lock::Timeout=300 -q update
    sudo apt-get -o DPkg::Lock::Timeout=300 -q -y install python3-pip
  fi
  # The image's own Python is older than the project needs; uv brings the right one.
  sed -n '/^uv==/,/[^\\]$/p' "$lock" |
    python3 -m pip install --user --quiet --upgrade --require-hashes --requirement=/dev/stdin
  python3 -m uv venv --quiet --allow-existing --python="$python_version" "$venv"
  python3 -m uv pip install --quiet --python="$venv/bin/python" --require-hashes --requirement="$lock"
  python3 -m uv pip install --quiet --python="$venv/bin/python" --no-deps --no-build-isolation \
    --editable "$checkout"
  "$venv/bin/python" -c 'import dmlcsr_jax, jax, libtpu'
}

write_state() {
  printf '%s\n' "$*" >"$run_dir/state.new"
  mv -f -- "$run_dir/state.new" "$run_dir/state"
}

supervise() {
  local status=0
  # A SIGTERM to all processes of the machine is training's to answer; its status is still read.
  trap : TERM
  (
    write_state running "$BASHPID" $$ && exec "$venv/bin/python" -m dmlcsr_jax.main --distributed "$@"
  ) || status=$?
  case $status in
    0) write_state finished ;;
    143) write_state stopped ;; # it has saved after a SIGTERM
    *) write_state failed "$status" ;;
  esac
  return "$status"
}

state() {
  local word=absent pids=() # pids: after the word
  if [[ -f $run_dir/state ]]; then
    read -ra pids <"$run_dir/state"
    word=${pids[0]}
  fi
  # Of training and of what supervises it: when both are gone, nobody will write how it ended.
  if [[ $word == running ]] && ! kill -0 "${pids[@]:1}" 2>/dev/null; then
    word=lost
  elif [[ $word == stopped && -f $run_dir/stop_requested ]]; then
    word=requested
  fi
  printf '%s\n' "$word"
}

start() {
  [[ $(state) != running ]] || {
    echo "error: a run is under way on $(hostname) already; stop it first." >&2
    exit 1
  }
  mkdir -p "$run_dir"
  rm -f "$run_dir/stop_requested" "$run_dir/state"
  cd "$checkout"
  nohup setsid bash launch/worker.sh supervise "$@" </dev/null >>"$run_dir/log" 2>&1 &
  for _ in {1..50}; do
    if [[ -f $run_dir/state ]]; then
      return 0
    fi
    sleep 0.2
  done
  echo "error: the run did not start on $(hostname); see $run_dir/log." >&2
  exit 1
}

stop() {
  local training
  if [[ $(state) != running ]]; then
    echo "no run is under way on $(hostname)."
    return 0
  fi
  touch "$run_dir/stop_requested"
  read -r _ training _ <"$run_dir/state"
  kill -TERM "$training" 2>/dev/null || true # it may have ended just now
  while [[ $(state) == running ]]; do
    sleep 0.5
  done
}

case ${1:-} in
  provision | start | supervise | stop | state) "$@" ;;
  --help | -h) usage ;;
  *)
    usage >&2
    exit 2
    ;;
esac
