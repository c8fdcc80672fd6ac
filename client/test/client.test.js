/** The client's bookkeeping, against sockets that are scripted here. In a real browser it is tested by tests/browser/client.rs. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { SendError, connect } from "../fanfare.js";
import { heard, page, settle, states } from "./fake.js";

/** A connection that is open. */
async function opened(at, options) {
  const connection = connect("/chat", options);
  await settle();
  at.socket.open();
  return connection;
}

/** The positions that a socket asks to recover from. */
function asked(socket) {
  return JSON.parse(new URL(socket.url).searchParams.get("recover"));
}

function refusal(reason) {
  return (error) => error instanceof SendError && error.reason === reason;
}

// Connecting.

test("an address is relative to the page and as safe as the page", async (context) => {
  const at = page(context);
  connect("chat/lobby?x=1#part");
  await settle();
  assert.equal(at.socket.url, "wss://example.com/app/chat/lobby?x=1");
  at.document.baseURI = "http://localhost:3000/";
  connect("/chat");
  connect("https://elsewhere.example/chat");
  await settle();
  assert.deepEqual(at.sockets.slice(1).map(({ url }) => url), ["ws://localhost:3000/chat", "wss://elsewhere.example/chat"]);
  assert.throws(() => connect("ftp://example.com/"), TypeError);
  assert.throws(() => connect("http://"), TypeError);
});

test("a connection is opened when its listeners can be there", async (context) => {
  const at = page(context);
  const connection = connect("/chat");
  const seen = states(connection);
  assert.equal(at.sockets.length, 0);
  await settle();
  at.socket.open();
  assert.deepEqual(seen.map(({ state }) => state), ["connecting", "open"]);
});

test("one that is closed at once never connects", async (context) => {
  const at = page(context);
  connect("/chat").close();
  await settle();
  assert.equal(at.sockets.length, 0);
});

// Coming back.

test("waits double up to the cap, and begin anew after a stable time", async (context) => {
  const at = page(context);
  const connection = connect("/chat", { backoff: { base: 100, cap: 1000, stable: 5000 } });
  const seen = states(connection);
  await settle();
  for (const _ of Array(6)) {
    at.socket.shut(1006);
    at.tick(1000);
    await settle();
  }
  const delays = () => seen.filter(({ state }) => state === "waiting").map(({ delay }) => delay);
  assert.deepEqual(delays(), [100, 200, 400, 800, 1000, 1000]);
  at.socket.open();
  at.tick(4999);
  at.socket.shut(1006);
  assert.equal(delays().at(-1), 1000, "it was not stable");
  at.tick(1000);
  await settle();
  at.socket.open();
  at.tick(5000);
  at.socket.shut(1006);
  assert.equal(delays().at(-1), 100);
});

test("a wait is drawn from the whole time", async (context) => {
  const at = page(context);
  at.random.mock.mockImplementation(() => 0.25);
  const seen = states(await opened(at, { backoff: { base: 1000 } }));
  at.socket.shut(1001);
  assert.equal(seen.at(-1).delay, 250);
  at.tick(249);
  await settle();
  assert.equal(at.sockets.length, 1);
  at.tick(1);
  await settle();
  assert.equal(at.sockets.length, 2);
});

test("codes that forbid it are final, and others are not", async (context) => {
  const at = page(context);
  for (const code of [1000, 1003, 1007, 1008, 1009, 4403]) {
    const connection = await opened(at);
    at.socket.shut(code, "so");
    assert.equal(connection.state, "closed", `${code}`);
  }
  for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 4408, 4000]) {
    const connection = await opened(at);
    at.socket.shut(code);
    assert.equal(connection.state, "waiting", `${code}`);
    connection.close();
  }
  const made = at.sockets.length;
  at.tick(100_000);
  await settle();
  assert.equal(at.sockets.length, made);
});

