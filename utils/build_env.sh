#!/bin/bash -p
# Build one environment; utils/setup_env.sh calls this.  Usage: utils/build_env.sh <folder> <log>
#
# Pinned packages from the package index that pip is set to, k2 by hash, KenLM from its source archive. Needs no root:
# CMake, Ninja and Boost come from the index too. <folder>/.ready, written last, holds the Python's version.
set -euo pipefail
here="$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
if (($# != 2)); then sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; [[ "${1:-}" == --help ]] && exit 0 || exit 2; fi
target="$1" log="$2"
apt='apt-get install python3 python3-venv python3-dev g++   (Debian 12, Ubuntu 22.04; with root rights)'
# Where packages come from is the user's choice (PIP_INDEX_URL and so on), where they go and from which files is not. The set-up code
# of a source package may import from its folder.
unset PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_REQUIRE_VIRTUALENV PIP_DRY_RUN PIP_NO_BINARY PIP_ONLY_BINARY PIP_CONSTRAINT PYTHONSAFEPATH
# Recent pips refuse the name of k2's file.
pip_version=23.2.1

die() {
  printf 'error: set-up: %s\n' "$1" >&2
  exit 1
}

try() {  # try WHAT COMMAND...: run it with its output in the log; a failure shows the end of the log and what to do next
  local what="$1"
  shift
  printf '+ %s\n' "$*" >>"$log"
  if ! "$@" >>"$log" 2>&1; then
    tail -n 15 "$log" >&2
    die "$what failed (the end of $log is above); when the cause is fixed, run the same command again"
  fi
}

step() {
  printf 'set-up: %s (%d s so far)\n' "$1" "$SECONDS" >&2
  printf '== %s\n' "$1" >>"$log"
}

python_fault() {  # python_fault COMMAND: why this Python cannot be used, empty when it can
  "$1" - 2>/dev/null <<'PY' || echo 'does not start'
import importlib.util, os, platform, sys, sysconfig
faults = []
if sys.version_info[:2] not in ((3, 10), (3, 11)) or platform.python_implementation() != "CPython":
    faults.append(f"is {platform.python_implementation()} {platform.python_version()}, not CPython 3.10 or 3.11")
elif not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    faults.append("has no Python.h (python3-dev)")
elif not importlib.util.find_spec("venv") or not (importlib.util.find_spec("ensurepip") or importlib.util.find_spec("pip")):
    faults.append("has neither ensurepip nor pip (python3-venv)")
print("; ".join(faults))
PY
}

find_python() {  # the first Python that fits, by its real path; launchers that do not start (pyenv's) are skipped
  local name candidate fault report=''
  local -a names=(python3.11 python3.10 python3)
  if [[ -n "${KD_BASE_PYTHON:-}" ]]; then names=("$KD_BASE_PYTHON"); fi
  for name in "${names[@]}"; do
    while read -r candidate; do
      fault="$(python_fault "$candidate")"
      if [[ -z "$fault" ]]; then
        "$candidate" -c 'import os, sys; print(os.path.realpath(sys.executable))'
        return
      fi
      report+=$'\n'"  $candidate $fault"
    done < <(type -aP "$name" || true)
  done
  die "no usable Python 3.10 or 3.11.${report:-$'\n  none was found'}"$'\n'"install one:  $apt"$'\n'"or name one:  KD_BASE_PYTHON=/path/to/python3.11, or your own environment: KD_PYTHON_ENV=/path/to/python"
}

check_machine() {
  [[ "$(uname -sm)" == 'Linux x86_64' ]] || die "this is $(uname -sm); k2's wheels are for Linux on x86-64. Use your own environment: KD_PYTHON_ENV=/path/to/python"
  local probe
  probe="$(mktemp -d)"
  printf '#include <thread>\nint main() { std::thread t([] {}); t.join(); }\n' >"$probe/a.cc"
  if ! "${CXX:-g++}" -std=c++11 -pthread "$probe/a.cc" -o "$probe/a" 2>"$probe/err" || ! "$probe/a"; then
    head -n 3 "$probe/err" >&2
    rm -rf -- "$probe"
    die "no working C++ compiler (${CXX:-g++}), which KenLM is built with."$'\n'"install one:  $apt"
  fi
  rm -rf -- "$probe"
  local free_kb
  free_kb="$(df -k --output=avail "$(dirname "$target")" | tail -n 1)"
  ((free_kb > 7000000)) || die "$(dirname "$target") has $((free_kb / 1000000)) GB free, about 7 are needed; make room and run the same command again"
}

make_venv() {
  if "$python" -c 'import ensurepip' 2>/dev/null; then
    try 'making the virtual environment' "$python" -m venv "$target"
    try 'pinning pip' "$target/bin/python" -m pip install --disable-pip-version-check "pip==$pip_version"
  else  # a Python without ensurepip but with a pip of its own: that one fetches the pinned pip, which then installs itself
    try 'making the virtual environment' "$python" -m venv --without-pip "$target"
    try 'fetching pip' "$python" -m pip download --disable-pip-version-check --no-deps -d "$target/tmp" "pip==$pip_version"
    try 'installing pip' "$target/bin/python" "$target/tmp/pip-$pip_version-py3-none-any.whl/pip" install --no-index "$target/tmp/pip-$pip_version-py3-none-any.whl"
  fi
}

pip_install() {
  "$target/bin/python" -m pip install --disable-pip-version-check --no-input --no-deps "$@"
}

build_kenlm() {
  local tools="$target/tmp/tools" src="$target/tmp/kenlm" build="$target/tmp/build" boost=()
  try 'fetching the build tools' pip_install --target "$tools" -r "$here/requirements-build.txt"
  if pip_install --only-binary :all: --target "$tools" -r "$here/requirements-boost.txt" >>"$log" 2>&1; then
    boost=("-DCMAKE_PREFIX_PATH=$tools/cmeel.prefix" "-DBoost_DIR=$(echo "$tools"/cmeel.prefix/lib/cmake/Boost-*)")
  else
    printf 'set-up: no Boost from the package index for this machine; looking for the system'"'"'s\n' >&2
  fi
  export PATH="$tools/cmake/data/bin:$tools/bin:$PATH"
  try "fetching KenLM's source" "$target/bin/python" -m pip download --disable-pip-version-check --no-deps --no-build-isolation \
    --no-binary :all: --require-hashes -d "$target/tmp" -r "$here/requirements-kenlm.txt"
  mkdir -p "$src" "$target/kenlm/bin" "$target/kenlm/lib"
  tar -xzf "$target"/tmp/kenlm-*.tar.gz -C "$src" --strip-components 1
  # No compressed input: whether it works would depend on the machine's libraries.
  try "configuring KenLM (its Boost can also come from the system: apt-get install libboost-{program-options,system,thread,test}-dev)" \
    cmake -S "$src" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release "${boost[@]}" -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON "-DCMAKE_INSTALL_RPATH=\$ORIGIN/../lib" \
    -DCMAKE_DISABLE_FIND_PACKAGE_ZLIB=ON -DCMAKE_DISABLE_FIND_PACKAGE_BZip2=ON -DCMAKE_DISABLE_FIND_PACKAGE_LibLZMA=ON -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON -Wno-dev
  try 'building KenLM' ninja -C "$build" -j "$(nproc)" bin/lmplz bin/build_binary
  cp "$build/bin/lmplz" "$build/bin/build_binary" "$target/kenlm/bin/"
  if ((${#boost[@]})); then
    cp -L "$tools"/cmeel.prefix/lib/libboost_{atomic,chrono,program_options,system,thread}.so.* "$target/kenlm/lib/"
  fi
  # The module's own build also builds an unused C++ library by CMake; without it the build takes half the time.
  mkdir "$target/tmp/stub"
  ln -s "$(type -P true)" "$target/tmp/stub/cmake"
  PATH="$target/tmp/stub:$PATH" try "building KenLM's Python module" pip_install --no-build-isolation "$(echo "$target"/tmp/kenlm-*.tar.gz)"
}

check_machine
python="$(find_python)"
version="$("$python" -c 'import platform; print(platform.python_version())')"
mkdir -p "$(dirname "$target")"
: >"$log"
step "making the environment with $python ($version); this happens once and takes a few minutes, log in $log"
make_venv
step 'installing packages (torch and others, about 2 GB)'
try 'installing packages' pip_install --only-binary :all: -r "$here/requirements.txt" -r "$here/requirements-dev.txt"
try 'installing k2' pip_install --require-hashes -r "$here/requirements-k2-py${version%.*}.txt"
step 'building KenLM'
build_kenlm
step 'checking'
try 'the check of the environment' "$target/bin/python" "$here/check_env.py" "$target/kenlm/bin"
rm -rf -- "$target/tmp"
printf '%s\n' "$version" >"$target/.ready"
printf 'set-up: done in %d s\n' "$SECONDS" >&2
