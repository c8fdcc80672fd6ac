/** The client understands every example of the page on the protocol, and sends what the page says. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { connect } from "../fanfare.js";
import { examples } from "./examples.js";
import { heard, page, settle } from "./fake.js";

test("every message of a server is heard as what it is", async (context) => {
  const at = page(context);
  const connection = connect("/chat");
  const types = ["joined", "presence", "presence.page", "notification", "unread", "acked", "refreshed", "error"];
  const events = Object.fromEntries(types.map((type) => [type, heard(connection, type)]));
  const messages = heard(connection, "message");
  await settle();
  at.socket.open();
  for (const text of examples("What a server sends")) at.socket.tell(text);
  for (const type of types) assert.notEqual(events[type].length, 0, type);
  assert.deepEqual(messages, []);
  assert.deepEqual([...connection.presence("room").users.keys()], ["ada", "cleo"]);
  assert.equal(connection.presence("room").version, 8);
  assert.equal(connection.unread, 0);
  // The replay that was announced, and a live one; neither twice.
  for (const text of [0, 0, 1, 1].map((index) => examples("Messages of a group with a history")[index])) at.socket.tell(text);
  assert.deepEqual(messages.map(({ offset }) => offset), [13, 14]);
});

test("what a client asks is what the page shows", async (context) => {
  const at = page(context);
  const connection = connect("/chat");
  await settle();
  at.socket.open();
  const [ack, , users, refresh] = examples("What a client sends").map((text) => JSON.parse(text));
  connection.ack(ack.notification_id);
  connection.requestPresence(users.group, users);
  connection.refresh(refresh.token).catch(() => {});
  assert.deepEqual(at.socket.said, [ack, users, refresh]);
});
