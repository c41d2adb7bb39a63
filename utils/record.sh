# shellcheck shell=bash disable=SC2154 # opt, stages and about are the recipe's
# One-line facts recorded by a recipe's first stage for later ones, such as the corpus's path.  Sourced, not run.
#
# During planning (KD_PLAN is set) nothing is written into the recipe's folder; the facts go beside the notes.

record() {  # record FILE LINE: atomically; FILE is an absolute path. A file altered since it was recorded is kept
  local file="${KD_PLAN:+$KD_PLAN.facts}$1" hidden number=1
  if [[ -d "$file" ]]; then
    printf 'error: %s: is a folder, and a line about the corpus would be written there; choose another --work\n' "$file" >&2
    return 2
  fi
  mkdir -p -- "${file%/*}"
  hidden="$(mktemp -- "${file%/*}/.${file##*/}.XXXXXX")"
  chmod -- =rw "$hidden"  # as umask allows, not only for the owner
  printf '%s\n' "$2" >"$hidden"
  if [[ -s "$file" ]] && ! cmp -s -- "$file" "$hidden"; then
    until (set -C; : >"$file.backup.$number") 2>/dev/null; do number=$((number + 1)); done
    mv -f -- "$file" "$file.backup.$number"
    printf 'note: %s was another one; what was there is kept in %s\n' "$file" "$file.backup.$number" >&2
  fi
  mv -fT -- "$hidden" "$file"
}

recorded() {  # recorded FILE: the line in it
  local file
  file="$(realpath -ms -- "$1")"
  if [[ -n "${KD_PLAN:-}" && -s "$KD_PLAN.facts$file" ]]; then
    cat -- "$KD_PLAN.facts$file"
  elif [[ -s "$file" ]]; then
    cat -- "$file"
  elif [[ -n "${KD_PLAN:-}" ]]; then
    printf '%s\n' "$file"
  else
    printf 'error: %s: missing; run stage %s first (--stage %s)\n' "$file" "${stages[0]}" "${stages[0]}" >&2
    return 1
  fi
}

same_facts() {  # same_facts FOLDER: whether the facts noted below it equal the recorded ones
  local file
  while IFS= read -r file; do
    cmp -s -- "$file" "${file#"$1"}" || return 1
  done < <(find "$1" -type f 2>/dev/null)
}
