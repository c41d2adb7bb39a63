#!/bin/bash -p
# Shared by every recipe's run.sh: options, the stage loop, one run at a time.  Sourced, not run.
#
# A recipe sets `stages` (names, in order; each is a function of that name), `about` (name -> one line), then calls
# `recipe_options "$@"` and `recipe_run`. Stages after `goal`, if set, run only when named. Options
# become entries of `opt`, paths as absolute ones; nothing is evaluated. `check_choice STAGE`, if defined, checks
# them before the first stage. A stage's working folder is --work. It calls scripts of steps/, utils/ and local/ only by `run` and
# `each`, so that --list-stages and --dry-run can plan them without running one.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=record.sh
source "$(dirname "${BASH_SOURCE[0]}")/record.sh"
# shellcheck source-path=SCRIPTDIR source=plan.sh
source "$(dirname "${BASH_SOURCE[0]}")/plan.sh"
# shellcheck source-path=SCRIPTDIR source=attend.sh
source "$(dirname "${BASH_SOURCE[0]}")/attend.sh"
# shellcheck source-path=SCRIPTDIR source=run_step.sh
source "$(dirname "${BASH_SOURCE[0]}")/run_step.sh"

declare -A opt about
declare -a stages words=()
current='set-up' goal='' conf="$here/conf"
paths=(corpus lm-text lexicon train test dev relative-to work conf)  # options that are paths

recipe_usage() {  # options of every recipe
  cat <<'TEXT'
  --stage N|NAME     first stage (default: 1)      --stop-stage N|NAME  last stage (default: results)
  --list-stages      numbers and names of the stages, when each finished, how long it took, its state
  --dry-run          say what would run and why, without running it
  --force            run the steps of these stages even when they are up to date
  --wait-lock SECS   seconds to wait when another run uses the same --work (default: 0)
  --nj N             parallel processes (default: 2)
TEXT
}

die() {  # die STATUS MESSAGE: print one line on stderr and exit
  printf 'error: %s\n' "$2" >&2
  exit "$1"
}

absolute() {  # absolute PATH: resolve against the user's current folder
  realpath -ms -- "$1"
}

stage_number() {  # stage_number OPTION VALUE: the number of a stage given by number or by name
  local i
  for i in "${!stages[@]}"; do
    if [[ "$2" == "${stages[i]}" || "$2" == "$((i + 1))" ]]; then
      echo "$((i + 1))"
      return
    fi
  done
  die 2 "$1 $2: no such stage; known are 1 to ${#stages[@]}: ${stages[*]}"
}

recipe_options() {  # fill `opt`; the option must be one of `opt`'s keys; flags have the default 'false'
  local key
  words=("$@")
  opt+=([stage]=1 [stop-stage]="" [nj]=2 [list-stages]=false [dry-run]=false [force]=false [wait-lock]=0)
  while (($#)); do
    case "$1" in
      --help | -h) usage; exit 0 ;;
      --*)
        key="${1#--}"
        [[ -n "$key" && -v "opt[$key]" ]] || die 2 "unknown option $1; --help lists the options"
        if [[ "${opt[$key]}" == @(true|false) ]]; then
          opt[$key]=true
        else
          (($# >= 2)) || die 2 "option $1 wants a value"
          opt[$key]="$2"
          shift
        fi
        shift ;;
      *) die 2 "unexpected argument '$1'; --help lists the options" ;;
    esac
  done
  for key in "${paths[@]}"; do
    if [[ -n "${opt[$key]:-}" && "${opt[$key]}" != openslr ]]; then opt[$key]="$(absolute "${opt[$key]}")"; fi
  done
}

stopped() {  # stopped STATUS: print the last message of an unfinished run
  rm -f -- "${opt[work]}/.lock.owner"
  if (($1 == 130)); then
    printf 'interrupted; run the same command again to go on\n' >&2
  elif (($1 != 0)); then
    printf 'stage %s failed (exit status %d); fix the cause above, then go on with --stage %s and the same options\n' "$current" "$1" "$current" >&2
  fi
}

hold_work() {  # one run at a time in opt[work]; children inherit the lock and hold it until the last one ends
  mkdir -p -- "${opt[work]}" 2>/dev/null || die 1 "--work ${opt[work]}: cannot make this folder; choose another one"
  (: >>"${opt[work]}/.lock") 2>/dev/null || die 1 "--work ${opt[work]}: cannot write there; fix its permissions or choose another folder"
  exec 9<>"${opt[work]}/.lock"
  attend "$KD_PYTHON" -m kdtool.core.lock "${opt[work]}/.lock" 9 "$$" "${opt[wait-lock]}" "--work ${opt[work]}" "$0" "$@"
}

recipe_run() {  # run the stages from opt[stage] to opt[stop-stage] in the folder opt[work]
  local first last i name began what=places
  first="$(stage_number --stage "${opt[stage]}")" || exit
  last="$(stage_number --stop-stage "${opt[stop-stage]:-${goal:-${#stages[@]}}}")" || exit
  if [[ -z "${opt[stop-stage]}" ]] && ((last < first)); then last="$first"; fi
  ((first <= last)) || die 2 "--stage $first comes after --stop-stage $last"
  [[ "${opt[nj]}" =~ ^[1-9][0-9]*$ ]] || die 2 "--nj ${opt[nj]}: a number of at least 1 is expected"
  [[ "${opt[wait-lock]}" =~ ^[0-9]+$ ]] || die 2 "--wait-lock ${opt[wait-lock]}: a number of seconds is expected"
  if [[ "${opt[list-stages]}" == true ]]; then attend list_stages; exit; fi
  if declare -F check_choice >/dev/null; then check_choice "${stages[first - 1]}"; fi
  attend "$KD_ROOT/utils/setup_env.sh"
  # On a bare checkout there was no Python when path.sh looked for it.
  source "$KD_ROOT/utils/env.sh"
  if [[ "${opt[dry-run]}" == true ]]; then attend plan_stages steps "$first" "$last"; exit; fi
  # Nothing is written before all outputs are known to belong to the recipe. A folder with a lock was used before: take the lock first.
  if [[ -e "${opt[work]}/.lock" ]]; then
    hold_work "${words[@]}"
    if [[ "${opt[force]}" == false ]]; then what=current; fi
    find_current "$what" "$first" "$last"
  else
    if [[ -n "$(ls -A -- "${opt[work]}" 2>/dev/null)" ]]; then find_current places "$first" "$last"; fi
    hold_work "${words[@]}"
  fi
  cd -- "${opt[work]}"
  export KD_FORCE="${opt[force]}" KD_WAIT_LOCK="${opt[wait-lock]}"
  trap 'stopped "$?"' EXIT
  for ((i = first; i <= last; i++)); do
    name="${stages[i - 1]}"
    began=$SECONDS
    printf '== stage %d: %s (%s)\n' "$i" "$name" "${about[$name]}"
    current="$name"
    if [[ -n "${current_steps[$name]:-}" ]]; then
      printf '%s' "${current_steps[$name]}"
      unset "current_steps[$name]"
    else
      attend "$name"
      # A step that was up to date before may have changed meanwhile: check again.
      if ((${#current_steps[@]} && i < last)); then find_current current "$((i + 1))" "$last"; fi
    fi
    printf '== stage %d: %s took %d s\n' "$i" "$name" "$((SECONDS - began))"
  done
}
