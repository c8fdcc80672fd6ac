// Run by examples/types.sh: `node --test examples/collab/tests/text.test.js`.
import assert from "node:assert/strict";
import { test } from "node:test";
import { apply, cross, diff, Draft, join, move } from "../src/text.js";

/** mulberry32: every run throws the same. */
function dice(seed) {
  return (limit) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let bits = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) % limit;
  };
}

/** A text of whole characters, and changes that split none. */
function some(below, text, times) {
  const changes = [];
  for (let i = below(times + 1); i > 0; i--) {
    const letters = [...text];
    const from = below(letters.length + 1);
    const deleted = letters.slice(from, from + below(4)).join("");
    const inserted = ["", "a", "bc", "😀", "é\n"][below(5)];
    changes.push([letters.slice(0, from).join("").length, deleted.length, inserted]);
    text = apply(text, changes.slice(-1));
  }
  return changes;
}

test("two lists that cross come to the same text, whoever is first", () => {
  const below = dice(1);
  for (let round = 0; round < 20_000; round++) {
    const text = "one 😀 two 😁 three".slice(0, [0, 4, 6, 13, 19][below(5)]);
    const [ours, theirs] = [some(below, text, 4), some(below, text, 4)];
    const [ours1, theirs1] = cross(ours, theirs);
    const left = apply(apply(text, theirs), ours1);
    assert.equal(left, apply(apply(text, ours), theirs1), JSON.stringify({ text, ours, theirs }));
    assert.ok(left.isWellFormed());
  }
});

test("what others wrote into a deleted text stays, and of two at one place the other is first", () => {
  assert.deepEqual(cross([[0, 6, ""]], [[3, 0, "new"]])[0], [[0, 3, ""], [3, 3, ""]]);
  assert.equal(apply(apply("ab", [[1, 0, "X"]]), cross([[1, 0, "y"]], [[1, 0, "X"]])[0]), "aXyb");
});

test("a difference makes the one text of the other, and splits no character", () => {
  const below = dice(2);
  for (let round = 0; round < 20_000; round++) {
    const from = "😀😁a😀b\n".repeat(below(3));
    const to = apply(from, some(below, from, 3));
    const changes = diff(from, to, below(2) ? below(to.length + 1) : undefined);
    assert.equal(apply(from, changes), to);
    for (const [at, deleted, inserted] of changes) {
      assert.ok(inserted.isWellFormed() && from.slice(0, at).isWellFormed() && from.slice(at + deleted).isWellFormed());
    }
  }
  assert.deepEqual(diff("aaa", "aaaa", 2), [[1, 0, "a"]], "it was typed before the caret");
  assert.deepEqual(diff("aaaa", "aaa", 1), [[1, 1, ""]], "what was behind the caret is deleted");
});

test("joined changes do what they did one by one", () => {
  const below = dice(3);
  for (let round = 0; round < 20_000; round++) {
    const text = "one 😀 two";
    const changes = some(below, text, 6);
    assert.equal(apply(text, changes.reduce((list, change) => join(list, [change]), [])), apply(text, changes));
  }
  assert.deepEqual(join([[3, 0, "ab"]], [[5, 0, "c"]]), [[3, 0, "abc"]]);
  assert.deepEqual(join([[5, 1, ""]], [[4, 1, ""]]), [[4, 2, ""]]);
});

test("a caret stays where it stands in the text", () => {
  assert.equal(move(5, [[2, 0, "abc"]]), 8);
  assert.equal(move(5, [[5, 0, "abc"]]), 5);
  assert.equal(move(5, [[5, 0, "abc"]], true), 8);
  assert.equal(move(5, [[3, 4, ""]]), 3);
  assert.equal(move(5, [[7, 1, "x"]]), 5);
});

/** A server in a dozen lines: it moves what is late past what came before, as the real one does by yrs. */
class Server {
  log = [];
  texts = [""];
  last = new Map();

  take(session, { edit, version, changes }) {
    const last = this.last.get(session) ?? 0;
    assert.ok(edit <= last + 1, "no number is skipped");
    if (edit <= last) return;
    // What it was made in: a page never edits a version that lacks its own last edit.
    apply(this.texts[version], changes);
    for (const entry of this.log.slice(version)) [changes] = cross(changes, entry.changes);
    this.last.set(session, edit);
    this.texts.push(apply(this.texts.at(-1), changes));
    this.log.push({ session, edit, changes, version: this.log.length + 1 });
  }

