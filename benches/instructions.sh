#!/usr/bin/env bash
# Counts the instructions of one emit, and fails when a case takes over 2 % more than is kept for this
# compiler in benches/instructions.txt. With `--keep`, keeps the new figures instead.
set -euo pipefail
cd "$(dirname "$0")/.."

# Figures have a point, whatever the locale.
export LC_ALL=C

kept=benches/instructions.txt
runner=$(sed -n 's/^gungraun = "=\(.*\)"$/\1/p' benches/Cargo.toml)
release=$(rustc -vV | sed -n 's/^release: //p')
host=$(rustc -vV | sed -n 's/^host: //p')

skip() { printf 'SKIPPED: instruction counts: %s\n' "$1"; exit 0; }

# Prints one line a case: contender, size, instructions. The smaller of a case's two counts comes first.
measure() {
    cargo bench --quiet -p fanfare-benches --bench instructions -- --output-format=json | awk '
        function field(name) {
            match($0, "\"" name "\":\"[^\"]*\"")
            return substr($0, RSTART + length(name) + 4, RLENGTH - length(name) - 5)
        }
        {
            split(field("id"), at, /[nk_]+/)
            what = field("function_name") " N=" at[2]
            sub(/.*"total":.*"Ir":/, "")
            match($0, /"new":[0-9]+/)
            count = substr($0, RSTART + 6, RLENGTH - 6)
            if (what in less) printf "%s %.1f\n", what, (count - less[what]) / (at[3] - times[what])
            less[what] = count
            times[what] = at[3]
        }'
}

keep() {
    awk -v release="$release" '$1 != release' "$kept" >"$kept.new"
    sed "s/^/$release /" <<<"$1" >>"$kept.new"
    mv "$kept.new" "$kept"
    sed 's/^\(.*\) /instructions \1: /; s/$/ (kept now)/' <<<"$1"
}

compare() {
    awk -v release="$release" '
        function complain(what, why) { wrong = wrong "instructions " what ": " why "\n" }
        FILENAME != "-" { if ($1 == release) kept[$2 " " $3] = $4; next }
        { what = $1 " " $2; printf "instructions %s: %s", what, $3 }
        !(what in kept) { print " (nothing kept)"; complain(what, "has no kept figure"); next }
        {
            change = ($3 / kept[what] - 1) * 100
            printf " (kept %s, %+.1f %%)\n", kept[what], change
            if (change > 2) complain(what, sprintf("takes %.1f %% more than kept, 2 %% are allowed", change))
            delete kept[what]
        }
        END {
            for (what in kept) complain(what, "is kept and was not measured")
            if (wrong == "") exit
            print wrong "Where that is meant, keep the new figures: benches/instructions.sh --keep"
            exit 1
        }' "$kept" - <<<"$1"
}

[ "$host" = x86_64-unknown-linux-gnu ] || skip "kept for x86_64-unknown-linux-gnu, this is $host"
command -v valgrind >/dev/null || skip "valgrind is not there"
[ "$(gungraun-runner --version 2>/dev/null)" = "gungraun-runner $runner" ] || skip "gungraun-runner $runner is not there"
[ "${1:-}" = --keep ] || grep -q "^$release " "$kept" || skip "none kept for rustc $release"

figures=$(measure)
if [ "${1:-}" = --keep ]; then keep "$figures"; else compare "$figures"; fi
