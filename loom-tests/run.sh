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
    "overtake|outbox|a frame is torn"
    "lost_flusher|outbox|a frame was lost, or overtook another"
    "flusher_not_told|outbox|deadlock; threads"
    "torn_counts|outbox|the counts do not add up"
    "late_watcher|outbox|deadlock; threads"
    "driver_not_told|outbox|deadlock; threads"
    "early_cursor|group_join|attempt to subtract with overflow"
    "early_replay|group_history|a message is missing, or came twice"
    "home_first|group_add|a box knows a channel that has ended"
    "token_store|group_sweep|a frame was left in the log"
    "two_sweepers|group_sweep|attempt to subtract with overflow"
    "settled_early|group_sweep|the outcomes do not add up"
    "relaxed_settle|group_sweep|the outcomes do not add up"
    "lost_waiter|group_sweep|deadlock; threads"
    "no_catch_up|group_order|one caller.s frames changed places"
    "close_no_catch_up|group_order|a close came before what was sent before it"
    "late_head|group_order|a member missed a frame"
    "leave_unseen|group_leave|the outcomes do not add up"
    "late_unlisting|group_leave|a frame arrived after the leave"
    "late_unlisting|group_leave|a group without members is in the box"
    "join_of_closed|group_leave|a member was not reached"
    "vanish_by_name|group_leave|a member was not reached"
    "vanish_unlooked|group_leave|a member was not reached"
    "enter_unlooked|presence|somebody is present and is no member"
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
