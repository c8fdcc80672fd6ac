#!/usr/bin/env bash
# Tests the client for browsers without a browser: its logic in node, and its types with TypeScript's compiler.
# A missing tool is named, and its checks are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v node >/dev/null; then
    echo "SKIPPED: the client's tests: node is not installed"
    exit
fi
node --no-warnings --test client/test/*.test.js

# The compiler is not part of the project: it stays out of the tree.
folder=target/typescript
compiler=$folder/node_modules/.bin/tsc
if [ ! -x "$compiler" ]; then
    mkdir -p "$folder"
    npm install --prefix "$folder" --no-save --no-package-lock --no-audit --no-fund --silent typescript@5 >/dev/null 2>&1 || true
fi
if [ ! -x "$compiler" ]; then
    echo "SKIPPED: the client's types: typescript is not installed, and could not be installed"
    exit
fi
node client/test/examples.js >"$folder/examples.ts"
"$compiler" --noEmit --strict --exactOptionalPropertyTypes --target es2022 --module nodenext --lib es2023,dom,dom.iterable \
    client/test/sample.ts "$folder/examples.ts"
# The client agrees with its types: `connect` returns it as a `Connection`.
"$compiler" --noEmit --allowJs --checkJs --target es2022 --module nodenext --lib es2023,dom,dom.iterable client/fanfare.js
echo "the types agree with the client, the sample and the page's examples"
