#!/usr/bin/env bash
# Lets clients that are not ours talk to echo and fanout: `websockets` for Python, `ws` for node. The former talks to
# the applications, too.
#
#   tests/interop.sh              compression is offered, and must be declined
#   tests/interop.sh --deflate    compression is offered, and must be agreed to
set -euo pipefail
cd "$(dirname "$0")/.."

WEBSOCKETS=17.4
WS=8.23.0

case "${1:-}" in
    "") answer=offered ;;
    --deflate) answer=agreed ;;
    *) echo "usage: tests/interop.sh [--deflate]" >&2; exit 2 ;;
esac

skip() { printf 'SKIPPED: interop with %s\n' "$1"; }

scratch="$PWD/target/interop"
mkdir -p "$scratch"
clients=()

python="$scratch/venv/bin/python"
if ! command -v python3 >/dev/null; then
    skip "websockets: there is no python3"
elif ! { [ -x "$python" ] || python3 -m venv "$scratch/venv"; } >"$scratch/venv.log" 2>&1 \
    || ! timeout 300 "$python" -m pip install --quiet "websockets==$WEBSOCKETS" >>"$scratch/venv.log" 2>&1; then
    skip "websockets: it could not be installed, see $scratch/venv.log"
else
    clients+=("$python tests/interop/client.py")
fi

export NODE_MODULES="$scratch/node_modules"
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    skip "ws: there is no node with npm"
elif ! timeout 300 npm install --prefix "$scratch" --no-save --no-audit --no-fund --ignore-scripts "ws@$WS" \
    >"$scratch/npm.log" 2>&1; then
    skip "ws: it could not be installed, see $scratch/npm.log"
else
    clients+=("node tests/interop/client.mjs")
fi
[ "${#clients[@]}" -gt 0 ] || exit 0

cargo build --release --quiet -p echo -p fanout

servers=()
trap 'for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done' EXIT

# wait_for LOG PATTERN: prints the line that matches, once it is there.
wait_for() {
    for _ in $(seq 200); do
        if grep -m 1 "$2" "$1"; then return; fi
        sleep 0.05
    done
    echo "nothing like '$2' in $1" >&2
    return 1
}

# start NAME: leaves the program's process in $server and its address in $address.
start() {
    : >"$scratch/$1.out"
    PORT=0 "target/release/$1" >"$scratch/$1.out" &
    server=$!
    servers+=("$server")
    address=$(wait_for "$scratch/$1.out" "^$1 is at http://")
    address=${address##*/}
}

# end PROCESS: it has to end in order.
end() {
    kill -TERM "$1"
    wait "$1"
}

for client in "${clients[@]}"; do
    start echo
    echo=$server echo_address=$address
    start fanout
    fanout=$server fanout_address=$address
    for compression in no "$answer"; do
        timeout 300 $client check "$echo_address" "$fanout_address" "$compression"
    done
    # A client that is there when the server ends.
    : >"$scratch/goodbye.out"
    timeout 100 $client goodbye "$echo_address" >"$scratch/goodbye.out" &
    guest=$!
    wait_for "$scratch/goodbye.out" '^connected' >/dev/null
    end "$echo"
    wait "$guest"
    end "$fanout"
    servers=()
done

# The applications: each has a protocol of its own, spoken by a test of its own.
"$python" -c "import websockets" 2>/dev/null || exit 0 # skipped above, by name
for test in examples/*/tests/protocol.py; do
    name=${test#examples/} name=${name%%/*}
    cargo build --release --quiet -p "$name"
    PYTHONPATH=tests/interop timeout 300 "$python" -B "$test" "target/release/$name"
done
