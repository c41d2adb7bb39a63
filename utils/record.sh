# shellcheck shell=bash disable=SC2154 # opt, stages and about are the recipe's
# One-line facts recorded by a recipe's first stage for later ones, such as the corpus's path.  Sourced, not run.
#
# During planning (`plan_file` is set, see plan.sh) they are kept in memory; PLAN.facts marks that one differs from its file.
declare -A facts=()

record() {  # record FILE LINE: atomically; FILE is an absolute path. A file altered since it was recorded is kept
  local hidden number=1
  if [[ -n "${plan_file:-}" ]]; then
    facts["$1"]="$2"
    if ! printf '%s\n' "$2" | cmp -s -- "$1"; then : >"$plan_file.facts"; fi
    return
  fi
  if [[ -d "$1" ]]; then
    printf 'error: %s: is a folder, and a line about the corpus would be written there; choose another --work\n' "$1" >&2
    return 2
  fi
  mkdir -p -- "${1%/*}"
  hidden="$(mktemp -- "${1%/*}/.${1##*/}.XXXXXX")"
  chmod -- =rw "$hidden"  # as umask allows, not only for the owner
  printf '%s\n' "$2" >"$hidden"
  if [[ -s "$1" ]] && ! cmp -s -- "$1" "$hidden"; then
    until (set -C; : >"$1.backup.$number") 2>/dev/null; do number=$((number + 1)); done
    mv -f -- "$1" "$1.backup.$number"
    printf 'note: %s was another one; what was there is kept in %s\n' "$1" "$1.backup.$number" >&2
  fi
  mv -fT -- "$hidden" "$1"
}

recorded() {  # recorded FILE: the line in it
  local file
  file="$(realpath -ms -- "$1")"
  if [[ -n "${facts[$file]:-}" ]]; then
    printf '%s\n' "${facts[$file]}"
  elif [[ -s "$file" ]]; then
    cat -- "$file"
  elif [[ -n "$plan_file" ]]; then
    printf '%s\n' "$file"
  else
    printf 'error: %s: missing; run stage %s first (--stage %s)\n' "$file" "${stages[0]}" "${stages[0]}" >&2
    return 1
  fi
}
