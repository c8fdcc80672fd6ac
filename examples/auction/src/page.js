/**
 * The page of the auction: lots as cards, with countdowns by the server's clock.
 *
 * @import { Connection, Notification } from "./fanfare.js"
 * @import { Lot, Lots, NewBid, NewLot, News, Refused, StatusUpdate, Closed, TimeAnswer } from "./messages.js"
 */

import { connect } from "./fanfare.js";
import { $, clock, element, face, showState, signIn } from "./start.js";

/** How many bids of a lot, closed lots and notices are shown. */
const SHOWN = { bids: 4, closed: 12, notices: 4 };

const session = await signIn();
$("me").append(face(session.user));
const connection = connect("/auction", { token: session.token });
showState(connection);

// Money is whole cents, converted from and to text without floating point.

/** Formats 1250 as 12.50. */
const money = (/** @type {number} */ cents) => {
  const digits = String(cents).padStart(3, "0");
  return `${digits.slice(0, -2)}.${digits.slice(-2)}`;
};

/** Parses 12.50, 12,5 or 12 to cents; null if the text is not an amount that can be bid. */
const cents = (/** @type {string} */ text) => {
  const parts = /^(\d{1,7})(?:[.,](\d{1,2}))?$/.exec(text.trim());
  const amount = parts ? Number(parts[1] + (parts[2] ?? "").padEnd(2, "0")) : 0;
  return amount >= 1 && amount <= MOST ? amount : null;
};

/** The highest amount that the server accepts, in cents. */
const MOST = 100_000_000;
const NO_AMOUNT = "An amount looks like 12.50, and is at most 1000000.00";

// The server's clock. A page cannot know when the server answered, only that it was between request and answer. It
// takes the middle, and is wrong by at most half the round trip; so the shortest of several round trips is the most
// accurate (Cristian, "Probabilistic clock synchronization", Distributed Computing 3, 1989). The device's own clock does not
// matter: performance.now() counts evenly from the page's start.

const ROUNDS = 7;
/** The time between two series of round trips, in milliseconds: clocks drift. */
const AGAIN = 60_000;
/** The server's clock minus performance.now(). */
let offset = NaN;
/** The shortest round trip of this series, and its offset. */
let best = { took: Infinity, offset: NaN };
let rounds = 0;
let isSettled = false;

/** Milliseconds by the server's clock. */
const now = () => performance.now() + offset;

function askTime() {
  if (connection.state === "open") connection.send({ type: "time", sent: performance.now() });
}

function askTimeAnew() {
  best = { took: Infinity, offset: NaN };
  rounds = 0;
  askTime();
}

connection.on("time", (/** @type {TimeAnswer} */ answer) => {
  const heard = performance.now();
  const took = heard - answer.sent;
  if (took < best.took) best = { took, offset: answer.now - (answer.sent + heard) / 2 };
  rounds += 1;
  if (rounds < ROUNDS) askTime();
  // A clock that was set by a whole series is not changed by an incomplete one.
  if (rounds < ROUNDS && isSettled) return;
  offset = best.offset;
  isSettled = rounds >= ROUNDS;
  document.body.dataset.clock = isSettled ? "set" : "rough";
  tick();
});
setInterval(askTimeAnew, AGAIN);
// performance.now() may have stopped while the device slept.
document.addEventListener("visibilitychange", askTimeAnew);

// Lots.

/** @type {Map<number, { lot: Lot, card: HTMLElement, problem: string }>} */
const lots = new Map();

/** Bids without an answer, by id: sent again when the connection is back. */
const unanswered = new Map();

function show(/** @type {Lot} */ lot) {
  const known = lots.get(lot.id);
  if (known) {
    // A bid may arrive before a list that does not include it yet.
    const isOlder = (lot.bids.at(-1)?.seq ?? 0) < (known.lot.bids.at(-1)?.seq ?? 0);
    if (!isOlder && known.lot.status !== "closed") known.lot = lot;
  } else {
    lots.set(lot.id, { lot, card: newCard(lot), problem: "" });
  }
  draw(lot.id);
}

/** Sorts the cards by closing time; closed lots come last, latest first. */
function arrange() {
  const isClosed = (/** @type {{ lot: Lot }} */ { lot }) => lot.status === "closed";
  const all = [...lots.values()];
  const open = all.filter((one) => !isClosed(one)).sort((a, b) => a.lot.closes - b.lot.closes || a.lot.id - b.lot.id);
  const closed = all.filter(isClosed).sort((a, b) => b.lot.closes - a.lot.closes || b.lot.id - a.lot.id);
  for (const { lot } of closed.splice(SHOWN.closed)) forget(lot.id);
  [...open, ...closed].forEach(({ card }, place) => {
    // A card is moved only if necessary, so that it keeps the focus.
    if ($("lots").children[place] !== card) $("lots").insertBefore(card, $("lots").children[place] ?? null);
  });
}

function forget(/** @type {number} */ id) {
  lots.get(id).card.remove();
  lots.delete(id);
}

