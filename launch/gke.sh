#!/usr/bin/env bash
# A TPU slice on Google Kubernetes Engine.

usage() {
  cat <<'USAGE'
usage: launch/gke.sh [--settings FILE] [--dry_run] [--yes] SUBCOMMAND [-- ARGUMENT...]

  credentials  let kubectl reach the cluster
  image        build the image from launch/Dockerfile and push it
  create       make the node pool that is the slice
  start        submit launch/gke.yaml, filled in; Kubernetes restarts it after a preemption and,
               MAX_FAILURES times, after a failure
  show         print launch/gke.yaml as filled in
  status       the job and its pods
  logs [N]     follow the log of process N (0)
  stop         let the run save and end, and delete the job; start goes on from there
  teardown     delete the job and the node pool, after asking; checkpoints and data stay
USAGE
}

# shellcheck source-path=SCRIPTDIR source=settings.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/settings.sh"
read_command_line "$@"
require_subcommand credentials image create start show status logs stop teardown
require CONFIG WORKDIR PROJECT GKE_CLUSTER GKE_LOCATION GKE_NODE_POOL GKE_ZONE GKE_MACHINE_TYPE \
  GKE_ACCELERATOR GKE_TOPOLOGY GKE_NAMESPACE GKE_SERVICE_ACCOUNT GKE_JOB IMAGE
require_cloud_name GKE_CLUSTER GKE_NODE_POOL GKE_JOB
require_number GKE_HOSTS GKE_CHIPS_PER_HOST MAX_FAILURES
require_choice PROVISIONING spot reserved on-demand

job=${settings[GKE_JOB]}
cluster=(--project="${settings[PROJECT]}" --location="${settings[GKE_LOCATION]}")
# The cluster is named in every call: kubectl's current context may be another.
kubectl=(kubectl --context="gke_${settings[PROJECT]}_${settings[GKE_LOCATION]}_${settings[GKE_CLUSTER]}"
  --namespace="${settings[GKE_NAMESPACE]}")
manifest=$root/build/$job.yaml

# Prints a JSON string, which YAML reads too.
json_string() {
  local value=$1 code character escape
  value=${value//\\/\\\\}
  value=${value//\"/\\\"}
  # Control characters, and what YAML takes for the end of a line.
  for code in {1..31} 127; do
    printf -v escape '\\u%04x' "$code"
    printf -v character '%b' "\\x${escape: -2}"
    value=${value//"$character"/"$escape"}
  done
  value=${value//$'\xc2\x85'/'\u0085'}
  value=${value//$'\xe2\x80\xa8'/'\u2028'}
  value=${value//$'\xe2\x80\xa9'/'\u2029'}
  printf '"%s"' "$value"
}

show() {
  local argument arguments='' selector setting rest filled='' word
  local -A values=()
  for argument in "${main_arguments[@]}"; do
    # Kubernetes expands $(NAME) in arguments, and reads $$ as $.
    arguments+="${arguments:+, }$(json_string "${argument//\$/\$\$}")"
  done
  selector="\"cloud.google.com/gke-tpu-accelerator\": $(json_string "${settings[GKE_ACCELERATOR]}")"
  selector+=", \"cloud.google.com/gke-tpu-topology\": $(json_string "${settings[GKE_TOPOLOGY]}")"
  if [[ ${settings[PROVISIONING]} == spot ]]; then
    selector+=', "cloud.google.com/gke-spot": "true"'
  fi
  for setting in GKE_HOSTS GKE_CHIPS_PER_HOST MAX_FAILURES; do
    values[$setting]=${settings[$setting]}
  done
  for setting in GKE_JOB GKE_SERVICE_ACCOUNT IMAGE; do
    values[$setting]=$(json_string "${settings[$setting]}")
  done
  values[NODE_SELECTOR]="{$selector}"
  values[ARGUMENTS]="[$arguments]"
  # From the left to the right, once: what is filled in may hold a word between @ itself.
  rest=$(<"$launch_dir/gke.yaml")
  while [[ $rest =~ @([A-Z_]+)@ ]]; do
    word=${BASH_REMATCH[1]}
    [[ -v values[$word] ]] || fail "$launch_dir/gke.yaml has the unknown word @$word@."
    filled+=${rest%%"@$word@"*}${values[$word]}
    rest=${rest#*"@$word@"}
  done
  printf '%s\n' "$filled$rest"
}

credentials() {
  run gcloud container clusters get-credentials "${settings[GKE_CLUSTER]}" "${cluster[@]}"
}

image() {
  # The TPU's hosts are amd64, the machine that builds may not be.
  run docker build --platform=linux/amd64 --file="$launch_dir/Dockerfile" --tag="${settings[IMAGE]}" "$root"
  run docker push "${settings[IMAGE]}"
}

create() {
  local options=()
  case ${settings[PROVISIONING]} in
    spot) options+=(--spot) ;;
    reserved)
      if [[ -n ${settings[GKE_RESERVATION]:-} ]]; then
        options+=(--reservation-affinity=specific --reservation="${settings[GKE_RESERVATION]}")
      else
        options+=(--reservation-affinity=any)
      fi
      ;;
  esac
  # GKE refuses the topology for a slice of a single host: the machine type says it already.
  ((settings[GKE_HOSTS] == 1)) || options+=(--tpu-topology="${settings[GKE_TOPOLOGY]}")
  run gcloud container node-pools create "${settings[GKE_NODE_POOL]}" "${cluster[@]}" \
    --cluster="${settings[GKE_CLUSTER]}" --node-locations="${settings[GKE_ZONE]}" \
    --machine-type="${settings[GKE_MACHINE_TYPE]}" --num-nodes="${settings[GKE_HOSTS]}" "${options[@]}"
}

start() {
  run mkdir -p "$root/build"
  if $dry_run; then
    say "$manifest is written; launch/gke.sh show prints it."
  else
    show >"$manifest"
  fi
  run "${kubectl[@]}" apply --filename="$manifest"
}

status() {
  run "${kubectl[@]}" get jobset "$job"
  run "${kubectl[@]}" get pods --selector="jobset.sigs.k8s.io/jobset-name=$job" --output=wide
}

logs() {
  local process=${words[1]:-0}
  [[ $process =~ ^[0-9]+$ ]] || fail "logs needs the number of a process, not '$process'."
  run "${kubectl[@]}" logs --follow --tail=200 \
    --selector="jobset.sigs.k8s.io/jobset-name=$job,batch.kubernetes.io/job-completion-index=$process"
}

stop() {
  run "${kubectl[@]}" delete jobset "$job" --ignore-not-found --cascade=foreground --wait
}

teardown() {
  confirm "Delete the job $job and the node pool ${settings[GKE_NODE_POOL]} of ${settings[GKE_CLUSTER]} in ${settings[PROJECT]}?"
  # The node pool is what costs money.
  stop || say "the job $job was not deleted; its node pool is. launch/gke.sh stop deletes the job once kubectl can."
  run gcloud container node-pools delete "${settings[GKE_NODE_POOL]}" "${cluster[@]}" \
    --cluster="${settings[GKE_CLUSTER]}" --quiet
}

"${words[0]}"