test("an application may decide otherwise, and one that fails to leaves it to the rule", async (context) => {
  const at = page(context);
  const reconnect = ({ code }) => (code === 1000 ? true : code === 4000 ? false : undefined);
  const decides = await opened(at, { reconnect });
  at.socket.shut(1000);
  assert.equal(decides.state, "waiting");
  const refuses = await opened(at, { reconnect });
  at.socket.shut(4000);
  assert.equal(refuses.state, "closed");
  const leaves = await opened(at, { reconnect });
  at.socket.shut(4403);
  assert.equal(leaves.state, "closed");
  const fails = await opened(at, { reconnect: () => { throw new Error("oops"); } });
  at.socket.shut(1006);
  assert.equal(fails.state, "waiting");
  assert.equal(at.reported.length, 1);
});

test("a page that is online, shown or restored ends the wait, but not in a burst", async (context) => {
  const at = page(context);
  const connection = await opened(at, { backoff: { base: 60_000, cap: 60_000 } });
  at.tick(60_000);
  for (const wake of [() => at.fire("online"), () => at.fire("pageshow"), () => at.document.dispatchEvent(new Event("visibilitychange"))]) {
    at.socket.shut(1006);
    const made = at.sockets.length;
    wake();
    await settle();
    assert.equal(at.sockets.length, made + 1);
    at.socket.shut(1006);
    wake();
    await settle();
    assert.equal(at.sockets.length, made + 1, "just tried");
    at.tick(60_000);
    await settle();
    at.socket.open();
    at.tick(60_000);
  }
  at.socket.shut(1006);
  at.document.visibilityState = "hidden";
  at.document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(connection.state, "waiting");
  connection.close();
  at.fire("online");
  assert.equal(connection.state, "closed");
});

test("a page that is left and may be restored is not here meanwhile", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  at.fire("pagehide", { persisted: false });
  assert.equal(connection.state, "open", "it is on its end anyway");
  for (const since of [at.socket, null]) {
    // Open, and then on its way.
    at.fire("pagehide", { persisted: true });
    assert.equal(connection.state, "waiting");
    if (since) assert.notEqual(since.closedWith, null);
    const made = at.sockets.length;
    at.tick(100_000);
    await settle();
    assert.equal(at.sockets.length, made, "nothing begins before it is restored");
    at.fire("pageshow", { persisted: true });
    await settle();
    assert.equal(at.sockets.length, made + 1);
  }
  at.socket.open();
  assert.equal(connection.state, "open");
  connection.close();
  at.fire("pagehide", { persisted: true });
  at.fire("pageshow", { persisted: true });
  assert.equal(connection.state, "closed");
});

test("a page that is offline gives its socket up at once, and hears nothing more of it", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  const messages = heard(connection, "message");
  const first = at.socket;
  at.fire("offline");
  assert.equal(connection.state, "waiting");
  assert.notEqual(first.closedWith, null);
  first.tell({ type: "say" });
  first.shut(4403);
  assert.equal(connection.state, "waiting");
  assert.deepEqual(messages, []);
});

test("a socket that does not open or falls silent is given up", async (context) => {
  const at = page(context);
  const connection = connect("/chat", { openTimeout: 1000, silence: 5000 });
  const seen = states(connection);
  await settle();
  at.tick(1000);
  assert.equal(seen.at(-1).reason, "opening takes too long");
  at.tick(500);
  await settle();
  at.socket.open();
  at.tick(4000);
  at.socket.tell({ type: "tick" });
  at.tick(4000);
  assert.equal(connection.state, "open");
  at.tick(1000);
  assert.equal(seen.at(-1).reason, "no message arrived for too long");
});

// Tokens.

test("a token goes as a subprotocol, and a function is asked anew each time", async (context) => {
  const at = page(context);
  const told = [];
  const token = async (last) => {
    told.push(last);
    return `token-${told.length}`;
  };
  await opened(at, { token, protocols: ["chat.v1"] });
  assert.deepEqual(at.socket.protocols, ["bearer", "token-1", "chat.v1"]);
  at.socket.shut(1006);
  at.tick(500);
  await settle();
  assert.deepEqual(at.socket.protocols, ["bearer", "token-2", "chat.v1"]);
  assert.deepEqual(told, [{ code: null, attempt: 0 }, { code: 1006, attempt: 1 }]);
  connect("/chat", { token: () => null });
  await settle();
  assert.deepEqual(at.socket.protocols, []);
});

