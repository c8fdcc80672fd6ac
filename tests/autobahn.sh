#!/usr/bin/env bash
# Runs the Autobahn conformance suite against the echo example.
#
#   tests/autobahn.sh quick    all but compression, and a sample of that (a minute)
#   tests/autobahn.sh full     all of it (compression takes a quarter of an hour)
#
# Compression is tested when the server agrees to it. The suite is looked for in AUTOBAHN_DIR, then in
# ../shared/autobahn: a folder whose setup.sh installs beside itself, and whose run.sh takes an address,
# cases and a folder for the results. It is copied before it is set up.
set -euo pipefail
cd "$(dirname "$0")/.."

# Cases that may be something other than OK: the case, what it is, and why that is right. Anything else fails.
tolerated() {
    cat <<'LIST'
LIST
}

# One of each kind of payload and window, with the shortest messages.
SAMPLE='12.1.1,12.2.3,12.3.5,12.4.8,12.5.10,13.1.3,13.2.5,13.3.8,13.4.1,13.5.3,13.6.5,13.7.8'

skip() {
    printf 'SKIPPED: Autobahn: %s\n' "$1"
    exit 0
}

case "${1:-quick}" in
    quick) compression="$SAMPLE" limit=300 ;;
    full) compression='12.*,13.*' limit=2400 ;;
    *) echo "usage: tests/autobahn.sh [quick|full]" >&2; exit 2 ;;
esac

source="${AUTOBAHN_DIR:-../shared/autobahn}"
[ -f "$source/setup.sh" ] && [ -f "$source/run.sh" ] || skip "the suite is not there; AUTOBAHN_DIR says where it is"
python3 -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
    || skip "it needs Python 3.11 or 3.12 as python3"

scratch="$PWD/target/autobahn"
mkdir -p "$scratch"
if [ ! -e "$scratch/suite/ready" ]; then
    rm -rf "$scratch/suite"
    # What another setup has left there is not carried over: virtual environments cannot be moved.
    mkdir "$scratch/suite"
    (cd "$source" && tar cf - --exclude ./venv --exclude ./lib .) | tar xf - -C "$scratch/suite"
    timeout 300 "$scratch/suite/setup.sh" >"$scratch/setup.log" 2>&1 \
        || skip "its setup failed: $(tail -n 1 "$scratch/setup.log")"
    touch "$scratch/suite/ready"
fi

cargo build --release --quiet -p echo
PORT=0 target/release/echo >"$scratch/echo.out" 2>"$scratch/echo.err" &
server=$!
trap 'kill "$server" 2>/dev/null || true' EXIT
for _ in $(seq 100); do
    address=$(sed -n 's,^echo is at http://,,p' "$scratch/echo.out")
    [ -z "$address" ] || break
    kill -0 "$server" 2>/dev/null || { cat "$scratch/echo.err" >&2; exit 1; }
    sleep 0.1
done
[ -n "$address" ] || { echo "echo does not say where it is" >&2; exit 1; }

cases='*,-12.*,-13.*'
if python3 - "$address" <<'PYTHON'
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
with socket.create_connection((host, int(port)), 10) as stream:
    stream.sendall(
        f"GET / HTTP/1.1\r\nHost: {sys.argv[1]}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head and (piece := stream.recv(4096)):
        head += piece
sys.exit(b"permessage-deflate" not in head)
PYTHON
then
    with_compression=yes
else
    with_compression=no
    printf 'SKIPPED: Autobahn 12.* and 13.*: the server does not compress\n'
fi

# judge NAME CASES: runs the cases; none may fail, or be missing, or be something that is not tolerated.
judge() {
    local results="$scratch/$1"
    rm -rf "$results"
    LIMIT="$limit" "$scratch/suite/run.sh" "ws://$address" "$2" "$results" >"$scratch/$1.log" 2>&1 \
        || { cat "$scratch/$1.log" >&2; return 1; }
    tolerated | python3 -c '
import collections, json, sys
results = json.load(open(sys.argv[1]))["server"]
tolerated = {tuple(line.split(None, 2)[:2]) for line in sys.stdin if line.strip()}
counts, bad = collections.Counter(), []
for case, result in results.items():
    for field in ("behavior", "behaviorClose"):
        what = result[field]
        counts[what] += field == "behavior"
        # INFORMATIONAL is where the RFC leaves it open.
        if what not in ("OK", "INFORMATIONAL") and (case, what) not in tolerated:
            bad.append(f"{case} {field}: {what}")
print(len(results), "cases:", ", ".join(f"{count} {what}" for what, count in counts.most_common()))
sys.exit("not tolerated: " + "; ".join(bad) if bad else 0)
' "$results/index.json"
}

judge plain "$cases"
[ "$with_compression" = no ] || judge compression "$compression"

# It has served its purpose, and ends in order.
kill -TERM "$server"
trap - EXIT
wait "$server" || { echo "echo did not end in order" >&2; exit 1; }
