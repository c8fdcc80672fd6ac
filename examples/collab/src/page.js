/**
 * The editor's page: typed text is shown at once, and kept in a `Draft` until the server has it.
 *
 * @import { Connection, Presence } from "./fanfare.js"
 * @import { Applied, At, ClientMessage, Edited, Entry, History, Initial, Refused, TheirCursor } from "./messages.js"
 * @import { Change } from "./text.js"
 */
import { connect } from "./fanfare.js";
import { $, clock, colour, element, face, signIn } from "./start.js";
import { diff, Draft, move } from "./text.js";

/** The least time between two `cursor` messages, in milliseconds. */
const CURSOR_EVERY = 80;
/** How long the name is shown at a caret that has moved, in milliseconds. */
const NAMED = 4000;
/** How many faces there is room for. */
const FACES = 5;

/** Whether the server accepts a document's name. */
const isName = (/** @type {string} */ name) => [...name].length <= 64 && /[^.]/.test(name);

const wanted = () => {
  try {
    const asked = decodeURIComponent(location.hash.slice(1)).trim();
    return isName(asked) ? asked : "notes";
  } catch {
    return "notes";
  }
};
const name = wanted();
const path = `/collab/${encodeURIComponent(name)}`;
const text = $("text");
const draft = new Draft();
/** The other users' carets, as positions in the shown text. @type {Map<string, { user: string, position: number, anchor: number, moved: number }>} */
const cursors = new Map();
/** Messages held back while a word is being composed, which must not be disturbed. @type {(() => void)[] | null} */
let composing = null;
/** Whether this page has the server's text on this connection. */
let synced = false;
let lost = "";

const bytes = crypto.getRandomValues(new Uint8Array(16));
const sessionId = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const session = await signIn();
history.replaceState(null, "", "#" + encodeURIComponent(name));
document.title = `${name} · fanfare collab`;
$("document").value = name;

/** @type {Connection} */
const connection = connect(`${path}?session=${sessionId}`, { token: session.token, queue: false });

/** A message that cannot be sent now is sent again, or is obsolete, when the connection is back. */
function tell(/** @type {ClientMessage} */ message) {
  try {
    connection.send(message);
  } catch (error) {
    if (error.reason !== "offline") notice(`Not sent: ${error.message}`);
  }
}

// Display: the indicator, notices, the text, and the carets in it.

function light() {
  const state = connection.state !== "open" || !synced ? connection.state : draft.isSaved ? "saved" : "saving";
  const texts = { connecting: "Connecting", open: "Connecting", waiting: "Offline", closed: "Closed", saved: "Saved", saving: "Saving" };
  $("state").dataset.state = state;
  $("state").textContent = texts[state];
}

function notice(/** @type {string} */ what, had = "") {
  lost = had;
  $("notice").hidden = !what;
  $("notice").firstElementChild.textContent = what;
  $("copy").hidden = !had;
}

/** Shows the draft, after these changes of other users. */
function show(/** @type {Change[]} */ changes) {
  if (text.value !== draft.view) {
    const { selectionStart, selectionEnd, selectionDirection } = text;
    text.value = draft.view;
    text.setSelectionRange(move(selectionStart, changes), move(selectionEnd, changes), selectionDirection);
  }
  for (const cursor of cursors.values()) {
    cursor.position = move(cursor.position, changes);
    cursor.anchor = move(cursor.anchor, changes);
  }
  paint();
}