test("after 4401 it comes back at once with a new token, the second time after a wait", async (context) => {
  const at = page(context);
  const codes = [];
  const connection = await opened(at, { token: ({ code }) => `t${codes.push(code)}` });
  const seen = states(connection);
  at.socket.shut(4401);
  assert.equal(seen.at(-1).delay, 0);
  at.tick(1);
  await settle();
  assert.deepEqual(at.socket.protocols, ["bearer", "t2"]);
  assert.deepEqual(codes, [null, 4401]);
  at.socket.open();
  at.socket.shut(4401);
  assert.equal(seen.at(-1).delay, 1000);
  connection.close();
  const fixed = await opened(at, { token: "the-only-one" });
  at.socket.shut(4401);
  assert.equal(fixed.state, "closed");
});

test("a token function that fails is one more failed attempt; a token that cannot be sent is the end", async (context) => {
  const at = page(context);
  const seen = states(connect("/chat", { token: () => Promise.reject(new Error("offline")) }));
  await settle();
  assert.equal(seen.at(-1).state, "waiting");
  assert.equal(seen.at(-1).error.message, "offline");
  const bad = states(connect("/chat", { token: "secret==" }));
  await settle();
  assert.equal(bad.at(-1).state, "closed");
  assert.doesNotMatch(bad.at(-1).error.message, /secret/);
  assert.equal(at.sockets.length, 0);
});

test("a token that comes too late belongs to no attempt", async (context) => {
  const at = page(context);
  let give;
  const connection = connect("/chat", { token: () => new Promise((resolve) => { give = resolve; }) });
  await settle();
  connection.close();
  give("late");
  await settle();
  assert.equal(at.sockets.length, 0);
});

test("a refresh is answered by when it expires, or by an error, or by the end", async (context) => {
  const at = page(context);
  const connection = await opened(at, { reconnect: () => false });
  const done = connection.refresh("new");
  assert.deepEqual(at.socket.said, [{ type: "refresh", token: "new" }]);
  await assert.rejects(connection.refresh("another"), /under way/);
  at.socket.tell({ type: "error", error: "of a notification", notification_id: 1 });
  at.socket.tell({ type: "refreshed", expires: 5 });
  assert.equal(await done, 5);
  const refused = connection.refresh("old");
  at.socket.tell({ type: "error", error: "it has expired" });
  await assert.rejects(refused, /it has expired/);
  const lost = connection.refresh("x");
  at.socket.shut(1006);
  await assert.rejects(lost, refusal("offline"));
  await assert.rejects(connection.refresh("y"), refusal("offline"));
});

// Sending.

test("what is sent before it opens waits in order, up to a bound", async (context) => {
  const at = page(context);
  const connection = connect("/chat", { queue: { messages: 2, size: 20 } });
  connection.onState((state) => state === "open" && connection.send("first"));
  assert.equal(connection.send("a"), "queued");
  assert.throws(() => connection.send("x".repeat(20)), refusal("full"));
  connection.send("b");
  assert.throws(() => connection.send("c"), refusal("full"));
  assert.equal(connection.queued, 2);
  await settle();
  at.socket.open();
  assert.deepEqual(at.socket.said, ["first", "a", "b"]);
  assert.equal(connection.send({ n: 1 }), "sent");
  assert.equal(connection.queued, 0);
});

test("without a queue nothing waits, and after the end nothing is taken", async (context) => {
  const at = page(context);
  const connection = connect("/chat", { queue: false });
  assert.throws(() => connection.send("a"), refusal("offline"));
  connection.close();
  assert.throws(() => connection.send("a"), refusal("closed"));
  const other = await opened(at);
  at.socket.shut(1006);
  other.send("never");
  const seen = states(other);
  other.close();
  assert.equal(seen.at(-1).unsent, 1);
});

test("a socket that is closing swallows nothing, and one with too much to send takes no more", async (context) => {
  const at = page(context);
  const connection = await opened(at, { maxBuffered: 100 });
  at.socket.bufferedAmount = 101;
  assert.throws(() => connection.send("a"), refusal("full"));
  at.socket.bufferedAmount = 0;
  at.socket.readyState = 2;
  assert.equal(connection.send("b"), "queued");
  at.socket.shut(1001);
  at.tick(500);
  await settle();
  at.socket.open();
  assert.deepEqual(at.socket.said, ["b"]);
  assert.throws(() => connection.send(undefined), TypeError);
});

