#!/bin/bash -p
# Slurm's programs for the tests, from Debian's packages.  Usage: tests/slurm/install.sh   (does nothing if they are installed)
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"
missing() {
  local program
  for program in munged slurmctld slurmd sbatch; do
    command -v "$program" >/dev/null || return 0
  done
  return 1
}
if ! missing; then exit 0; fi
packages=(slurm-wlm munge)
if ((EUID == 0)) && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  log="$(mktemp)"
  if ! { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then tail -n 20 "$log" >&2; fi
  rm -f "$log"
fi
if missing; then
  echo "error: the tests of the Slurm backend want a real Slurm; install it with: sudo apt-get install ${packages[*]}" >&2
  exit 1
fi
