# shellcheck shell=bash disable=SC2034,SC2154 # opt, stages and about are the recipe's; run_step.sh and record.sh read plan_file
# Plans a recipe's stages without running anything.  Sourced by recipe.sh.
#
# While `plan_file` names a file, `run` and `each` append their commands to it instead of starting them, and `record` keeps its
# facts in memory. kdtool.core.stages reads the file and finds the state of each step.
plan_file=''

list_stages() {  # needs the environment to find the state of a step
  local i
  if [[ -x "$KD_PYTHON" && "$KD_PYTHON" != */no_environment.sh ]]; then
    plan_stages list 1 "${#stages[@]}"
  else
    for i in "${!stages[@]}"; do printf '%3d  %-11s %s\n' "$((i + 1))" "${stages[i]}" "${about[${stages[i]}]}"; done
  fi
}

declare -A current_steps=()  # stage -> one line per step, for stages that are up to date

find_current() {  # find_current current|places FIRST LAST: one process for all steps
  local line refused=false
  current_steps=()
  # Other errors are reported when the stage itself runs.
  while IFS= read -r line; do
    if [[ "$line" == REFUSED$'\t'* ]]; then
      printf '%s\n' "${line#*$'\t'}" >&2
      refused=true
    else
      current_steps["${line%%$'\t'*}"]+="${line#*$'\t'}"$'\n'
    fi
  done < <(plan_stages "$1" "$2" "$3" 2>/dev/null)
  [[ "$refused" == false ]] || exit 2
}

plan_stages() {  # plan_stages list|steps|current|places FIRST LAST; places: only outputs with files of others at their place
  local what="$1" folder name status=0 lines=() place="${opt[work]}"
  folder="$(mktemp -d)"
  # A stage's working folder is --work; planning does not make it.
  if [[ ! -d "$place" ]]; then place="$folder/work" && mkdir -- "$place"; fi
  for name in "${stages[@]}"; do lines+=("$name"$'\t'"${about[$name]}"); done
  set +e  # not '||', which would disable 'set -e' inside the stages
  (set -e; cd -- "$place"; export KD_PLAN=true; plan_file="$folder/commands"; for current in "${stages[@]:$2 - 1:$3 - $2 + 1}"; do "$current" >/dev/null; done)
  status=$?
  set -e
  if [[ "$what" == current ]] && { ((status)) || [[ -e "$folder/commands.facts" ]]; }; then what=places; fi
  if ((status == 0)) || [[ "$what" == places ]]; then
    (cd -- "$place" && "$KD_PYTHON" -m kdtool.core.stages "$what" "$place" "$folder/commands" "${opt[force]}" "${lines[@]}") || status=$?
  fi
  rm -rf -- "$folder"
  return "$status"
}
