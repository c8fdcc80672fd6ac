/**
 * Texts and their changes, as plain values, independent of the page and the server.
 *
 * A change is `[position, deleted, inserted]`, counted in UTF-16 code units, as JavaScript does. In a list, each change
 * applies to the result of the one before.
 *
 * @typedef {[position: number, deleted: number, inserted: string]} Change
 */

/** Applies changes one after another. */
export function apply(/** @type {string} */ text, /** @type {Change[]} */ changes) {
  for (const [at, deleted, inserted] of changes) text = text.slice(0, at) + inserted + text.slice(at + deleted);
  return text;
}

/** Whether a position is between the two halves of a character. */
const splits = (/** @type {string} */ text, /** @type {number} */ at) =>
  /^[\udc00-\udfff]/.test(text.slice(at, at + 1)) && /[\ud800-\udbff]$/.test(text.slice(0, at).slice(-1));

/**
 * Returns the change from one text to another: at most one, between their common start and common end. A `caret` behind
 * the typed text resolves ambiguity: from "aa" to "aaa", only the caret says which "a" is new.
 *
 * @returns {Change[]}
 */
export function diff(/** @type {string} */ from, /** @type {string} */ to, caret = to.length) {
  if (from === to) return [];
  const most = Math.min(from.length, to.length);
  let end = 0;
  const lastEnd = Math.min(most, to.length - Math.min(caret, to.length));
  while (end < lastEnd && from.at(-1 - end) === to.at(-1 - end)) end++;
  let start = 0;
  while (start < most - end && from[start] === to[start]) start++;
  while (start + end < most && from.at(-1 - end) === to.at(-1 - end)) end++;
  if (splits(from, start) || splits(to, start)) start--;
  if (splits(from, from.length - end) || splits(to, to.length - end)) end--;
  return [[start, from.length - end - start, to.slice(start, to.length - end)]];
}

/** Each change as a deletion, an insertion, or both. @returns {Change[]} */
const parts = (/** @type {Change[]} */ changes) =>
  changes.flatMap(([at, deleted, inserted]) => [
    .../** @type {Change[]} */ (deleted ? [[at, deleted, ""]] : []),
    .../** @type {Change[]} */ (inserted ? [[at, 0, inserted]] : []),
  ]);

/**
 * Moves one change past another that was made in the same text. Text that others inserted into a deleted range stays.
 * If both insert at one position, `first` says whether this one comes before.
 *
 * @returns {Change[]}
 */
function past(/** @type {Change} */ [at, deleted, inserted], /** @type {Change} */ [other, gone, came], first) {
  const end = other + gone;
  if (!deleted) {
    if (at < other || (at === other && (first || gone))) return [[at, 0, inserted]];
    return [[at >= end ? at - gone + came.length : other, 0, inserted]];
  }
  const to = at + deleted;
  if (came) {
    if (other <= at) return [[at + came.length, deleted, ""]];
    if (other >= to) return [[at, deleted, ""]];
    return [[at, other - at, ""], [at + came.length, to - other, ""]];
  }
  const both = Math.max(0, Math.min(to, end) - Math.max(at, other));
  const before = Math.max(0, Math.min(end, at) - other);
  return deleted > both ? [[at - before, deleted - both, ""]] : [];
}

/**
 * Transforms two lists of changes that were made in the same text: returns the first as it applies after the second,
 * and the second as it applies after the first. If both insert at one position, the second comes before,
 * unless `first`.
 *
 * @returns {[Change[], Change[]]}
 */
export function cross(/** @type {Change[]} */ ours, /** @type {Change[]} */ theirs, first = false) {
  /** @type {Change[]} */
  const become = [];
  let others = parts(theirs);
  for (const our of parts(ours)) {
    /** @type {[Change[], Change[]]} */
    let [pieces, rest] = [[our], []];
    for (const their of others) {
      const [moved, past] = walk(pieces, [their], first);
      pieces = moved;
      rest.push(...past);
    }
    become.push(...pieces);
    others = rest;
  }
  return [become, others];
}

/** Does the same for the few pieces into which a change is split on the way. @returns {[Change[], Change[]]} */
function walk(/** @type {Change[]} */ ours, /** @type {Change[]} */ theirs, /** @type {boolean} */ first) {
  if (!ours.length || !theirs.length) return [ours, theirs];
  if (ours.length === 1 && theirs.length === 1) {
    return [past(ours[0], theirs[0], first), past(theirs[0], ours[0], !first)];
  }
  // Transforms the first of the list, then the rest against the transformed others.
  const [long, isOurs] = ours.length > 1 ? [ours, true] : [theirs, false];
  const [head, tail] = [long.slice(0, 1), long.slice(1)];
  const [ours1, theirs1] = isOurs ? walk(head, theirs, first) : walk(ours, head, first);
  const [ours2, theirs2] = isOurs ? walk(tail, theirs1, first) : walk(ours1, tail, first);
  return isOurs ? [[...ours1, ...ours2], theirs2] : [ours2, [...theirs1, ...theirs2]];
}

