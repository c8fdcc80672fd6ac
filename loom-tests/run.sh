#!/usr/bin/env bash
# Runs every model on the sound code, then plants each fault and requires its model to fail.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg loom -C debug-assertions=on"
export CARGO_TARGET_DIR=target/loom
export LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}"

# fault, model, what the failing assertion says
FAULTS=(
    "once_load_store|once|the once listener ran not once"
    "count_after_publish|on_emit|an emit missed a listener that was there all the time"
    "copied_flag|off_emit|called after its .off. returned"
    "late_mark|off_all|called after .off. found it gone"
    "lost_update|two_ons|a registration was lost"
    "split_free|slot_life|a registration was lost"
    "once_load_store|once|the listener of two times ran not twice"
    "late_call|off_and_wait|a call ran on after the wait for it"
    "relaxed_leave|off_and_wait|what a call did is not visible after the wait for it"
    "stale_publisher|publisher|a publisher missed a listener"
    "pause_load_store|pause|a pause was lost"
)

# A workspace wrapper reaches our crates alone, so planting a fault rebuilds nothing else. cargo does
# not tell one wrapper from another: the touched file makes it compile our crate again.
wrapper() {
    touch src/lib.rs
    local path="$PWD/$CARGO_TARGET_DIR/plant-$1"
    printf '#!/bin/sh\nexec "$@" --cfg '"'fault=\"%s\"'"'\n' "$1" >"$path"
    chmod +x "$path"
    echo "$path"
}

touch src/lib.rs
cargo test --release --quiet -p loom-tests
models=$(cargo test --release --quiet -p loom-tests -- --list | grep -c ': test$')

caught=0
for line in "${FAULTS[@]}"; do
    IFS='|' read -r fault model says <<<"$line"
    log="$CARGO_TARGET_DIR/fault-$fault.log"
    if RUSTC_WORKSPACE_WRAPPER=$(wrapper "$fault") cargo test --release --quiet -p loom-tests --test "$model" >"$log" 2>&1; then
        echo "planted fault $fault was NOT caught by $model"
        exit 1
    fi
    if ! grep -q "$says" "$log"; then
        echo "planted fault $fault made $model fail for another reason:"
        tail -20 "$log"
        exit 1
    fi
    echo "planted fault $fault: caught by $model"
    caught=$((caught + 1))
done
touch src/lib.rs
echo "$models models hold, $caught planted faults caught"
