#!/usr/bin/env bash
# Shows what it can of the claim that the crate builds with the compiler that Cargo.toml names as `rust-version`.
#
# Where that compiler is there, it builds the crate. Without it, these three are required:
# - No package that the crate needs, with all features and on any platform, declares a newer one.
# - clippy finds nothing of the standard library that is newer, in the crate or in a package that declares none. (Others
#   may use what is newer where they find a newer compiler: their declaration stands.)
# - The crate itself passes clippy's `incompatible_msrv`, with all warnings as errors, in .ci/run.
# What that does not show: syntax that is newer, and code of other platforms.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never RUSTUP_AUTO_INSTALL=0 LC_ALL=C
CLAIM=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
mkdir -p "${CARGO_TARGET_DIR:-target}/msrv/conf"
TARGET=$(cd "${CARGO_TARGET_DIR:-target}/msrv" && pwd)

skip() {
    printf 'SKIPPED: %s\n' "$1"
    exit 0
}

for toolchain in "$CLAIM" "$CLAIM.0"; do
    if cargo "+$toolchain" --version >/dev/null 2>&1; then
        cargo "+$toolchain" check -p fanfare --locked --quiet --target-dir "$TARGET/$CLAIM"
        cargo "+$toolchain" check -p fanfare --all-features --locked --quiet --target-dir "$TARGET/$CLAIM"
        echo "the crate builds with Rust $CLAIM"
        exit
    fi
done
printf 'SKIPPED: a build with Rust %s: that compiler is not there; in its place:\n' "$CLAIM"
command -v jq >/dev/null || skip "what the packages declare: jq is not there"

needed=$TARGET/needed declared=$TARGET/declared log=$TARGET/log
cargo tree -p fanfare --locked -e normal,build --all-features --target all --prefix none -f '{p}' \
    | awk '$1 != "fanfare" { print $1 "-" substr($2, 2) }' | sort -u >"$needed"
# "name-version rust-version", where there is none 0.
cargo metadata --format-version 1 --locked --quiet \
    | jq -r '.packages[] | "\(.name)-\(.version) \(.rust_version // "0")"' | sort -u | join - "$needed" >"$declared"

newer=$(awk -v claim="$CLAIM" 'BEGIN { split(claim, ours, ".") }
    { split($2, theirs, "."); if (theirs[1] > ours[1] || (theirs[1] == ours[1] && theirs[2] + 0 > ours[2] + 0)) print $1 " needs Rust " $2 }' "$declared")
if [ -n "$newer" ]; then
    printf 'Cargo.toml claims Rust %s, but\n%s\n' "$CLAIM" "$newer"
    exit 1
fi
printf '%d packages declare Rust %s or older, %d declare none\n' \
    "$(grep -vc ' 0$' "$declared")" "$CLAIM" "$(grep -c ' 0$' "$declared")"

# clippy as the compiler of all packages. cargo would let it lint those of the workspace only, and show no other's lints.
driver=$(rustc --print sysroot)/bin/clippy-driver
[ -x "$driver" ] || skip "what the packages use of the standard library: clippy is not there"
# Written anew, it would have all packages built anew.
grep -qs "\"$CLAIM\"" "$TARGET/conf/clippy.toml" || printf 'msrv = "%s"\n' "$CLAIM" >"$TARGET/conf/clippy.toml"
RUSTC_WRAPPER=$driver CLIPPY_CONF_DIR=$TARGET/conf RUSTFLAGS="--force-warn clippy::incompatible_msrv" \
    cargo check -p fanfare --all-features --locked -vv --target-dir "$TARGET" >"$log" 2>&1 || { tail -40 "$log"; exit 1; }
found=$(awk '/^warning: current MSRV/ { message = $0; next } message && / --> / { print $2 " " message; message = "" }' "$log" \
    | sed -E 's/^.*\/registry\/src\/[^\/]+\/([^\/]+)\/(\S+)/\1 \2/' | sort | join -v 1 - <(grep -v ' 0$' "$declared"))
if [ -n "$found" ]; then
    printf 'Cargo.toml claims Rust %s, but\n%s\n' "$CLAIM" "$found"
    exit 1
fi
grep -oE '^ +(Checking|Compiling|Fresh|Dirty) [^ ]+ v[^ ]+' "$log" | sed -E 's/^ +[A-Z][a-z]+ ([^ ]+) v/\1-/' | sort -u >"$TARGET/built"
printf 'and of what is built here nothing uses a newer standard library; not built here and without a declaration:%s\n' \
    "$(grep ' 0$' "$declared" | cut -d' ' -f1 | comm -23 - "$TARGET/built" | sed 's/^/ /' | tr -d '\n' | sed 's/^$/ none/')"
