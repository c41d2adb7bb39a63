# shellcheck shell=bash
# Lets a signal to the script end its command.  Sourced; write `attend COMMAND [ARGUMENT ...]` for COMMAND.
#
# Bash runs a trap only after the current command has ended, which can take hours. `attend` runs the command in the
# background and waits there. So INT, TERM or HUP to the script alone (kill PID, a batch system, a closed terminal) acts at once: all
# processes below the script are asked to end, are killed after ten seconds, and the script exits with status 130. Ctrl-C at a
# terminal reaches them directly, too. A shell starts background commands with INT ignored; use TERM to end those.

attend() {  # never as `attend X || ..`, which would disable 'set -e' in X
  local status=0
  { trap - INT QUIT; "$@"; } <&0 &
  wait "$!" || status=$?
  return "$status"
}

declare -A kd_started=() kd_children=()  # by process: when it started; its children

read_processes() {  # those of this session; a process in another one has left on purpose, such as Slurm's guard, which cancels jobs after us
  local file line pid field session=''
  kd_started=() kd_children=()
  for file in /proc/$$/stat /proc/[0-9]*/stat; do
    line=''
    { IFS= read -r -d '' line <"$file"; } 2>/dev/null || true  # the whole file: a name may hold a line end
    pid="${line%% *}"
    read -r -a field <<<"${line##*) }"  # state, parent, group, session and so on; the start is field 20
    if ((${#field[@]} < 20)); then continue; fi  # the process has ended meanwhile
    session="${session:-${field[3]}}"
    if [[ "${field[0]}" == [ZX] || "${field[3]}" != "$session" || -n "${kd_started[$pid]:-}" ]]; then continue; fi
    kd_started[$pid]="${field[19]}"
    kd_children[${field[1]}]+=" $pid"
  done
}

end_children() {  # end_children: end all descendants of this process, parents first, also those whose parent ends meanwhile
  local round i pid left=1 queue
  local -A asked=()
  trap '' INT TERM HUP
  for ((round = 0; round < 150 && left; round++)); do
    read_processes
    left='' queue=("$$" "${!asked[@]}")
    for ((i = 0; i < ${#queue[@]}; i++)); do
      pid="${queue[i]}"
      # Another process may have reused the pid of one that has ended.
      if [[ -n "${asked[$pid]:-}" && "${kd_started[$pid]:-}" != "${asked[$pid]}" ]]; then continue; fi
      read -r -a queue <<<"${queue[*]} ${kd_children[$pid]:-}"
      if ((pid == $$)); then continue; fi
      left=1
      if [[ -z "${asked[$pid]:-}" ]]; then
        asked[$pid]="${kd_started[$pid]}"
        kill -TERM "$pid" 2>/dev/null || true
        kill -CONT "$pid" 2>/dev/null || true
      elif ((round >= 100)); then
        kill -KILL "$pid" 2>/dev/null || true
      fi
    done
    if [[ -n "$left" ]]; then sleep 0.1; fi
  done
}

trap 'end_children; exit 130' INT TERM HUP
