# shellcheck shell=bash
# SPDX-License-Identifier: MIT
#
# What scripts/lumap, scripts/test, scripts/dev/check and scripts/bench share: finding what is missing on this machine,
# installing it with apt-get, and building a preset. To be sourced.
#
# Everything here writes to standard error: standard output belongs to the script that the user runs.

root=$(CDPATH='' cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  say "$@"
  exit 1
}

# --- what is missing ---

missing=() # Debian packages
reasons=() # the same, each with what it is for

# need PACKAGE WHY COMMAND...: PACKAGE is missing if COMMAND fails. Commands are cheap, since every run asks them all.
need() {
  local package=$1 why=$2
  shift 2
  "$@" >/dev/null 2>&1 && return
  missing+=("$package")
  reasons+=("$package ($why)")
}

has_command() { command -v -- "$1"; }
has_file() { compgen -G "$1"; }
has_pc() { pkg-config --exists -- "$1"; }

need_build() {
  need gcc "C compiler" has_command cc
  need libc6-dev "headers of the C library" has_file /usr/include/stdio.h
  need cmake "build system" has_command cmake
  need ninja-build "runs the build" has_command ninja
  need pkg-config "finds the two Lua libraries" has_command pkg-config
  need libluajit-5.1-dev "LuaJIT 2.1, inside lumap" has_pc luajit
  need libedit-dev "line editor of the prompt" has_pc libedit
  need liblua5.4-dev "PUC Lua 5.4, inside lumap54" has_pc lua5.4
}

need_specs() {
  need lua-busted "test runner" has_command busted
  need lua-cjson "C module that specs load" has_file '/usr/lib/*/lua/5.4/cjson.so'
  need lua-lpeg "C module that specs load" has_file '/usr/lib/*/lua/5.4/lpeg.so'
  need lua-socket "C module that specs and examples load" has_file '/usr/lib/*/lua/5.4/socket/core.so'
  need_stock
}

need_stock() {
  need luajit "stock interpreter to compare lumap with" has_command luajit
  need lua5.4 "stock interpreter to compare lumap54 with" has_command lua5.4
}

need_check() {
  need clang-format-14 "checks the layout of C files" has_command clang-format-14
  need lua-check "checks Lua files" has_command luacheck
  need shellcheck "checks shell scripts" has_command shellcheck
}

# What scripts/bench/codec compares the codec with.
need_codec_peers() {
  need lua-cjson "peer in the benchmark" has_file '/usr/lib/*/lua/5.4/cjson.so'
  need lua-messagepack "peer in the benchmark" has_file /usr/share/lua/5.3/MessagePack.lua
  need python3 "peer in the benchmark" has_file /usr/bin/python3
}

# What scripts/bench/run compares the map with. npm brings piscina.
need_map_peers() {
  need_stock
  need lua-luv "peer in the benchmark" has_file '/usr/lib/*/lua/5.1/luv.so'
  need python3 "peer in the benchmark" has_file /usr/bin/python3
  need libmce-perl "peer in the benchmark" perl -MMCE::Map -e 1
  need nodejs "runs piscina, a peer in the benchmark" has_command node
  need npm "installs piscina" has_command npm
}

need_fuzz() {
  need clang "compiles the fuzz targets" has_command clang
  need libclang-rt-dev "libFuzzer and its sanitizers" has_file '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a'
}

# --- installing it ---

as_root() {
  if ((EUID == 0)); then "$@"; else sudo -- "$@"; fi
}

# The lock timeout waits for another apt-get that is at work, as on a machine that has just booted.
apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=300 "$@" </dev/null; }

# Package lists are fetched only if the first attempt fails: they may be absent, or older than the mirror.
install_missing() {
  ((${#missing[@]} == 0)) && return
  local log remedy="as root: apt-get update && apt-get install ${missing[*]}" list
  printf -v list ', %s' "${reasons[@]}"
  command -v apt-get >/dev/null || fail "missing: ${list:2}. There is no apt-get here. Remedy: install their like"
  ((EUID == 0)) || command -v sudo >/dev/null || fail "missing: ${list:2}. There is no sudo. Remedy, $remedy"
  say "installing with apt-get: ${list:2}"
  log=$(mktemp) || fail "cannot write to ${TMPDIR:-/tmp}"
  if ! apt_get install --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    say "apt-get does not find them all yet: fetching its package lists"
    if ! { apt_get update && apt_get install --no-install-recommends "${missing[@]}"; } >>"$log" 2>&1; then
      cat "$log" >&2
      rm -f "$log"
      fail "apt-get failed (see above). Remedy, $remedy"
    fi
  fi
  rm -f "$log"
  missing=() reasons=()
}

# --- building ---

# configure PRESET: unless it is done. The stamp holds the folder, since a build folder that was copied elsewhere along
# with its tree still points to the old place; ninja sees changes of CMakeLists.txt by itself, but not of the presets.
configure() {
  local preset=$1 dir=$root/build/$1
  local stamp=$dir/configured
  [[ -e $dir/build.ninja && $stamp -nt $root/CMakePresets.json && $(<"$stamp") == "$root" ]] && return
  say "configuring build/$preset"
  if ! cmake --fresh -S "$root" --preset "$preset" </dev/null >"$dir/configure.log" 2>&1; then
    cat "$dir/configure.log" >&2
    return 1
  fi
  printf '%s\n' "$root" >"$stamp"
}

# build PRESET [ARGUMENT of cmake --build...]: silent when there is nothing to do. The lock keeps two runs from writing
# to one build folder at once.
build() {
  local preset=$1 dir=$root/build/$1
  shift
  mkdir -p -- "$dir" || true
  [[ -w $dir ]] || fail "cannot write to $dir. Remedy: become the owner of $root/build, or remove it"
  (
    flock 9 || exit
    configure "$preset" || fail "configuring build/$preset failed (see above). Remedy: rm -rf $dir, then again"
    set -o pipefail
    cmake --build "$dir" --parallel "$(nproc)" "$@" </dev/null 2>&1 9>&- |
      sed -u -e '/^ninja: no work to do\.$/d' -e '/Re-checking globbed directories/d' >&2 ||
      fail "building build/$preset failed: the compiler's message is above"
  ) 9>"$dir/lock"
}
