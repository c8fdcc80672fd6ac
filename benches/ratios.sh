#!/usr/bin/env bash
# Runs both `ratios` benches and prints their figures; with `--plot`, also draws them into src/docs/plots.
# Other arguments name tables of the first bench (emit, threads, names, growth, churn, joins) or `peers`.
#
# Loops are aligned: how long the raw loop takes depends by half on where in a cache line it happens to be,
# and every ratio on that. Five processes each, medians; some six minutes in all, on a machine that does
# nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="-C llvm-args=-align-all-nofallthru-blocks=6" CARGO_TARGET_DIR="$PWD/target/ratios"

tables=()
plot=false
for argument in "$@"; do
    if [ "$argument" = --plot ]; then plot=true; else tables+=("$argument"); fi
done
[ "${#tables[@]}" -gt 0 ] || tables=(emit threads names growth churn joins peers)

# title TABLE: what its plot is called, and what is done once in its nanoseconds.
title() {
    case $1 in
        emit) echo "One emit to N listeners|emit" ;;
        threads) echo "One emit while another thread emits too|emit" ;;
        names) echo "Names: one emit, and one new name|call" ;;
        growth) echo "on and off, beside many others|call" ;;
        churn) echo "One emit, while another thread registers and takes off|emit" ;;
        joins) echo "A group grows to ten thousand|join" ;;
        peers) echo "One emit, beside other people's crates|emit" ;;
        *) echo "no table \`$1\`" >&2 && exit 2 ;;
    esac
}

run() {
    case $1 in
        peers) cargo bench --quiet --manifest-path benches/peers/Cargo.toml --bench ratios ;;
        *) cargo bench --quiet -p fanfare-benches --bench ratios -- "$1" ;;
    esac
}

for table in "${tables[@]}"; do
    IFS='|' read -r what unit <<<"$(title "$table")"
    figures=$(run "$table")
    echo "$figures"
    if $plot; then
        cargo run --quiet --release -p fanfare-benches --bin plot "$what" "$unit" <<<"$figures" >"src/docs/plots/$table.svg"
    fi
done