/** Moves a position past changes. Text inserted exactly there comes before the position only if it `follows`. */
export function move(/** @type {number} */ position, /** @type {Change[]} */ changes, follows = false) {
  for (const [at, deleted, inserted] of changes) {
    if (position < at || (position === at && !deleted && !follows)) continue;
    position = position >= at + deleted ? position - deleted + inserted.length : at + (follows ? inserted.length : 0);
  }
  return position;
}

/** Adds changes to a list, merging a change into the last one if it continues it, as typing does. */
export function join(/** @type {Change[]} */ changes, /** @type {Change[]} */ more) {
  const joined = [...changes];
  for (const [at, deleted, inserted] of more) {
    const last = joined.at(-1);
    const typed = last && at - last[0];
    if (last && typed >= 0 && typed + deleted <= last[2].length) {
      // Within the inserted text.
      const text = last[2].slice(0, typed) + inserted + last[2].slice(typed + deleted);
      joined[joined.length - 1] = [last[0], last[1], text];
    } else if (last && !last[2] && !inserted && at + deleted === last[0]) {
      // Backspaces.
      joined[joined.length - 1] = [at, deleted + last[1], ""];
    } else {
      joined.push([at, deleted, inserted]);
    }
  }
  return joined.filter(([, deleted, inserted]) => deleted || inserted);
}

/** Returns the changes that undo these. @returns {Change[]} */
export function inverse(/** @type {string} */ text, /** @type {Change[]} */ changes) {
  /** @type {Change[]} */
  const back = [];
  for (const change of changes) {
    const [at, deleted, inserted] = change;
    back.unshift([at, inserted.length, text.slice(at, at + deleted)]);
    text = apply(text, [change]);
  }
  return back;
}

/** Returns the only insertion among changes and its position in the result; null if there is none or more than one. */
function inserted(/** @type {Change[]} */ changes) {
  const all = parts(changes);
  const index = all.findIndex(([, , text]) => text);
  if (index < 0 || all.findLastIndex(([, , text]) => text) !== index) return null;
  return { at: move(all[index][0], all.slice(index + 1)), text: all[index][2] };
}

/** The most changes in one edit: the server's limit. */
const MOST_CHANGES = 32;
/** How many steps can be undone. */
const MOST_STEPS = 500;
/** Keys typed in one place with shorter pauses than this are one undo step, in milliseconds. */
const PAUSE = 800;

/**
 * A text that is edited here and by others.
 *
 * The shown text is the text confirmed by the server, plus the changes sent but not answered, plus the changes not yet
 * sent. Others' changes are moved past both only for display: the answer to an edit has its final changes, which are
 * applied. So the arithmetic above decides only what is shown for a moment, and where a caret is.
 *
 * A method that takes a message returns the changes to the shown text; `null` if a message was missed and the page has
 * to ask for the text.
 *
 * @typedef {{ edit: number, version: number, changes: Change[] }} Edit
 */
export class Draft {
  /** The shown text. */
  view = "";
  /** The last known version; null before the first. @type {number | null} */
  version = null;
  /** The edit that waits for its answer. @type {Edit | null} */
  sent = null;

  #text = "";
  /** The number of the last edit that the server has accepted. */
  #last = 0;
  /** The changes sent, relative to the confirmed text. @type {Change[]} */
  #shown = [];
  /** The changes not yet sent. @type {Change[]} */
  #waiting = [];
  /** The steps to undo and to redo, the next one last. @type {{ changes: Change[], time: number, end: number }[][]} */
  #steps = [[], []];

  /** Whether the server has all changes. */
  get isSaved() {
    return !this.sent && !this.#waiting.length;
  }

  /** Takes in the user's typing. */
  typed(/** @type {string} */ value, caret = value.length, now = Date.now()) {
    const changes = diff(this.view, value, caret);
    if (!changes.length) return;
    const [steps] = this.#steps;
    const back = inverse(this.view, changes);
    const [[at, deleted, came]] = changes;
    const last = steps.at(-1);
    const goesOn = last && now - last.time < PAUSE && at <= last.end && last.end <= at + deleted;
    steps.push({ changes: goesOn ? [...back, ...steps.pop().changes] : back, time: now, end: at + came.length });
    this.#steps = [steps.slice(-MOST_STEPS), []];
    this.#change(changes);
  }