// Receiving.

test("messages go to listeners of their type and of all; one that throws keeps none from its own", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  connection.on("say", () => { throw new Error("oops"); });
  const says = heard(connection, "say");
  const all = heard(connection, "message");
  const gaps = heard(connection, "gap");
  const off = connection.on("say", () => says.push("not off"));
  off();
  at.socket.tell({ type: "say", text: "a" });
  at.socket.tell({ type: "gap" });
  at.socket.tell("no JSON");
  at.socket.tell("[1]");
  at.socket.tell("null");
  assert.deepEqual(says, [{ type: "say", text: "a" }]);
  assert.deepEqual(all, [{ type: "say", text: "a" }, { type: "gap" }, "no JSON", [1], null]);
  assert.deepEqual(gaps, []);
  assert.equal(at.reported.length, 1);
});

test("frames of the protocol that are malformed break nothing", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  const wrong = [null, -1, 1.5, 2 ** 60, "x", [], {}];
  for (const type of ["joined", "presence", "presence.diff", "presence.page", "notification", "unread", "acked", "refreshed", "error", "say"]) {
    at.socket.tell({ type });
    for (const value of wrong) {
      at.socket.tell({ type, group: value, epoch: value, offset: value, version: value, notification_id: value, unread: value, users: value });
      at.socket.tell({ type, group: "g", epoch: 1, offset: value, version: 1, notification_id: value, unread: value, users: value });
    }
  }
  assert.equal(connection.state, "open");
  assert.equal(connection.unread, 0);
  assert.deepEqual(at.reported, []);
});

// Recovery.

const joined = (group, epoch, offset, replayed = 0, recovered = true) => ({ type: "joined", group, epoch, offset, replayed, recovered });
const saved = (group, offset) => ({ type: "say", text: `m${offset}`, group, offset });

/** Loses the connection, and opens the next one. */
async function reopen(at) {
  at.socket.shut(1006);
  at.tick(60_000);
  await settle();
  at.socket.open();
}

test("what was seen is asked for, replays are heard once, and nothing is called a gap", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  const texts = heard(connection, "message");
  const gaps = heard(connection, "gap");
  assert.equal(new URL(at.socket.url).searchParams.has("recover"), false);
  at.socket.tell(joined("room", 7, 3, 2, false)); // the last two, for a newcomer
  for (const offset of [2, 3, 4]) at.socket.tell(saved("room", offset));
  await reopen(at);
  assert.deepEqual(asked(at.socket), { room: [7, 4] });
  at.socket.tell(joined("room", 7, 6, 2));
  for (const offset of [5, 6, 6, 5, 7]) at.socket.tell(saved("room", offset));
  assert.deepEqual(texts.map(({ offset }) => offset), [2, 3, 4, 5, 6, 7]);
  await reopen(at);
  assert.deepEqual(asked(at.socket), { room: [7, 7] });
  // More is replayed than was missed: what was seen is left out.
  at.socket.tell(joined("room", 7, 8, 5, false));
  for (const offset of [4, 5, 6, 7, 8]) at.socket.tell(saved("room", offset));
  assert.equal(texts.at(-1).offset, 8);
  assert.equal(texts.length, 7);
  assert.deepEqual(gaps, []);
});

test("what cannot be had is a gap: too old, another epoch, a server that has less", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  const texts = heard(connection, "message");
  const gaps = heard(connection, "gap");
  at.socket.tell(joined("room", 7, 4));
  await reopen(at);
  at.socket.tell(joined("room", 7, 20, 1, false));
  at.socket.tell(saved("room", 20));
  assert.deepEqual(gaps.pop(), { group: "room", from: { epoch: 7, offset: 4 }, to: { epoch: 7, offset: 19 } });
  await reopen(at);
  assert.deepEqual(asked(at.socket), { room: [7, 20] });
  at.socket.tell(joined("room", 8, 1, 1, false));
  at.socket.tell(saved("room", 1));
  assert.deepEqual(gaps.pop(), { group: "room", from: { epoch: 7, offset: 20 }, to: { epoch: 8, offset: 0 } });
  await reopen(at);
  at.socket.tell(joined("room", 8, 0, 0, true));
  assert.deepEqual(gaps.pop(), { group: "room", from: { epoch: 8, offset: 1 }, to: { epoch: 8, offset: 0 } });
  at.socket.tell(saved("room", 1));
  assert.deepEqual(texts.map(({ offset }) => offset), [20, 1, 1]);
  await reopen(at);
  at.socket.tell(joined("room", 9, 3, 3, false)); // offsets that would follow, of another history
  assert.deepEqual(gaps.pop(), { group: "room", from: { epoch: 8, offset: 1 }, to: { epoch: 9, offset: 0 } });
  at.socket.tell(saved("room", 1));
  assert.equal(texts.length, 4);
});