function newCard(/** @type {Lot} */ lot) {
  const card = element("article", "lot");
  card.id = `lot-${lot.id}`;
  const top = element("div", "top");
  const title = element("h2", "", lot.title);
  const by = lot.seller === session.user ? "Your own lot" : `Sold by ${lot.seller ?? "the house"}`;
  title.append(element("span", "by", by));
  top.append(title, element("span", "left"));
  const form = /** @type {HTMLFormElement} */ (element("form"));
  const amount = element("input");
  amount.setAttribute("inputmode", "decimal");
  amount.setAttribute("aria-label", `Your bid for ${lot.title}`);
  form.append(amount, element("button", "", "Bid"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    bid(lot.id, /** @type {HTMLInputElement} */ (amount).value);
  });
  const problem = element("p", "problem");
  problem.setAttribute("role", "alert");
  card.addEventListener("animationend", () => card.classList.remove("news"));
  card.append(top, element("div", "price"), element("p", "you"), form, problem, element("ol"));
  return card;
}

/** The user's role in a lot: "leads", "outbid", "won", "lost", "seller" or "none". */
function standing(/** @type {Lot} */ lot) {
  const isClosed = lot.status === "closed";
  if (lot.bids.at(-1)?.user === session.user) return isClosed ? "won" : "leads";
  if (lot.yours !== null) return isClosed ? "lost" : "outbid";
  return lot.seller === session.user ? "seller" : "none";
}

function draw(/** @type {number} */ id) {
  const { lot, card, problem } = lots.get(id);
  const find = (/** @type {string} */ selector) => /** @type {any} */ (card.querySelector(selector));
  const last = lot.bids.at(-1);
  const isClosed = lot.status === "closed";
  const you = standing(lot);
  Object.assign(card.dataset, { status: lot.status, you, closes: lot.closes, seq: last?.seq ?? 0 });

  const who = element("span", "who", last ? last.user : "No bids yet");
  if (last) who.prepend(face(last.user));
  find(".price").replaceChildren(element("b", "", money(last?.amount ?? lot.opening)), who);
  const sold = last ? `Sold for ${money(last.amount)}` : "Not sold";
  const texts = {
    leads: "You lead",
    outbid: `Outbid: you bid ${money(lot.yours)}`,
    won: `You won it for ${money(last?.amount ?? 0)}`,
    lost: "Another bidder won",
    seller: isClosed ? sold : "You sell this",
    none: isClosed ? sold : last ? "You have not bid" : "Be the first",
  };
  find(".you").textContent = texts[you];
  find(".problem").textContent = problem;

  // A typed amount stays, even when the least amount changes before the user presses the button.
  const amount = find("form input");
  const isTyping = amount.dataset.least !== undefined && amount.value !== "" && amount.value !== amount.dataset.least;
  if (lot.least !== null && !isTyping) amount.value = amount.dataset.least = money(lot.least);
  find("form").hidden = isClosed || you === "seller";
  const isWaiting = [...unanswered.values()].some((bid) => bid.lot === id);
  const button = find("form button");
  const isFocused = document.activeElement === button;
  button.disabled = you === "leads" || isWaiting;
  button.textContent = !isWaiting ? "Bid" : connection.state === "open" ? "Sent" : "Waiting";
  // Keeps the keyboard focus on the lot.
  if (isFocused && button.disabled) amount.focus();

  find("ol").replaceChildren(...lot.bids.slice(-SHOWN.bids).reverse().map((bid) => {
    const line = element("li");
    const time = element("time", "", clock(bid.time));
    line.append(element("span", "", bid.user), element("b", "", money(bid.amount)), time);
    return line;
  }));
  arrange();
  tick();
}

/** Places a bid. It is sent again until it is answered, under one id, by which the server recognises it. */
function bid(/** @type {number} */ lot, /** @type {string} */ text) {
  const amount = cents(text);
  const known = lots.get(lot);
  known.problem = amount ? "" : NO_AMOUNT;
  if (amount) {
    const bid = { type: "bid", lot, id: newId(), amount };
    unanswered.set(bid.id, bid);
    if (connection.state === "open") connection.send(bid);
    else known.problem = `${money(amount)} will be bid when the connection is back`;
  }
  draw(lot);
}

