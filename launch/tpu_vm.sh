#!/usr/bin/env bash
# A Cloud TPU slice from the request to the teardown.

usage() {
  cat <<'USAGE'
usage: launch/tpu_vm.sh [--settings FILE] [--dry_run] [--yes] SUBCOMMAND [-- ARGUMENT...]
       e.g. launch/tpu_vm.sh --settings helen.env start -- --mode=eval --checkpoint=best

  create      ask for the slice (a queued resource) and wait until it is there
  status      state of the slice, and of the run on each of its machines
  provision   send the commit that is checked out to every machine and install it there
  start       start training on every machine, in the background
  logs [N]    follow the log of machine N (0)
  stop        let the run save and end; the slice stays
  watch       wait until the run has finished or was stopped by `stop`; when the slice is preempted,
              delete it, create it anew, provision and start; try again what fails, the run too,
              MAX_FAILURES times. It starts the run with its own arguments: give it those of `start`
  teardown    delete the slice, after asking; checkpoints and data stay where they are
  run         create, provision, start, watch and, once the run has finished, teardown
USAGE
}

# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
read_command_line "$@"
require_subcommand create status provision start logs stop watch teardown run
require PROJECT ZONE TPU_NAME ACCELERATOR_TYPE RUNTIME_VERSION PYTHON_VERSION CONFIG WORKDIR
require_cloud_name TPU_NAME
require_choice PROVISIONING spot reserved on-demand
require_number POLL_SECONDS MAX_FAILURES

name=${settings[TPU_NAME]}
where=(--project="${settings[PROJECT]}" --zone="${settings[ZONE]}")
readonly healthy_polls=10 # so many looks at a running run, and earlier failures are forgiven
failures=0                # of the run, and of steps that `watch` takes
remaking=false            # this script has deleted the slice, or it may not be listed yet

# State of the queued resource; nothing where there is none.
slice_state() {
  ask ACTIVE gcloud compute tpus queued-resources list "${where[@]}" \
    --filter="name~/$name\$" --format="value(state.state)"
}

node_state() {
  ask READY gcloud compute tpus tpu-vm describe "$name" "${where[@]}" --format="value(state)"
}

on_every_machine() {
  run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all --command="$1"
}

# One word a machine; a machine that was never provisioned has no worker.sh to ask.
readonly state_command="if [ -e dmlcsr_jax/launch/worker.sh ]; then bash dmlcsr_jax/launch/worker.sh state; else echo absent; fi"
run_states() {
  ask finished gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker=all \
    --command="$state_command"
}

# Says why a request has failed: no quota, or no such type in the zone.
describe_request() {
  run gcloud compute tpus queued-resources describe "$name" "${where[@]}" >&2 || true
}

await_active() {
  local state shown=''
  while true; do
    state=$(slice_state) || state='no answer'
    case $state in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDED)
        describe_request
        fail "the request for $name has become $state; its description is above."
        ;;
    esac
    if [[ $state != "$shown" ]]; then
      say "$name: ${state:-not listed}"
      shown=$state
    fi
    sleep "${settings[POLL_SECONDS]}"
  done
}

request() {
  local options=()
  case ${settings[PROVISIONING]} in
    spot) options+=(--spot) ;;
    reserved) options+=(--reserved) ;;
  esac
  [[ -z ${settings[SERVICE_ACCOUNT]:-} ]] || options+=(--service-account="${settings[SERVICE_ACCOUNT]}")
  [[ -z ${settings[NETWORK]:-} ]] || options+=(--network="${settings[NETWORK]}")
  [[ -z ${settings[SUBNETWORK]:-} ]] || options+=(--subnetwork="${settings[SUBNETWORK]}")
  run gcloud compute tpus queued-resources create "$name" "${where[@]}" --node-id="$name" \
    --accelerator-type="${settings[ACCELERATOR_TYPE]}" \
    --runtime-version="${settings[RUNTIME_VERSION]}" "${options[@]}"
}

discard() {
  run gcloud compute tpus queued-resources delete "$name" "${where[@]}" --force --quiet
}

refuse_a_second() {
  local state
  if ! $dry_run; then
    state=$(slice_state)
    [[ -z $state ]] || fail "$name exists already and is $state; watch it, or tear it down first."
  fi
}

create() {
  refuse_a_second
  request
  await_active
}

status() {
  run gcloud compute tpus queued-resources list "${where[@]}" --filter="name~/$name\$"
  run gcloud compute tpus tpu-vm list "${where[@]}" --filter="name~/$name\$"
  if [[ $(slice_state) == ACTIVE ]]; then
    on_every_machine "$state_command"
  fi
}

provision() {
  local archive=$root/build/checkout.tgz
  if ! $dry_run && [[ -n $(git -C "$root" status --porcelain --untracked-files=no) ]]; then
    say "uncommitted changes are not sent; the commit that is checked out is."
  fi
  run mkdir -p "$root/build"
  run git -C "$root" archive --format=tgz --output="$archive" HEAD
  run gcloud compute tpus tpu-vm scp "$archive" "$name:dmlcsr_jax.tgz" "${where[@]}" --worker=all
  on_every_machine "rm -rf dmlcsr_jax && mkdir dmlcsr_jax && tar -xzf dmlcsr_jax.tgz -C dmlcsr_jax && bash dmlcsr_jax/launch/worker.sh provision $(quote "${settings[PYTHON_VERSION]}")"
}