/** Paints carets and selections into the mirror below the text. */
function paint() {
  const now = Date.now();
  const here = [...cursors.values()].map(({ position, anchor, ...rest }) => {
    const at = (/** @type {number} */ place) => Math.min(place, draft.view.length);
    return { ...rest, position: at(position), from: at(Math.min(position, anchor)), to: at(Math.max(position, anchor)) };
  });
  const places = [...new Set([0, ...here.flatMap(({ from, to }) => [from, to]), draft.view.length])].sort((a, b) => a - b);
  const pieces = places.flatMap((place, index) => {
    const carets = here.filter(({ position }) => position === place).map(({ user, moved }) => {
      const caret = element("span", now - moved < NAMED ? "caret fresh" : "caret");
      caret.style.setProperty("--colour", colour(user));
      caret.append(element("b", "", user));
      return caret;
    });
    const part = element("span", "", draft.view.slice(place, places[index + 1] ?? place));
    const marked = here.find(({ from, to }) => from <= place && place < to);
    if (marked) {
      part.className = "selected";
      part.style.setProperty("--colour", colour(marked.user));
    }
    return [...carets, part];
  });
  // Gives an empty last line its height.
  $("mirror").replaceChildren(...pieces, "\u200b");
  for (const caret of $("mirror").querySelectorAll(".caret")) {
    const { left } = caret.getBoundingClientRect();
    caret.classList.toggle("left", left + caret.firstElementChild.scrollWidth > $("paper").getBoundingClientRect().right);
  }
}

function present(/** @type {Presence<null>} */ { users }) {
  const names = [...users.keys()];
  const item = (/** @type {HTMLElement} */ inner, /** @type {string} */ title) => {
    const made = element("li");
    made.title = title;
    inner.setAttribute("aria-label", title);
    inner.setAttribute("aria-hidden", "false");
    inner.setAttribute("role", "img");
    made.append(inner);
    return made;
  };
  const shown = names.slice(0, names.length > FACES ? FACES - 1 : FACES);
  const items = shown.map((user) => item(face(user), user === session.user ? `${user} (you)` : user));
  const rest = names.slice(shown.length);
  if (rest.length) items.push(item(element("span", "face more", `+${rest.length}`), rest.join(", ")));
  $("users").replaceChildren(...items);
  for (const [key, { user }] of cursors) if (!users.has(user)) cursors.delete(key);
  paint();
  // A new user does not know this caret yet.
  told = "";
  point();
}

// Messages from the server.

/** Handles a message when no word is being composed, or at once if it does not change the shown text. */
function on(/** @type {string} */ type, /** @type {(message: any) => void} */ take) {
  connection.on(type, (message) => {
    const isAsSent = type === "applied" && JSON.stringify(message.changes) === JSON.stringify(draft.sent?.changes);
    const now = () => {
      take(message);
      flush();
    };
    if (composing && (composing.length || !isAsSent)) composing.push(now);
    else now();
  });
}

/** Shows a message's changes, or asks for the text if a message was missed. */
function becomes(/** @type {Change[] | null} */ changes) {
  if (changes) return show(changes);
  synced = false;
  tell({ type: "reload" });
}

function flush() {
  const edit = synced && draft.next();
  if (edit) tell({ type: "edit", ...edit });
  light();
  point();
}

on("initial", (/** @type {Initial} */ message) => {
  synced = true;
  text.disabled = false;
  if (draft.version === null) text.focus({ preventScroll: true });
  show(draft.initial(message));
  if (draft.sent) tell({ type: "edit", ...draft.sent });
});
on("applied", (/** @type {Applied} */ message) => synced && becomes(draft.applied(message)));
on("edit", (/** @type {Edited} */ message) => {
  // The text will include this edit.
  if (!synced) return;
  becomes(draft.edited(message));
  // The author's caret is behind the new text: show it there before its `cursor` message comes.
  const [cursor, last] = [cursors.get(message.session), message.changes.at(-1)];
  if (cursor && last) {
    cursor.position = cursor.anchor = draft.place(last[0] + last[2].length);
    cursor.moved = Date.now();
    paint();
  }
  if (!$("history").hidden) listHistory();
});
on("refused", (/** @type {Refused} */ message) => {
  const had = draft.refused(message);
  show([]);
  notice(`Edit refused: ${message.error}.`, had ?? "");
});
on("cursor", (/** @type {TheirCursor} */ { user, session: key, position, anchor }) => {
  if (position === null) cursors.delete(key);
  else cursors.set(key, { user, position: draft.place(position), anchor: draft.place(anchor), moved: Date.now() });
  setTimeout(paint, NAMED + 50);
  paint();
});
connection.on("presence", present);
connection.on("error", ({ error }) => notice(`Refused: ${error}`));
connection.onState((state, { reason }) => {
  if (state !== "open") {
    synced = false;
    cursors.clear();
    paint();
  }
  if (state === "waiting") notice("You are offline. What you write is kept in this page, and sent when the connection is back.");
  else if (state === "closed") notice(`The document is closed: ${reason || "the connection has ended"}.`);
  else if (state === "open" && !lost) notice("");
  light();
});

