#!/usr/bin/env bash
# usage: fuzz/smoke.sh SECONDS
# Builds every fuzz target, runs each for so many seconds, two at a time, and says how often each
# ran. Fails if any of them finds something; what it found lies in fuzz/artifacts.
set -euo pipefail
seconds="${1:?usage: fuzz/smoke.sh SECONDS}"
cd "$(dirname "$0")"
logs="$(mktemp -d)"
trap 'rm -rf "$logs"' EXIT

cargo +nightly fuzz build --fuzz-dir .
host="$(rustc -vV | sed -n 's/^host: //p')"

run() {
  local target="$1" log="$logs/$1"
  mkdir -p "corpus/$target" "artifacts/$target"
  if "target/$host/release/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" \
    -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -max_len=4096 -len_control=0 -print_final_stats=1 \
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
cargo +nightly fuzz list --fuzz-dir . | xargs -P 2 -I{} bash -euo pipefail -c 'run {}'