test("a message that is skipped is fetched by coming back, and told as a gap if that does not help", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  const texts = heard(connection, "message");
  const gaps = heard(connection, "gap");
  at.socket.tell(joined("room", 7, 4));
  at.socket.tell(saved("room", 5));
  at.socket.tell(saved("room", 7));
  assert.equal(connection.state, "waiting");
  assert.equal(texts.length, 1);
  at.tick(60_000);
  await settle();
  at.socket.open();
  assert.deepEqual(asked(at.socket), { room: [7, 5] });
  at.socket.tell(joined("room", 7, 7, 2));
  at.socket.tell(saved("room", 7)); // the sixth is not there after all
  assert.equal(connection.state, "open");
  assert.deepEqual(gaps, [{ group: "room", from: { epoch: 7, offset: 5 }, to: { epoch: 7, offset: 6 } }]);
  at.socket.tell(saved("room", 9)); // and a live one is fetched again
  assert.equal(connection.state, "waiting");
  const reports = await opened(at, { skips: "report" });
  const reported = heard(reports, "gap");
  at.socket.tell(joined("room", 7, 4));
  at.socket.tell(saved("room", 7));
  assert.equal(reports.state, "open");
  assert.deepEqual(reported, [{ group: "room", from: { epoch: 7, offset: 4 }, to: { epoch: 7, offset: 6 } }]);
});

test("a server that does not say where it counts from is taken as it is", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  const texts = heard(connection, "message");
  at.socket.tell(joined("room", 7, 4));
  await reopen(at);
  for (const offset of [9, 3, 20]) at.socket.tell(saved("room", offset));
  assert.equal(texts.length, 3);
  assert.equal(connection.state, "open");
});

test("positions are bounded in number and length, the last heard of stay, and forgotten ones go", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  for (let n = 0; n < 100; n += 1) at.socket.tell(joined(`room ${n}`, 1_763_700_000_000, n));
  at.socket.tell(saved("room 50", 51));
  connection.forget("room 99");
  await reopen(at);
  const groups = Object.keys(asked(at.socket));
  assert.equal(groups.length, 63);
  assert.equal(groups.at(-1), "room 50");
  assert.equal(groups.at(-2), "room 98");
  for (let n = 0; n < 64; n += 1) at.socket.tell(joined(`${n}${"ü".repeat(100)}`, 1, n));
  await reopen(at);
  const recover = new URL(at.socket.url).searchParams.get("recover");
  assert.ok(at.socket.url.length < 7000, `${at.socket.url.length}`);
  assert.ok(Object.keys(JSON.parse(recover)).length > 5);
});

test("a group of any name is recovered", async (context) => {
  const at = page(context);
  await opened(at);
  for (const group of ["__proto__", "a b&c=d+é%", "7"]) at.socket.tell(joined(group, 1, 2));
  await reopen(at);
  assert.deepEqual(new Map(Object.entries(asked(at.socket))), new Map([["7", [1, 2]], ["__proto__", [1, 2]], ["a b&c=d+é%", [1, 2]]]));
});