// The user's input.

let told = "";
let pointing = 0;

/** Sends the caret's position, if the server has the text that it refers to. */
function point() {
  if (pointing || !synced || !draft.isSaved || draft.version === null) return;
  const { selectionStart, selectionEnd, selectionDirection } = text;
  const [position, anchor] = selectionDirection === "backward" ? [selectionStart, selectionEnd] : [selectionEnd, selectionStart];
  const place = `${position},${anchor}`;
  if (place === told || document.activeElement !== text) return;
  told = place;
  tell({ type: "cursor", position, anchor, version: draft.version });
  pointing = setTimeout(() => {
    pointing = 0;
    point();
  }, CURSOR_EVERY);
}

function typed() {
  // The server refuses control characters other than tabs and line feeds; pasted text may have some.
  const clean = text.value.replace(/[\0-\x08\x0b-\x1f\x7f-\x9f]/g, "").toWellFormed();
  if (clean !== text.value) text.value = clean;
  const before = draft.view;
  draft.typed(text.value, text.selectionEnd);
  const changes = diff(before, draft.view, text.selectionEnd);
  for (const cursor of cursors.values()) {
    cursor.position = move(cursor.position, changes);
    cursor.anchor = move(cursor.anchor, changes);
  }
  paint();
  flush();
}

function undo(/** @type {boolean} */ again) {
  const changes = draft.undo(again);
  if (!changes.length) return;
  show(changes);
  const at = move(changes.at(-1)[0], [changes.at(-1)], true);
  text.setSelectionRange(at, at);
  flush();
}

text.addEventListener("input", typed);
text.addEventListener("compositionstart", () => (composing = []));
text.addEventListener("compositionend", () => {
  const waiting = composing ?? [];
  composing = null;
  typed();
  for (const take of waiting) take();
});
text.addEventListener("beforeinput", (/** @type {InputEvent} */ event) => {
  if (event.inputType !== "historyUndo" && event.inputType !== "historyRedo") return;
  event.preventDefault();
  undo(event.inputType === "historyRedo");
});
text.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
  const key = event.key.toLowerCase();
  if (!(event.ctrlKey || event.metaKey) || event.altKey || (key !== "z" && key !== "y")) return;
  event.preventDefault();
  undo(key === "y" || event.shiftKey);
});
document.addEventListener("selectionchange", () => composing || point());
addEventListener("beforeunload", (event) => {
  if (!draft.isSaved) event.preventDefault();
});
addEventListener("resize", paint);
addEventListener("hashchange", () => wanted() !== name && location.reload());
$("go").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = encodeURIComponent($("document").value.trim() || name);
});
$("document").addEventListener("change", () => $("go").requestSubmit());
$("dismiss").addEventListener("click", () => notice(""));
$("copy").addEventListener("click", () => navigator.clipboard.writeText(lost).then(() => notice("")));

// The history.

/** @type {Entry[]} */
let entries = [];
let oldest = 0;
/** The version that is shown. */
let looked = 0;
/** The texts of old versions, which do not change. @type {Map<number, Promise<string>>} */
const texts = new Map();

const textAt = (/** @type {number} */ version) => {
  const known = texts.get(version) ?? session.ask("GET", `${path}/at/${version}`).then((/** @type {At} */ { content }) => content);
  texts.set(version, known);
  if (texts.size > 100) texts.delete(texts.keys().next().value);
  known.catch(() => texts.delete(version));
  return known;
};

