#!/usr/bin/env bash
# Compares the public surface with the listings that are kept: what a program can name with the default features, and
# with all of them. So a change of the surface is seen in review, and none happens by accident.
#   .ci/surface.sh          prints a difference, and fails
#   .ci/surface.sh --keep   writes the listings anew
# FANFARE_SURFACE names another folder for them than .ci/surface.
set -euo pipefail
cd "$(dirname "$0")/.."

# The listing is made by cargo-public-api from rustdoc's JSON, which only a nightly writes, in a format that changes.
# A newer nightly may need another version of the tool: both numbers stand here.
VERSION=0.52.0
FORMAT=57
LISTINGS=${FANFARE_SURFACE:-.ci/surface}
# Shared with the documentation that .ci/run builds with a nightly.
TARGET=${CARGO_TARGET_DIR:-target}/nightly
JSON=$TARGET/doc/fanfare.json
export CARGO_TERM_COLOR=never

skip() {
    printf 'SKIPPED: the public surface: %s\n' "$1"
    exit 0
}

cargo +nightly --version >/dev/null 2>&1 || skip "there is no nightly compiler"
if [ "$(cargo public-api --version 2>/dev/null)" != "cargo-public-api $VERSION" ]; then
    # Without optimisation: it runs for a second, and is built in a third of the time.
    cargo install cargo-public-api --version "=$VERSION" --locked --debug --quiet \
        || skip "cargo-public-api $VERSION is not there and could not be installed"
fi

# list FEATURES..: one line for each item. Left out are traits that no program can name, or that follow from the fields:
# a type that stops to be `Send`, `Sync` or `Unpin` is seen.
list() {
    local format
    rm -f "$JSON"
    cargo +nightly rustdoc -p fanfare --lib --locked --quiet --target-dir "$TARGET" "$@" -- -Z unstable-options --output-format json --cap-lints allow || return
    format=$(grep -oE '"format_version":[0-9]+' "$JSON" | cut -d: -f2) || return
    [ "$format" = "$FORMAT" ] || return 3
    cargo public-api --rustdoc-json "$JSON" --omit blanket-impls \
        | grep -vE '^impl(<.*>)? core::(marker::(Freeze|UnsafeUnpin|StructuralPartialEq)|panic::unwind_safe::(Ref)?UnwindSafe) for '
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0
for features in default all; do
    flags=()
    [ "$features" = all ] && flags=(--all-features)
    status=0
    list "${flags[@]}" >"$scratch/$features.txt" || status=$?
    case "$status" in
    0) ;;
    3) skip "this nightly writes another format of rustdoc's JSON than $FORMAT, which cargo-public-api $VERSION reads" ;;
    *) exit "$status" ;;
    esac
    if [ "${1:-}" = --keep ]; then
        mkdir -p "$LISTINGS"
        cp "$scratch/$features.txt" "$LISTINGS/$features.txt"
    elif [ ! -f "$LISTINGS/$features.txt" ]; then
        printf 'no listing of the public surface is kept in %s\n' "$LISTINGS/$features.txt"
        failed=1
    else
        diff -U0 "$LISTINGS/$features.txt" "$scratch/$features.txt" || failed=1
    fi
    printf 'public surface, %s features: %d lines\n' "$features" "$(wc -l <"$scratch/$features.txt")"
done
if [ "$failed" = 1 ]; then
    printf 'The public surface is not what is kept. If it should change: .ci/surface.sh --keep, and say so in CHANGELOG.md.\n'
fi
exit "$failed"
