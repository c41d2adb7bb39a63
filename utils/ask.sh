# shellcheck shell=bash disable=SC2154 # opt, stages and about are the recipe's
# Plans a recipe's stages without running anything.  Sourced by recipe.sh.
#
# Each stage is called with KD_PLAN set. Its scripts then only note their commands (utils/note_command.sh), and
# kdtool.core.stages finds the state of the steps.

list_stages() {  # needs the environment to find the state of a step
  local i
  if [[ -x "$KD_PYTHON" && "$KD_PYTHON" != */no_environment.sh ]]; then
    ask_stages list 1 "${#stages[@]}"
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
  done < <(ask_stages "$1" "$2" "$3" 2>/dev/null || true)
  [[ "$refused" == false ]] || exit 2
}

ask_stages() {  # ask_stages list|steps|current|places FIRST LAST; places: only outputs with files of others at their place
  local what="$1" folder i status=0 lines=() place="${opt[work]}"
  folder="$(mktemp -d)"
  # A stage's working folder is --work; asking does not make it.
  if [[ ! -d "$place" ]]; then place="$folder/work" && mkdir -- "$place"; fi
  for ((i = 0; i < ${#stages[@]}; i++)); do
    lines+=("${stages[i]}"$'\t'"${about[${stages[i]}]}")
    if ((status != 0 || i + 1 < $2 || i + 1 > $3)); then continue; fi
    set +e  # not '||', which would disable 'set -e' inside the stage
    (set -e; cd -- "$place"; export KD_PLAN="$folder/commands" KD_STAGE="${stages[i]}"; "${stages[i]}" >/dev/null)
    status=$?
    set -e
  done
  if [[ "$what" == current ]] && { ((status)) || ! same_facts "$folder/commands.facts"; }; then what=places; fi
  if ((status == 0)) || [[ "$what" == places ]]; then
    (cd -- "$place" && "$KD_PYTHON" -m kdtool.core.stages "$what" "$place" "$folder/commands" "${opt[force]}" "${lines[@]}") || status=$?
  fi
  rm -rf -- "$folder"
  return "$status"
}