start() {
  on_every_machine "bash dmlcsr_jax/launch/worker.sh start $(quote "${main_arguments[@]}")"
}

stop() {
  on_every_machine "bash dmlcsr_jax/launch/worker.sh stop"
}

logs() {
  local worker=${words[1]:-0}
  [[ $worker =~ ^[0-9]+$ ]] || fail "logs needs the number of a machine, not '$worker'."
  run gcloud compute tpus tpu-vm ssh "$name" "${where[@]}" --worker="$worker" \
    --command="tail -n 200 -F dmlcsr_jax_run/log"
}

remake() {
  discard
  request
}

provision_and_start() {
  provision
  start
}

# Prints in a word how the slice and the run on it are; `wait` is followed by the slice's state.
verdict() {
  local slice node states
  slice=$(slice_state) || return 1
  case $slice in
    ACTIVE) ;;
    '') echo gone && return ;;
    DELETING) echo deleting && return ;;
    FAILED) echo refused && return ;;
    SUSPENDED) echo lost && return ;;
    *) echo "wait $slice" && return ;;
  esac
  # The node can be known to be lost before its queued resource is.
  node=$(node_state) || return 1
  case $node in
    DELETING) echo deleting && return ;;
    PREEMPTED | TERMINATED | STOPPED | STOPPING) echo lost && return ;;
  esac
  states=$(run_states) || return 1
  case $'\n'$states$'\n' in
    # First: while a stop is under way some machines still save.
    *$'\n'running$'\n'*) echo running ;;
    *$'\n'requested$'\n'*) echo requested ;;
    *$'\n'absent$'\n'*) echo absent ;;
    *$'\n'failed$'\n'*) echo failed ;;
    *$'\n'stopped$'\n'* | *$'\n'lost$'\n'*) echo stopped ;;
    *$'\n'finished$'\n'*) echo finished ;;
    *) return 1 ;;
  esac
}

# A failure beyond MAX_FAILURES ends this script, but not the slice.
count_failure() {
  failures=$((failures + 1))
  ((failures <= settings[MAX_FAILURES])) ||
    fail "$1; that is failure $failures, and MAX_FAILURES is ${settings[MAX_FAILURES]}. What there is of $name stays and may cost money: $(quote launch/tpu_vm.sh --settings "$settings_file" teardown) deletes it."
  say "$1 (failure $failures, MAX_FAILURES is ${settings[MAX_FAILURES]}); it is tried again."
}

# Takes steps as a command of its own, so that one that fails ends them but not the watch.
attempt() {
  local result
  set +e
  (
    set -e
    "$@"
  )
  result=$?
  set -e
  ((result == 0)) || count_failure "that did not work"
}

watch() {
  local now shown='' running=0
  if $dry_run; then
    say "every ${settings[POLL_SECONDS]} s, until the run has finished:"
    verdict >/dev/null
    say "where the machines are new:"
    provision_and_start
    say "where the slice is lost:"
    remake
    say "where the run was stopped from outside, or has failed:"
    start
    return
  fi
  while true; do
    now=$(verdict) || now=unknown
    if [[ $now == wait* && $now != "$shown" ]]; then
      say "$name: ${now#wait }"
    fi
    shown=$now
    [[ $now == running ]] || running=0
    case $now in
      running)
        running=$((running + 1))
        ((running < healthy_polls)) || failures=0
        ;;
      finished)
        say "the run has finished."
        return 0
        ;;
      requested)
        say "the run was stopped on request; the slice $name stays and costs money: start goes on, teardown deletes it."
        exit 0
        ;;
      gone)
        $remaking || fail "the slice $name is gone: it was deleted, and not by this script; create makes a new one."
        attempt request
        ;;
      lost)
        say "the slice $name is lost; a new one is asked for."
        # What failed just before may have failed for that.
        $remaking || failures=0
        remaking=true
        attempt remake
        ;;
      refused)
        describe_request
        remaking=true
        count_failure "the request for $name has failed; its description is above"
        attempt remake
        ;;
      absent)
        say "the machines of $name are new; they are provisioned, and the run is started."
        attempt provision_and_start
        ;;
      stopped)
        say "the run was stopped; it is started again."
        attempt start
        ;;
      failed)
        count_failure "the run has failed; launch/tpu_vm.sh logs says why"
        attempt start
        ;;
      unknown) say "$name did not answer; it is asked again." ;;
    esac
    case $now in
      gone | deleting | lost | refused | unknown) ;;
      *) remaking=false ;;
    esac
    sleep "${settings[POLL_SECONDS]}"
  done
}

teardown() {
  confirm "Delete the slice $name (${settings[ACCELERATOR_TYPE]}) in ${settings[ZONE]} of ${settings[PROJECT]}?"
  discard
}

run_all() {
  refuse_a_second
  request
  remaking=true
  watch
  teardown
}

case ${words[0]} in
  run) run_all ;;
  *) "${words[0]}" ;;
esac
