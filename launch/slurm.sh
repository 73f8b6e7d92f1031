#!/usr/bin/env bash
# A GPU job on a Slurm cluster.

usage() {
  cat <<'USAGE'
usage: launch/slurm.sh [--settings FILE] [--dry_run] [--yes] SUBCOMMAND [-- ARGUMENT...]

  start      submit launch/slurm.sbatch: one process for each GPU or node; it saves and goes back
             into the queue before its time limit, and after a preemption or a dead node. It
             keeps the settings of now: a copy of FILE in SLURM_LOGS
  status     the job in the queue
  logs       follow the log of the newest job
  stop       let the run save and end; it does not go back into the queue, and leaves it if it
             waits there
  teardown   cancel the job at once, after asking: what was not saved is lost
USAGE
}

# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
read_command_line "$@"
require_subcommand start status logs stop teardown
require CONFIG WORKDIR SLURM_JOB SLURM_TIME SLURM_PYTHON SLURM_LOGS
require_number SLURM_NODES SLURM_GPUS_PER_NODE SLURM_CPUS_PER_GPU
require_choice SLURM_PROCESS_PER gpu node
# Slurm reads a comma as a list of names: another job would be cancelled too.
[[ ${settings[SLURM_JOB]} != *,* ]] ||
  fail "$settings_file: SLURM_JOB is '${settings[SLURM_JOB]}'; it must be one name, without a comma."

# The job runs in another folder.
logs_dir=$(realpath --canonicalize-missing --no-symlinks -- "${settings[SLURM_LOGS]}")
mine=(--user="$(id -un)" --name="${settings[SLURM_JOB]}")

start() {
  local options=() tasks=1 kept_settings
  if [[ ${settings[SLURM_PROCESS_PER]} == gpu ]]; then
    tasks=${settings[SLURM_GPUS_PER_NODE]}
  fi
  [[ -z ${settings[SLURM_PARTITION]:-} ]] || options+=(--partition="${settings[SLURM_PARTITION]}")
  [[ -z ${settings[SLURM_ACCOUNT]:-} ]] || options+=(--account="${settings[SLURM_ACCOUNT]}")
  # Named by its content: two jobs share it only where they agree.
  kept_settings=$logs_dir/settings-$(sha256sum <"$settings_file" | cut -c 1-12).env
  run mkdir -p "$logs_dir"
  run cp "$settings_file" "$kept_settings"
  run sbatch --job-name="${settings[SLURM_JOB]}" --chdir="$root" \
    --output="$logs_dir/%j.log" --time="${settings[SLURM_TIME]}" \
    --nodes="${settings[SLURM_NODES]}" --ntasks-per-node="$tasks" \
    --gpus-per-node="${settings[SLURM_GPUS_PER_NODE]}" \
    --cpus-per-task="$((settings[SLURM_GPUS_PER_NODE] * settings[SLURM_CPUS_PER_GPU] / tasks))" \
    "${options[@]}" "$launch_dir/slurm.sbatch" --settings="$kept_settings" -- "${behind_dashes[@]}"
  if $dry_run; then
    say "the job runs:"
    kept_settings=$(realpath -- "$settings_file") # there is no copy of it
    (cd "$root" && bash launch/slurm.sbatch --settings="$kept_settings" --dry_run -- "${behind_dashes[@]}")
  fi
}

status() {
  run squeue --me --name="${settings[SLURM_JOB]}"
}

logs() {
  local newest
  if $dry_run; then
    run tail -n 200 -F "$logs_dir/JOB.log"
    return
  fi
  newest=$(find "$logs_dir" -maxdepth 1 -name '*.log' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2-)
  [[ -n $newest ]] || fail "there is no log in $logs_dir yet."
  run tail -n 200 -F "$newest"
}

stop() {
  run scancel "${mine[@]}" --state=PENDING
  # To the batch script alone: it stops the tasks, and knows that it is not to come back.
  run scancel "${mine[@]}" --state=RUNNING --batch --signal=USR2
}

teardown() {
  confirm "Cancel the job ${settings[SLURM_JOB]} at once?"
  run scancel "${mine[@]}"
}

"${words[0]}"
