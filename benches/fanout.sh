#!/usr/bin/env bash
# Measures what it costs to reach many connections: one JSON object a line. See benches/fanout/main.rs.
#
#   benches/fanout.sh [throughput|large|deflate|memory|history|replay|stalled|caller|joins|groups ...]
#                     [--runs=N] [--seconds=S] [--open=N]
#
# All tables without a name: a quarter of an hour, on a machine that does nothing else; the first line and the last of
# the output tell. Server and load have a core each. A runtime of one thread serves both fanfare and axum: it is as
# cheap or cheaper for either than tokio's multi-threaded one with one worker, which `--runtime=multi` takes.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(uname -s)" != Linux ]; then
    echo "SKIPPED: fanout: it measures with Linux's epoll, affinity and scheduler counts" >&2
    exit 0
fi

# A workspace of its own, for what its manifest says.
cargo build --quiet --release --manifest-path benches/peers/fanout/Cargo.toml --target-dir target/peers
exec cargo bench --quiet -p fanfare-benches --bench fanout -- \
    --axum="$PWD/target/peers/release/fanfare-fanout-peers" "$@"