  initial(session) {
    return { content: this.texts.at(-1), version: this.log.length, edit: this.last.get(session) ?? 0 };
  }
}

test("pages that type, undo, lose their connections and come back end with the server's text", () => {
  const below = dice(4);
  for (let round = 0; round < 300; round++) {
    const server = new Server();
    const pages = [0, 1, 2].map((session) => ({ session, draft: new Draft(), read: 0, outgoing: [], open: false }));
    const step = (page, action) => {
      const { session, draft } = page;
      if (action === "open") {
        page.open = true;
        page.outgoing = [];
        draft.initial(server.initial(session));
        page.read = server.log.length;
        if (draft.sent) page.outgoing.push(draft.sent);
      } else if (action === "lose") {
        // With or without what was under way.
        if (below(2)) page.outgoing.forEach((edit) => server.take(session, edit));
        page.open = false;
      } else if (action === "read" && page.read < server.log.length) {
        const entry = server.log[page.read++];
        assert.notEqual(entry.session === session ? draft.applied(entry) : draft.edited(entry), null, "nothing is missed");
      } else if (action === "write" && page.outgoing.length) {
        server.take(session, page.outgoing.shift());
      } else if (action === "type") {
        draft.typed(apply(draft.view, some(below, draft.view, 1)), undefined, below(9000));
      } else if (action === "undo") {
        const before = draft.view;
        assert.equal(apply(before, draft.undo(below(2) === 0)), draft.view);
      }
      assert.ok(draft.view.isWellFormed());
      const edit = page.open && draft.next();
      if (edit) page.outgoing.push(edit);
    };
    const actions = ["type", "type", "read", "read", "write", "write", "undo", "lose"];
    for (let i = 0; i < 120; i++) {
      const page = pages[below(3)];
      step(page, page.open ? actions[below(below(4) ? 6 : 8)] : below(3) ? "type" : "open");
    }
    for (const page of pages) if (!page.open) step(page, "open");
    for (let i = 0; i < 400; i++) pages.forEach((page) => (step(page, "write"), step(page, "read")));
    for (const { draft } of pages) assert.deepEqual([draft.view, draft.isSaved], [server.texts.at(-1), true]);
  }
});

test("what is typed goes on where it was begun, on whichever side of another's words that turns out to be", () => {
  for (const [changes, expected] of [
    [[[1, 0, "n"]], "lnoe"],
    [[[2, 0, "n"]], "leno"],
    [[[0, 0, "n"]], "nole"],
  ]) {
    const draft = new Draft();
    draft.initial({ content: "", version: 0, edit: 0 });
    draft.typed("n");
    draft.next();
    draft.typed("no");
    draft.edited({ changes: [[0, 0, "le"]], version: 1 });
    const caret = move(draft.view.length, draft.applied({ edit: 1, version: 2, changes }));
    assert.deepEqual([draft.view, caret], [expected, expected.indexOf("o") + 1]);
  }
});

test("undo takes back what was typed here, whatever others wrote meanwhile", () => {
  const draft = new Draft();
  draft.initial({ content: "one two", version: 0, edit: 0 });
  draft.typed("one 2 two", 5, 0);
  draft.edited({ changes: [[0, 0, "zero "]], version: 1 });
  draft.typed("zero one 2 two!", undefined, 5000);
  draft.undo();
  assert.equal(draft.view, "zero one 2 two");
  draft.undo();
  assert.equal(draft.view, "zero one two");
  draft.undo(true);
  assert.equal(draft.view, "zero one 2 two");
  // What is typed in one go is one step, and what is typed elsewhere another one.
  for (const letter of "345") draft.typed(draft.view + letter, undefined, 9000);
  draft.typed("X" + draft.view, 1, 9000);
  draft.undo();
  assert.equal(draft.view, "zero one 2 two345");
  draft.undo();
  assert.equal(draft.view, "zero one 2 two");
});

test("what is refused is given back, and the text is the server's", () => {
  const draft = new Draft();
  draft.initial({ content: "one", version: 3, edit: 0 });
  draft.typed("one two");
  assert.deepEqual(draft.next(), { edit: 1, version: 3, changes: [[3, 0, " two"]] });
  assert.deepEqual([draft.refused({ edit: 9 }), draft.refused({ edit: 1 }), draft.view], [null, "one two", "one"]);
});
