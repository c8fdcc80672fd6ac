/**
 * The page of the chat.
 *
 * @import { Connection, Presence } from "./fanfare.js"
 * @import { ClientMessage, Info, Message, ServerMessage } from "./messages.js"
 */
import { connect } from "./fanfare.js";
import { $, clock, element, face, showState } from "./start.js";

/** How many messages stay on the page. */
const KEPT = 500;
/** How long a user is shown as typing after the last key, in milliseconds. */
const STILL_TYPING = 3000;
/** How many sent messages may wait for their echo. */
const MOST_PENDING = 50;

/** @type {Connection} */
let connection = null;
/** This user's id, once the server has sent it. */
let me = null;
/** Whether all missed messages have arrived. */
let ready = false;
/** The author of the last message on the page. */
let last = null;
/** Sent messages that have not come back, by nonce. @type {Map<string, { text: string, line: HTMLElement }>} */
const pending = new Map();
let typing = null;

// The key is the user's identity. All tabs of this browser share it.
function key() {
  const known = localStorage.getItem("chat.key");
  if (/^[\w-]{32}$/.test(known)) return known;
  const bytes = crypto.getRandomValues(new Uint8Array(24));
  const made = btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
  localStorage.setItem("chat.key", made);
  return made;
}

function append(/** @type {HTMLElement} */ line) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  $("empty").hidden = true;
  log.append(line);
  while (log.childElementCount > KEPT + 1) log.children[1].remove();
  if (atEnd || line.classList.contains("mine")) log.scrollTop = log.scrollHeight;
}

function note(/** @type {string} */ text) {
  last = null;
  append(element("p", "note", text));
}

function bubble(/** @type {{ id: string, from: string, text: string, time: number }} */ { id, from, text, time }, mine) {
  const line = element("article", "said" + (mine ? " mine" : "") + (last === id ? " more" : ""));
  const who = element("div", "who", mine ? clock(time) : `${from}, ${clock(time)}`);
  line.append(who, face(from, id), element("div", "text", text));
  last = id;
  append(line);
  return line;
}

function said(/** @type {Message} */ message) {
  const mine = message.id === me;
  const sent = mine && pending.get(message.nonce);
  if (sent && pending.delete(message.nonce)) sent.line.remove();
  bubble(message, mine);
  // Pending messages stay below those that have arrived.
  for (const { line } of pending.values()) $("log").append(line);
}

function say(/** @type {string} */ text) {
  const nonce = crypto.randomUUID();
  const before = last;
  const line = bubble({ id: me, from: $("name").value, text, time: Date.now() }, true);
  line.classList.add("pending");
  // A screen reader reads it when it comes back from the server.
  line.setAttribute("aria-hidden", "true");
  last = before;
  pending.set(nonce, { text, line });
  if (ready) tell({ type: "say", text, nonce });
}

/** A message that cannot be sent now is sent again when the connection is back. */
function tell(/** @type {ClientMessage} */ message) {
  try {
    connection.send(message);
  } catch (error) {
    if (error.reason !== "offline") note(`Not sent: ${error.message}`);
  }
}

function present(/** @type {Presence<Info>} */ { count, users }) {
  $("count").textContent = count === 1 ? "1 person here" : `${count} people here`;
  const names = [...users.values()].map(({ info }) => info.name);
  const isShared = (name) => names.filter((other) => other === name).length > 1;
  const item = (/** @type {string} */ id, /** @type {Info} */ { name }) => {
    const made = element("li");
    made.append(face(name, id), element("span", "", id === me ? `${name} (you)` : name));
    // The ids distinguish two users of the same name.
    if (isShared(name)) made.append(element("small", "", id.slice(0, 4)));
    return made;
  };
  $("users").replaceChildren(...[...users].map(([id, { info }]) => item(id, info)));
  const busy = [...users].filter(([id, { info }]) => info.typing && id !== me).map(([, { info }]) => info.name);
  const verb = busy.length === 1 ? "is typing" : "are typing";
  $("typing").textContent = busy.length > 3 ? "Several people are typing" : busy.length ? `${busy.join(", ")} ${verb}` : "";
}

function types(/** @type {boolean} */ on) {
  clearTimeout(typing);
  if (on !== (typing !== null) && ready) tell({ type: "typing", typing: on });
  typing = on ? setTimeout(types, STILL_TYPING, false) : null;
}

function enter(/** @type {string} */ name, /** @type {string} */ room) {
  localStorage.setItem("chat.name", name);
  history.replaceState(null, "", "#" + encodeURIComponent(room));
  $("title").textContent = room;
  document.title = `${room} · fanfare chat`;
  $("door").hidden = true;
  $("app").hidden = false;
  $("text").focus();

  const address = `/chat/${encodeURIComponent(room)}?name=${encodeURIComponent(name)}`;
  connection = connect(address, { token: key(), queue: false });
  showState(connection);
  connection.onState((state) => {
    if (state !== "open") ready = false;
  });
  connection.on("message", (/** @type {ServerMessage} */ message) => {
    if (message.type === "message") said(message);
  });
  connection.on("welcome", ({ id }) => {
    me = id;
  });
  connection.on("ready", () => {
    ready = true;
    // These may have arrived over the previous connection: the server drops repetitions.
    for (const [nonce, { text }] of pending) tell({ type: "say", text, nonce });
  });
  connection.on("presence", present);
  connection.on("gap", ({ from, to }) => {
    if (from.epoch === to.epoch) note(`${to.offset - from.offset} messages were missed and cannot be recovered.`);
    else note("The server has restarted. Earlier messages are not kept.");
  });
  connection.on("error", ({ error }) => note(`Not sent: ${error}`));
}

$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  const [name, room] = [$("name").value.trim(), $("room").value.trim()];
  if (name && room) enter(name, room);
});

$("leave").addEventListener("click", () => {
  types(false);
  connection.close();
  last = null;
  pending.clear();
  [...$("log").children].slice(1).forEach((line) => line.remove());
  $("empty").hidden = false;
  $("users").replaceChildren();
  $("app").hidden = true;
  $("door").hidden = false;
  $("room").focus();
});

$("say").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim().toWellFormed();
  if (!text) return;
  if (pending.size === MOST_PENDING) return note(`${MOST_PENDING} messages have not arrived yet: wait for them.`);
  types(false);
  say(text);
  $("text").value = "";
  $("text").focus();
});

$("text").addEventListener("input", () => types($("text").value !== ""));
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("say").requestSubmit();
  }
});

$("name").value = localStorage.getItem("chat.name") ?? "";
if (location.hash.length > 1) {
  try {
    $("room").value = decodeURIComponent(location.hash.slice(1));
  } catch {
    // The hash is not a room.
  }
}
($("name").value ? $("room") : $("name")).focus();