/** Makes an id that is unique among this user's bids, without crypto.randomUUID, which needs a secure context. */
const newId = () => [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("-");

connection.on("lots", (/** @type {Lots} */ message) => {
  // A first estimate; the first round trip improves it.
  if (Number.isNaN(offset)) offset = message.now - performance.now();
  for (const id of lots.keys()) if (!message.lots.some((lot) => lot.id === id)) forget(id);
  message.lots.forEach(show);
});
connection.on("lot", (/** @type {NewLot} */ { lot }) => show(lot));
connection.on("bid", (/** @type {NewBid} */ { lot: id, closes, least, type: _, ...bid }) => {
  if (bid.user === session.user) {
    unanswered.delete(bid.id);
    delete lots.get(id)?.card.querySelector("input").dataset.least;
    putAway((notice) => notice.data.lot === id && notice.data.news === "outbid");
  }
  const known = lots.get(id);
  if (!known) return;
  const { lot } = known;
  const isNew = bid.seq > (lot.bids.at(-1)?.seq ?? 0);
  if (isNew) {
    const yours = bid.user === session.user ? bid.amount : lot.yours;
    known.lot = { ...lot, closes, least, yours, bids: [...lot.bids, bid].slice(-SHOWN.bids) };
    known.problem = "";
    known.card.classList.add("news");
  }
  draw(id);
});
connection.on("refused", (/** @type {Refused} */ { lot: id, id: bid, reason, least }) => {
  unanswered.delete(bid);
  const known = lots.get(id);
  if (!known) return;
  known.lot = { ...known.lot, least };
  // The field shows the least accepted amount again.
  delete known.card.querySelector("input").dataset.least;
  known.problem = `Refused: ${reason}`;
  draw(id);
});
connection.on("status", (/** @type {StatusUpdate} */ { lot: id, status, closes }) => {
  const known = lots.get(id);
  if (!known) return;
  known.lot = { ...known.lot, status, closes };
  draw(id);
});
connection.on("closed", (/** @type {Closed} */ { lot: id }) => {
  const known = lots.get(id);
  if (!known) return;
  known.lot = { ...known.lot, status: "closed", least: null };
  known.problem = "";
  draw(id);
});
connection.onState((state) => {
  if (state !== "open") return;
  // A restarted server may have another clock.
  isSettled = false;
  document.body.dataset.clock = "rough";
  askTimeAnew();
  for (const bid of unanswered.values()) {
    connection.send(bid);
    if (lots.has(bid.lot)) draw(bid.lot);
  }
});

// The countdowns.

const two = (/** @type {number} */ number) => String(number).padStart(2, "0");

/** Formats a time as 4:05 or 1:02:03; the last ten seconds with tenths. */
function countdown(/** @type {number} */ left) {
  if (left < 10_000) return (Math.ceil(left / 100) / 10).toFixed(1);
  const seconds = Math.ceil(left / 1000);
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

function tick() {
  for (const { lot, card } of lots.values()) {
    const left = Math.max(0, lot.closes - now());
    const isClosed = lot.status === "closed";
    const text = isClosed ? "Closed" : countdown(left);
    card.classList.toggle("urgent", !isClosed && left < 10_000);
    const shown = card.querySelector(".left");
    if (shown.textContent !== text) shown.textContent = text;
    // For comparing screens in tests; the text is coarser.
    card.dataset.left = String(Math.round(left));
  }
}
setInterval(tick, 50);

// Notices: acknowledged when the user dismisses them.

/** The most notices that wait on the server. */
const MOST_NOTICES = 300;
/** @type {Notification<News>[]} */
let notices = [];

function drawNotices() {
  const isFocused = $("notices").contains(document.activeElement);
  $("notices").replaceChildren(...notices.slice(-SHOWN.notices).reverse().map((notice) => {
    const { news, title, amount } = notice.data;
    const texts = {
      outbid: ["You were outbid", `now ${money(amount)}`],
      won: ["You won", `for ${money(amount)}`],
      lost: ["You did not win", `went for ${money(amount)}`],
      ended: amount === null ? ["Not sold", "no bids"] : ["Sold", `for ${money(amount)}`],
    };
    const line = element("div", "notice");
    line.dataset.news = news;
    const text = element("span");
    text.append(element("b", "", texts[news][0]), ` ${title} `, element("small", "", texts[news][1]));
    const seen = element("button", "quiet", "OK");
    seen.setAttribute("aria-label", "Dismiss this notice");
    seen.addEventListener("click", () => putAway((one) => one === notice));
    line.append(text, seen);
    return line;
  }));
  // The keyboard focus moves to the next notice.
  if (isFocused) $("notices").querySelector("button")?.focus();
}

/** Acknowledges these, and shows the others. */
function putAway(/** @type {(notice: Notification<News>) => boolean} */ which) {
  for (const notice of notices.filter(which)) connection.ack(notice.notification_id);
  notices = notices.filter((notice) => !which(notice));
  drawNotices();
}

connection.on("notification", (/** @type {Notification<News>} */ notice) => {
  // A newer notice replaces older ones of the same lot, which count as seen.
  putAway((older) => older.data.lot === notice.data.lot);
  notices = [...notices, notice].slice(-MOST_NOTICES);
  drawNotices();
});
connection.on("acked", ({ notification_id }) => {
  notices = notices.filter((notice) => notice.notification_id !== notification_id);
  drawNotices();
});

// Selling.

$("sell").addEventListener("click", () => $("offer").showModal());
$("cancel").addEventListener("click", () => $("offer").close());
$("open").addEventListener("submit", async (/** @type {Event} */ event) => {
  event.preventDefault();
  const opening = cents($("opening").value);
  const problem = $("open").querySelector(".problem");
  problem.textContent = opening ? "" : NO_AMOUNT;
  if (!opening) return;
  try {
    const lot = { title: $("title").value.trim(), opening, closes_in: Number($("length").value) };
    await session.ask("POST", "/lots", lot);
    $("open").reset();
    $("offer").close();
  } catch (error) {
    problem.textContent = error.message;
  }
});
