#!/usr/bin/env bash
# usage: fuzz/smoke.sh SECONDS
# Builds every fuzz target, runs each for so many seconds, two at a time, and says how often each
# ran. Fails if any of them finds something; what it found lies in fuzz/artifacts.
# FUZZ_SEED chooses another walk than the usual one; 0 a random one.
set -euo pipefail
seconds="${1:?usage: fuzz/smoke.sh SECONDS}"
cd "$(dirname "$0")"
logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT

# Sanitizers need unstable flags: a nightly toolchain, or a stable one told to take them.
fuzz() {
  if cargo +nightly --version >/dev/null 2>&1; then
    cargo +nightly fuzz "$@" --fuzz-dir .
  else
    RUSTC_BOOTSTRAP=1 cargo fuzz "$@" --fuzz-dir .
  fi
}

fuzz build
host="$(rustc -vV | sed -n 's/^host: //p')"

run() {
  local target="$1" log="$logs/$1"
  mkdir -p "corpus/$target" "artifacts/$target"
  if "target/$host/release/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" \
    -seed="${FUZZ_SEED:-1}" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=4096 -len_control=0 -print_final_stats=1 \
    >"$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions"
  else
    tail -n 60 "$log"
    echo "$target: FAILED"
    return 1
  fi
}
export -f run
export host seconds logs
fuzz list | xargs -P 2 -I{} bash -euo pipefail -c 'run {}'