  /** Undoes the last step typed here; with `again`, redoes the last undone one. @returns {Change[]} */
  undo(again = false) {
    const [from, to] = again ? [...this.#steps].reverse() : this.#steps;
    const step = from.pop();
    if (!step) return [];
    to.push({ changes: inverse(this.view, step.changes), time: -PAUSE, end: 0 });
    this.#change(step.changes);
    return step.changes;
  }

  #change(/** @type {Change[]} */ changes) {
    this.view = apply(this.view, changes);
    this.#waiting = join(this.#waiting, changes);
  }

  /** Returns the next edit to send; null if there is none, or one waits for its answer. */
  next() {
    if (this.sent || !this.#waiting.length) return null;
    this.#send(this.#last + 1);
    return this.sent;
  }

  #send(/** @type {number} */ edit) {
    this.#shown = this.#waiting.slice(0, MOST_CHANGES);
    this.#waiting = this.#waiting.slice(MOST_CHANGES);
    this.sent = { edit, version: this.version, changes: this.#shown };
  }

  /** Takes in the current text. An edit that was sent and is not in it has to be sent again. */
  initial(/** @type {{ content: string, version: number, edit: number }} */ { content, version, edit }) {
    let before = this.#text;
    if (this.sent && this.sent.edit <= edit) {
      before = apply(before, this.#shown);
      this.#answered();
    } else if (!this.sent && this.#waiting.length && this.version !== null) {
      // Sent relative to the version known here: the server merges it better than this page could.
      this.#send(edit + 1);
    }
    this.#last = edit;
    return this.#becomes(content, version, diff(before, content));
  }

  /** Takes in another session's edit. */
  edited(/** @type {{ changes: Change[], version: number }} */ { changes, version }) {
    if (this.version === null || version <= this.version) return [];
    if (version !== this.version + 1) return null;
    return this.#becomes(apply(this.#text, changes), version, changes);
  }

  /** Takes in the answer to the sent edit: its final changes. */
  applied(/** @type {Edit} */ { edit, changes, version }) {
    if (version <= this.version) return [];
    if (this.sent?.edit !== edit || version !== this.version + 1) return null;
    const shown = apply(this.#text, this.#shown);
    const text = apply(this.#text, changes);
    const [guess, truth] = [inserted(this.#shown), inserted(changes)];
    this.#answered();
    this.#last = edit;
    if (guess?.text !== truth?.text || !guess) return this.#becomes(text, version, diff(shown, text));
    // The typed text stays in place for its author; others' text moves around it.
    const before = diff(shown.slice(0, guess.at), text.slice(0, truth.at));
    const after = diff(shown.slice(guess.at), text.slice(truth.at)).map(
      ([at, deleted, came]) => /** @type {Change} */ ([at + truth.at, deleted, came]),
    );
    const between = text.slice(0, truth.at) + shown.slice(guess.at);
    return [...this.#becomes(between, version, before), ...this.#becomes(text, version, after, true)];
  }

  /** Takes in a refusal of the sent edit: returns the shown text, which is dropped, or null. */
  refused(/** @type {{ edit: number }} */ { edit }) {
    if (this.sent?.edit !== edit) return null;
    const lost = this.view;
    this.#answered();
    this.#waiting = [];
    this.#steps = [[], []];
    this.view = this.#text;
    return lost;
  }

  #answered() {
    this.sent = null;
    this.#shown = [];
  }

  /** Replaces the confirmed text by another one, which these changes lead to. */
  #becomes(/** @type {string} */ text, /** @type {number} */ version, /** @type {Change[]} */ changes, first = false) {
    this.#text = text;
    this.version = version;
    [this.#shown, changes] = cross(this.#shown, changes, first);
    [this.#waiting, changes] = cross(this.#waiting, changes, first);
    for (const steps of this.#steps) {
      let moved = changes;
      const last = steps.at(-1);
      if (last) last.end = move(last.end, changes);
      for (const step of [...steps].reverse()) [step.changes, moved] = cross(step.changes, moved);
    }
    this.view = apply(apply(text, this.#shown), this.#waiting);
    return changes;
  }

  /** Converts a position in the confirmed text to one in the shown text. */
  place(/** @type {number} */ position) {
    return Math.min(move(move(position, this.#shown), this.#waiting), this.view.length);
  }
}