const entryOf = (/** @type {number} */ version) => entries.find(({ from, to }) => from <= version && version <= to);

async function listHistory(/** @type {number | null} */ before = null) {
  /** @type {History} */
  const page = await session.ask("GET", `${path}/history?limit=50${before === null ? "" : `&before=${before}`}`);
  entries = before === null ? page.entries : [...entries, ...page.entries];
  oldest = page.oldest;
  const latest = entries[0]?.to ?? oldest;
  [$("version").min, $("version").max] = [oldest, latest];
  $("version").value = looked;
  $("older").hidden = !entries.length || entries.at(-1).from <= oldest + 1;
  $("entries").replaceChildren(
    ...entries.map(({ user, from, to, time }) => {
      const made = element("li");
      const button = element("button");
      const what = element("span", "what");
      const edits = to === from ? "1 edit" : `${to - from + 1} edits`;
      what.append(element("span", "", user), element("small", "", `${clock(time)}, ${edits}`));
      button.append(face(user), what);
      button.addEventListener("click", () => look(to, from - 1));
      made.append(button);
      made.dataset.to = String(to);
      return made;
    }),
  );
  mark();
}

function mark() {
  const entry = entryOf(looked);
  for (const item of $("entries").children) item.setAttribute("aria-current", String(Number(item.dataset.to) === entry?.to));
  const latest = Number($("version").max);
  $("when").replaceChildren(element("strong", "", `Version ${looked}`), looked === latest ? ", the latest. " : ` of ${latest}. `);
  if (entry) $("when").append(`By ${entry.user}, ${clock(entry.time)}.`);
  else if (looked === oldest && oldest > 0) $("when").append("What was before this one cannot be looked at any more.");
  else if (looked === 0) $("when").append("Nothing was written yet.");
  $("restore").disabled = looked === latest;
  $("back").disabled = looked <= oldest;
  $("on").disabled = looked >= latest;
}

/** Shows the text of a version, and what is new in it since another one. */
async function look(/** @type {number} */ version, before = version - 1) {
  looked = version;
  $("version").value = version;
  mark();
  try {
    const [is, was] = await Promise.all([textAt(version), textAt(Math.max(before, oldest))]);
    // Another one may have been asked for meanwhile.
    if (looked !== version) return;
    const [[at, gone, came] = [is.length, 0, ""]] = diff(was, is);
    const parts = [
      is.slice(0, at),
      ...(gone ? [element("del", "", was.slice(at, at + gone))] : []),
      ...(came ? [element("ins", "", came)] : []),
      is.slice(at + came.length),
    ];
    $("then").replaceChildren(...parts);
    $("then").dataset.version = String(version);
    $("then").querySelector("ins, del")?.scrollIntoView({ block: "nearest" });
  } catch (error) {
    notice(`Version ${version}: ${error.message}`);
  }
}

async function showHistory(/** @type {boolean} */ on) {
  $("history").hidden = !on;
  $("paper").hidden = on;
  $("then").hidden = !on;
  $("past").setAttribute("aria-expanded", String(on));
  if (!on) {
    delete $("then").dataset.version;
    paint();
    return text.focus({ preventScroll: true });
  }
  looked = draft.version ?? 0;
  try {
    await listHistory();
    await look(looked, (entryOf(looked)?.from ?? looked) - 1);
  } catch (error) {
    notice(`The history cannot be loaded: ${error.message}`);
  }
}

$("past").addEventListener("click", () => showHistory($("history").hidden));
$("version").addEventListener("input", () => look(Number($("version").value)));
$("back").addEventListener("click", () => look(looked - 1));
$("on").addEventListener("click", () => look(looked + 1));
$("older").addEventListener("click", () => listHistory(entries.at(-1).from));
$("restore").addEventListener("click", () => {
  if (synced) tell({ type: "restore", version: looked });
  else notice("Not restored: try again when the connection is back.");
  showHistory(false);
});
light();
