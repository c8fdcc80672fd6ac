#!/usr/bin/env bash
# Checks the examples' pages with TypeScript's compiler, and their documented messages with samples: every sample has
# its type, and every script uses messages by their types. Modules that do not need a page are tested in node.
# A missing tool is named, and its checks are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v node >/dev/null; then
    node --no-warnings --test examples/*/tests/*.test.js
else
    echo "SKIPPED: the modules of the examples' pages: node is not installed"
fi

compiler=target/typescript/node_modules/.bin/tsc
if [ ! -x "$compiler" ]; then
    echo "SKIPPED: the types of the examples: typescript is not installed (client/test.sh installs it)"
    exit
fi

for page in examples/*/src/page.js; do
    sources=${page%/page.js}
    name=${sources#examples/} name=${name%/src}
    folder=target/typescript/$name
    mkdir -p "$folder"
    # In one folder, as the browser sees them.
    for file in "$sources"/*.js "$sources"/*.d.ts examples/start/src/start.js client/fanfare.js client/fanfare.d.ts; do
        ln -sf "$PWD/$file" "$folder/"
    done
    # All files are modules, as in the browser: a script may use top-level await.
    echo '{"type":"module"}' >"$folder/package.json"
    node - "$sources/samples.json" >"$folder/samples.ts" <<'NODE'
const { readFileSync } = require("node:fs");
const samples = JSON.parse(readFileSync(process.argv[2], "utf8"));
console.log('import type { ClientMessage, ServerMessage } from "./messages.js";');
for (const [side, type] of [["server", "ServerMessage"], ["client", "ClientMessage"]]) {
  if (!samples[side]?.length) throw new Error(`no samples of messages that a ${side} sends`);
  samples[side].forEach((sample, index) => {
    console.log(`export const ${side}${index}: ${type} = ${JSON.stringify(sample)};`);
    // The same message with another `type` must fail: a type that accepts everything would prove nothing.
    console.log(`// @ts-expect-error\nexport const no_${side}${index}: ${type} = ${JSON.stringify({ ...sample, type: "?" })};`);
  });
}
NODE
    options=(--noEmit --target es2022 --module nodenext --lib es2023,dom,dom.iterable --preserveSymlinks)
    "$compiler" "${options[@]}" --strict --exactOptionalPropertyTypes "$folder/samples.ts"
    "$compiler" "${options[@]}" --allowJs --checkJs "$folder/page.js"
    echo "$name: the page and its samples agree with their types"
done