test("positions survive a reload where that is wanted, and a storage that fails is no matter", async (context) => {
  const at = page(context);
  await opened(at, { keep: "ada" });
  at.socket.tell(joined("room", 7, 4));
  at.socket.tell(saved("room", 5));
  at.tick(250);
  assert.equal(at.storage.get("fanfare:ada"), '{"room":[7,5]}');
  at.socket.tell(saved("room", 6));
  at.fire("pagehide");
  connect("/chat", { keep: "ada" });
  await settle();
  assert.deepEqual(asked(at.socket), { room: [7, 6] });
  at.storage.set("fanfare:ada", '{"room":"x","other":[1,2]}');
  connect("/chat", { keep: "ada" });
  await settle();
  globalThis.sessionStorage = { getItem: () => { throw new Error("forbidden"); }, setItem: () => { throw new Error("forbidden"); } };
  const connection = await opened(at, { keep: "ada" });
  at.socket.tell(joined("room", 7, 4));
  at.tick(250);
  connection.close();
});

// Presence.

const state = (version, users, more = {}) => ({ type: "presence", group: "room", epoch: 1, version, count: users.length, page: 1, pages: 1, users: users.map((user) => ({ user, connections: 1, since: 5 })), ...more });
const diff = (version, count, { joined = [], updated = [], left = [] }) => ({ type: "presence.diff", group: "room", epoch: 1, version, count, joined: joined.map((user) => ({ user, connections: 1, since: 6 })), updated, left });
const names = (connection) => [...connection.presence("room").users.keys()];

test("presence is its state with the differences since", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  const changes = heard(connection, "presence");
  assert.equal(connection.presence("room"), null);
  at.socket.tell(diff(6, 1, { joined: ["early"] })); // before the first state
  at.socket.tell(state(7, ["ada", "bob"]));
  at.socket.tell(diff(7, 9, { joined: ["old"] }));
  at.socket.tell(diff(8, 2, { joined: ["cleo"], left: ["bob"], updated: [{ user: "ada", info: { away: true }, connections: 2, since: 5 }, { user: "nobody", connections: 1, since: 1 }] }));
  assert.deepEqual(names(connection), ["ada", "cleo"]);
  assert.deepEqual(connection.presence("room").users.get("ada"), { info: { away: true }, connections: 2, since: 5 });
  assert.equal(connection.presence("room").count, 2);
  assert.equal(connection.presence("room").complete, true);
  assert.equal(changes.length, 2);
  assert.equal(changes[0][1], null);
  assert.equal(changes[1][1].version, 8);
  assert.deepEqual(at.socket.said, []);
});

test("a version that is skipped and another epoch make it ask for the state", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  at.socket.tell(state(7, ["ada"]));
  at.socket.tell(diff(9, 2, { joined: ["bob"] }));
  assert.deepEqual(at.socket.said, [{ type: "presence", group: "room" }]);
  assert.deepEqual(names(connection), ["ada"]);
  at.socket.tell(state(9, ["ada", "bob"]));
  at.socket.tell(state(8, ["of before"]));
  assert.deepEqual(names(connection), ["ada", "bob"]);
  at.socket.tell({ ...diff(10, 2, {}), epoch: 2 });
  assert.equal(at.socket.said.length, 2);
  at.socket.tell(state(1, ["eve"], { epoch: 2 }));
  assert.deepEqual(names(connection), ["eve"]);
});

test("a state of several pages is taken whole", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  at.socket.tell(state(7, ["ada"], { count: 3, pages: 3 }));
  assert.equal(connection.presence("room"), null);
  at.socket.tell(state(8, ["bob"], { count: 2, page: 2, pages: 2 })); // a newer one begins: the first is left
  at.socket.tell(state(8, ["cleo"], { count: 2, page: 1, pages: 2 }));
  assert.deepEqual(names(connection), ["bob", "cleo"]);
  assert.equal(connection.presence("room").complete, true);
});

test("of a crowd the first are known, and who leaves; the count is right", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  at.socket.tell(state(1, ["ada", "bob"], { count: 5000 }));
  at.socket.tell(diff(2, 4999, { joined: ["cleo"], left: ["bob"] })); // who is now among the first
  assert.deepEqual(names(connection), ["ada", "cleo"]);
  assert.equal(connection.presence("room").count, 4999);
  assert.equal(connection.presence("room").complete, false);
  at.socket.tell(state(3, Array.from({ length: 1500 }, (_, n) => `u${n}`)));
  assert.equal(connection.presence("room").users.size, 1000);
});

