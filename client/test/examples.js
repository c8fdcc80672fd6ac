/** The examples of the page on the protocol: for a test, and, run as a program, as TypeScript to be checked. */

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const page = readFileSync(new URL("../../src/docs/protocol.md", import.meta.url), "utf8");

/** The texts of all examples under a heading: one a line, or one a block. */
export function examples(heading) {
  const section = page.split("\n# ").find((section) => section.startsWith(heading));
  const blocks = [...section.matchAll(/```json\n(.*?)```/gs)].map(([, block]) => block.trim());
  return blocks.flatMap((block) => (block.startsWith("{\n") ? [block] : block.split("\n")));
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const typed = (type, heading) => examples(heading).map((text) => `export const _${(count += 1)}: ${type} = ${text};`);
  let count = 0;
  console.log('import type { ClientMessage, ServerMessage } from "../../client/fanfare.js";');
  console.log(typed("ServerMessage", "What a server sends").join("\n"));
  console.log(typed("ClientMessage", "What a client sends").join("\n"));
}
