#!/usr/bin/env bash
# Looks in every lock file of the repository for versions with faults that reach this crate (deny.toml), for yanked
# versions, for sources other than the registry, and for RustSec advisories; in the workspace's own also for licences.
# The database of advisories is a git repository. Where it cannot be fetched, the script prints so, and checks the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
VERSION=0.20.2

skip() { printf 'SKIPPED: %s\n' "$1"; }

if [ "$(cargo deny --version 2>/dev/null)" != "cargo-deny $VERSION" ]; then
    # Without optimisation: it runs for seconds, and is built in half the time.
    cargo install cargo-deny --version "=$VERSION" --locked --debug --quiet || {
        skip "advisories, licences and forbidden versions: cargo-deny $VERSION is not there and could not be installed"
        exit 0
    }
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

# deny CONFIG FOLDER CHECK..: what cargo-deny finds in the lock file of this folder.
deny() {
    local config="$1" folder="$2"
    shift 2
    if ! cargo deny --config "$config" --manifest-path "$folder/Cargo.toml" --locked check "$@" >"$scratch/log" 2>&1; then
        printf '%s/Cargo.lock:\n' "$folder"
        cat "$scratch/log"
        failed=1
    fi
    grep -E '^warning' "$scratch/log" | sort | uniq -c || true
}

# stand_in CONFIG: cargo-deny asks the registry for yanked versions only when it has a database of advisories. So a
# database with one advisory, for a package that does not exist, replaces the real one. cargo-deny refuses the address of
# a folder; so git maps an invented address to the folder.
stand_in() {
    local address=https://advisories.invalid/none database="$scratch/database"
    mkdir -p "$database/crates/none"
    printf '```toml\n[advisory]\nid = "RUSTSEC-2000-0001"\npackage = "none"\ndate = "2000-01-01"\n[versions]\npatched = []\n```\n# None\n' \
        >"$database/crates/none/RUSTSEC-2000-0001.md"
    git -C "$database" init --quiet --initial-branch=main
    git -C "$database" add .
    git -C "$database" -c user.name=none -c user.email=none@none.invalid commit --quiet --message none
    export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$database.insteadOf" GIT_CONFIG_VALUE_0=$address
    sed "s|^\[advisories\]|&\ndb-urls = [\"$address\"]\ndb-path = \"$scratch/clones\"|" deny.toml >"$1"
}

config=deny.toml
what="RustSec advisories, yanked versions"
if ! timeout 60 cargo deny --log-level error fetch db >"$scratch/log" 2>&1; then
    skip "the RustSec advisories: their database cannot be fetched: $(grep -E '^(fatal|error)' "$scratch/log" | head -1)"
    config=$scratch/deny.toml
    what="yanked versions"
    stand_in "$config"
fi

deny "$config" . licenses
locks=0
while read -r lock; do
    folder=$(dirname "$lock")
    allow=()
    [ "$folder" = . ] || allow=(--allow unmaintained)
    deny "$config" "$folder" "${allow[@]}" bans sources advisories
    locks=$((locks + 1))
done < <(git ls-files 'Cargo.lock' '*/Cargo.lock')
printf 'forbidden versions, sources, %s: %d lock files\n' "$what" "$locks"
exit "$failed"
