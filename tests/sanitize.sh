#!/usr/bin/env bash
# Runs tests/stress.rs under ThreadSanitizer and AddressSanitizer, each of which must first catch planted faults.
# FANFARE_STRESS_SECONDS says how long each stress is: 5 without it, 30 before a release.
#
# The standard library is not instrumented (to rebuild it takes its source and some minutes); what that
# makes ThreadSanitizer report wrongly is named in planted/tsan.suppressions.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
    printf 'SKIPPED: sanitizers: %s\n' "$1"
    exit 0
}

cargo +nightly --version >/dev/null 2>&1 || skip "there is no nightly compiler"
HOST=$(rustc +nightly -vV | sed -n 's/^host: //p')
RUNTIMES=$(rustc +nightly --print target-libdir)
SYMBOLIZER=$(command -v llvm-symbolizer || command -v addr2line) || skip "suppressions go by name, and there is no llvm-symbolizer or addr2line"

export FANFARE_STRESS_SECONDS="${FANFARE_STRESS_SECONDS:-5}"
export CARGO_TERM_COLOR=never RUST_BACKTRACE=0
# A report names frames by its suppressions only if the history of the other thread reaches back that far.
export TSAN_OPTIONS="suppressions=$PWD/tests/planted/tsan.suppressions external_symbolizer_path=$SYMBOLIZER history_size=7"
export ASAN_OPTIONS="external_symbolizer_path=$SYMBOLIZER"

# must_fail TITLE LOG SAYS PROGRAM: the program must end with an error, and its report say this.
must_fail() {
    local title="$1" log="$2" says="$3" program="$4"
    if timeout 60 "$program" >"$log" 2>&1 || ! grep -q "$says" "$log"; then
        echo "$title: planted $(basename "$program") was NOT caught:"
        tail -20 "$log"
        exit 1
    fi
    echo "$title: planted $(basename "$program") caught"
}

# must_pass TITLE LOG WHAT PROGRAM ARGUMENT...: the program must end well.
must_pass() {
    local title="$1" log="$2" what="$3"
    shift 3
    if ! "$@" >"$log" 2>&1; then
        echo "$title: $what FAILED:"
        grep -E 'violation|panicked|hang|SUMMARY' "$log" | sort | uniq -c | head -20
        echo "the whole of it is in $log"
        exit 1
    fi
    echo "$title: $what clean$(sed -n 's/^\.*\([0-9]* rounds, .*\)/: \1/p' "$log")"
}

# title, sanitizer, further flags, planted faults; its reports on them
SANITIZERS=(
    "ThreadSanitizer|thread|-Cunsafe-allow-abi-mismatch=sanitizer|data_race missing_wait|ThreadSanitizer: data race"
    "AddressSanitizer|address||use_after_free missing_wait|AddressSanitizer: heap-use-after-free"
)

for line in "${SANITIZERS[@]}"; do
    IFS='|' read -r title name flags faults says <<<"$line"
    compgen -G "$RUNTIMES/librustc*_rt.${name:0:1}san.*" >/dev/null || skip "the compiler comes without the runtime of $title"
    export CARGO_TARGET_DIR="$PWD/target/sanitize/$name" RUSTFLAGS="-Zsanitizer=$name $flags"
    log="$CARGO_TARGET_DIR/log"
    test=(cargo +nightly test --quiet --locked --manifest-path tests/planted/Cargo.toml --target "$HOST" --test stress)
    # Builds the programs too.
    "${test[@]}" --no-run

    programs="$CARGO_TARGET_DIR/$HOST/debug"
    for fault in $faults; do
        must_fail "$title" "$log" "$says" "$programs/$fault"
    done
    must_pass "$title" "$log" "missing_wait, with its wait," "$programs/missing_wait" waited
    # On the harness's own thread, one after the other: its channels and the lock of stdout are not instrumented.
    must_pass "$title" "$log" "each stress of $FANFARE_STRESS_SECONDS s" "${test[@]}" -- --nocapture --test-threads=1
done
