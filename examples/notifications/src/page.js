/**
 * The page of the notifications: the user's own notifications, a form to send some, and a log of outcomes.
 *
 * @import { Audit, Dropped, Outcome, Told } from "./messages.js"
 */

import { $, clock, element, face, showState, signIn } from "./start.js";
import { connect } from "./fanfare.js";

/** How many entries the page keeps; the oldest is removed. */
const MOST_ITEMS = 200;
const MOST_AUDITED = 100;
const MOST_TOASTS = 3;
/** How long a toast is shown, in milliseconds. */
const TOAST = 8000;

const session = await signIn();
const connection = connect("/notifications", { token: session.token });
showState(connection);
$("me").append(face(session.user), element("span", "name", session.user));
$("empty").querySelector(".name").textContent = session.user;

// The user's notifications. Marking one as read acknowledges it, in all of the user's windows.

/** The items of the list, by notification id. @type {Map<number, HTMLElement>} */
const items = new Map();
const unread = () => [...items].filter(([, item]) => !item.classList.contains("read")).map(([id]) => id);

connection.on("notification", (/** @type {Told} */ told) => {
  const item = show(told);
  items.set(told.notification_id, item);
  // The newest is on top.
  $("list").prepend(item);
  for (const id of items.keys()) if (items.size > MOST_ITEMS) remove(id);
  if (told.priority === "high") toast(told);
  count();
});
connection.on("acked", ({ notification_id }) => read(notification_id));
// It was read in another window, or dropped.
connection.on("error", ({ notification_id }) => read(notification_id));
connection.on("dropped", (/** @type {Dropped} */ { user, notification_id }) => {
  if (user === session.user) remove(notification_id);
});
connection.onState(async (state) => {
  if (state !== "open" || unread().length === 0) return;
  // Notifications that were read elsewhere while this window was offline do not come again: ask which still wait.
  const shown = unread();
  /** @type {Told[] | null} */
  const waiting = await session.ask("GET", "/notifications").catch(() => null);
  // Without an answer nothing changes: the next connection asks again.
  for (const id of shown) if (waiting?.every((told) => told.notification_id !== id)) read(id);
});
$("read-all").addEventListener("click", () => {
  connection.send({ type: "read_up_to", notification_id: Math.max(...unread()) });
});

function show(/** @type {Told} */ { notification_id, priority, time, data }) {
  const item = element("li", `item ${priority}`);
  const head = element("p", "head");
  head.append(element("strong", "from", data.from), element("span", "mark", priority));
  if (data.everybody) head.append(element("span", "all", "to everyone"));
  head.append(element("time", "", clock(time)));
  const button = element("button", "quiet", "Mark read");
  button.addEventListener("click", () => connection.ack(notification_id));
  item.append(face(data.from), head, button, element("p", "text", data.text));
  return item;
}

function read(/** @type {number} */ id) {
  items.get(id)?.classList.add("read");
  $(`toast-${id}`)?.remove();
  count();
}

function remove(/** @type {number} */ id) {
  items.get(id)?.remove();
  items.delete(id);
  $(`toast-${id}`)?.remove();
  count();
}

function count() {
  const count = unread().length;
  document.title = count ? `(${count}) Notifications` : "Notifications";
  for (const badge of document.querySelectorAll(".badge")) {
    badge.textContent = String(count);
    badge.toggleAttribute("hidden", count === 0);
  }
  $("read-all").hidden = count === 0;
  $("empty").hidden = items.size > 0;
}

function toast(/** @type {Told} */ { notification_id, data }) {
  const made = element("button", "toast");
  made.id = `toast-${notification_id}`;
  made.append(element("strong", "", data.from), element("span", "", data.text));
  made.addEventListener("click", () => made.remove());
  setTimeout(() => made.remove(), TOAST);
  $("toasts").append(made);
  if ($("toasts").children.length > MOST_TOASTS) $("toasts").firstElementChild.remove();
}

// Notifying others.

$("compose").addEventListener("submit", async (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const to = $("to").value.trim();
  const priority = new FormData($("compose")).get("priority");
  $("compose").inert = true;
  try {
    const outcome = await session.ask("POST", "/notify", { to, priority, text: $("text").value });
    answer(became(outcome, to));
    $("text").value = "";
  } catch (problem) {
    answer(problem.message, "problem");
  }
  $("compose").inert = false;
  $("text").focus();
});

function answer(/** @type {string} */ text, className = "") {
  $("answer").textContent = text;
  $("answer").className = className;
}

/** The outcome of a notification, as text. */
function became(/** @type {Outcome | null} */ outcome, /** @type {string} */ to) {
  if (!outcome) return "Failed";
  const { delivered, waiting, failed } = outcome;
  const parts = [];
  if (delivered) parts.push(`delivered to ${delivered} tab${delivered > 1 ? "s" : ""}`);
  if (waiting) parts.push(to === "*" ? `queued for ${waiting} offline user${waiting > 1 ? "s" : ""}` : `queued until ${to} returns`);
  if (failed) parts.push(`${failed} not notified`);
  const text = parts.join(", ");
  return text && text[0].toUpperCase() + text.slice(1);
}

connection.on("presence", ({ users }) => {
  const chip = (/** @type {string} */ to, /** @type {string} */ name) => {
    const made = element("button", "chip", name);
    made.setAttribute("type", "button");
    made.addEventListener("click", () => {
      $("to").value = to;
      $("text").focus();
    });
    return made;
  };
  const others = [...users.keys()].filter((user) => user !== session.user).slice(0, 12);
  const chips = [chip("*", "Everyone"), ...others.map((user) => chip(user, user))];
  // Keeps the keyboard focus on its button.
  const focused = $("here").contains(document.activeElement) && document.activeElement.textContent;
  $("here").replaceChildren(...chips);
  if (focused) chips.find((made) => made.textContent === focused)?.focus();
});

// The log of outcomes, which all users see.

connection.on("audit", (/** @type {Audit} */ { from, to, priority, time, outcome }) => {
  const line = element("p", "line");
  line.append(element("strong", "", from), " to ", element("strong", "", to === "*" ? "everyone" : to));
  const entry = note(`entry ${priority}`, line, became(outcome, to));
  entry.prepend(face(from));
  entry.append(element("time", "", clock(time)));
});
connection.on("dropped", (/** @type {Dropped} */ { user, reason }) => {
  const line = element("p", "line");
  line.append("A notification to ", element("strong", "", user), " was dropped unread");
  note("entry dropped", line, reason === "evicted" ? "The queue was full" : "It was too old");
});

function note(/** @type {string} */ className, /** @type {HTMLElement} */ line, /** @type {string} */ became) {
  const entry = element("li", className);
  const words = element("div", "words");
  words.append(line, element("p", "became", became));
  entry.append(words);
  $("feed").prepend(entry);
  if ($("feed").children.length > MOST_AUDITED) $("feed").lastElementChild.remove();
  $("quiet").hidden = true;
  return entry;
}

// A phone shows one half at a time.

for (const button of document.querySelectorAll("nav button")) {
  button.addEventListener("click", () => {
    $("app").dataset.view = /** @type {HTMLElement} */ (button).dataset.view;
    for (const other of document.querySelectorAll("nav button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  });
}