test("a lost connection leaves what was known, marked, until the new state", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  at.socket.tell(state(7, ["ada"]));
  await reopen(at);
  assert.equal(connection.presence("room").live, false);
  at.socket.tell(diff(8, 2, { joined: ["bob"] }));
  assert.deepEqual(names(connection), ["ada"]);
  at.socket.tell(state(3, ["cleo"])); // the same epoch, counted anew: what is older on another connection is not old
  assert.deepEqual(names(connection), ["cleo"]);
  assert.equal(connection.presence("room").live, true);
});

test("groups whose presence is kept are bounded", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  for (let n = 0; n < 1030; n += 1) at.socket.tell(state(1, ["ada"], { group: `room ${n}` }));
  assert.equal(connection.presence("room 5"), null);
  assert.equal(connection.presence("room 6").count, 1);
});

// Notifications.

const notification = (id) => ({ type: "notification", notification_id: id, priority: "high", time: 1, data: id });

test("notifications are heard once each, and what is unread is counted", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  const arrived = heard(connection, "notification");
  const counts = heard(connection, "unread");
  at.socket.tell({ type: "unread", unread: 2 });
  for (const id of [1, 2, 2, 3]) at.socket.tell(notification(id));
  assert.deepEqual(arrived.map(({ data }) => data), [1, 2, 3]);
  assert.equal(connection.unread, 3);
  connection.ack(1);
  assert.deepEqual(at.socket.said, [{ type: "ack", notification_id: 1 }]);
  at.socket.tell({ type: "acked", notification_id: 1, unread: 2 });
  assert.deepEqual(counts, [2, 3, 2]);
  await reopen(at);
  at.socket.tell({ type: "unread", unread: 2 });
  at.socket.tell(notification(2));
  at.socket.tell(notification(3));
  assert.equal(arrived.length, 3);
  assert.equal(connection.unread, 2);
});

test("an acknowledgement that was lost is sent again when the notification is", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  const arrived = heard(connection, "notification");
  at.socket.tell(notification(1));
  at.socket.shut(1006);
  connection.ack(1);
  at.tick(500);
  await settle();
  at.socket.open();
  assert.deepEqual(at.socket.said, []);
  at.socket.tell({ type: "unread", unread: 1 });
  at.socket.tell(notification(1));
  assert.deepEqual(at.socket.said, [{ type: "ack", notification_id: 1 }]);
  assert.equal(arrived.length, 1);
});

test("acknowledges by itself what all listeners have taken in, and nothing else", async (context) => {
  const at = page(context);
  const connection = await opened(at, { autoAck: true });
  at.socket.tell(notification(1)); // nobody listens
  let done;
  connection.on("notification", ({ data }) => {
    if (data === 2) throw new Error("oops");
    if (data === 3) return Promise.reject(new Error("oops, later"));
    return new Promise((resolve) => { done = resolve; });
  });
  for (const id of [2, 3, 4]) at.socket.tell(notification(id));
  await settle();
  assert.deepEqual(at.socket.said, []);
  done();
  await settle();
  assert.deepEqual(at.socket.said, [{ type: "ack", notification_id: 4 }]);
  assert.equal(at.reported.length, 2);
});

test("ids that are remembered are bounded", async (context) => {
  const at = page(context);
  const connection = await opened(at);
  const arrived = heard(connection, "notification");
  for (let id = 1; id <= 1025; id += 1) at.socket.tell(notification(id));
  at.socket.tell(notification(1025));
  assert.equal(arrived.length, 1025);
  at.socket.tell(notification(1)); // forgotten
  assert.equal(arrived.length, 1026);
});

test("an offset in place of a message that leaves this client out is no message, and no gap", async (context) => {
  const at = page(context);
  const connection = connect("/chat");
  const [messages, gaps] = [heard(connection, "message"), heard(connection, "gap")];
  await settle();
  at.socket.open();
  at.socket.tell({ type: "joined", group: "room", epoch: 1, offset: 5, recovered: false, replayed: 0 });
  at.socket.tell({ type: "skip", group: "room", offset: 6 });
  at.socket.tell({ group: "room", offset: 7 });
  assert.deepEqual(messages.map(({ offset }) => offset), [7]);
  assert.deepEqual(gaps, []);
  assert.equal(connection.state, "open");
});
