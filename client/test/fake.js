/** A page without a browser: sockets that a test opens, feeds and closes by hand, time and chance that it decides. */

import { mock } from "node:test";

export class FakeSocket {
  static made = [];
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  closedWith = null;

  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
    FakeSocket.made.push(this);
  }

  send(data) {
    // As a browser does: an error before it is open, and not a word after.
    if (this.readyState === 0) throw new Error("InvalidStateError");
    if (this.readyState === 1) this.sent.push(data);
  }

  close(code, reason) {
    this.closedWith = { code, reason };
    this.readyState = 2;
  }

  // The test's side.

  open() {
    this.readyState = 1;
    this.onopen?.();
  }

  tell(message) {
    this.onmessage?.({ data: typeof message === "string" ? message : JSON.stringify(message) });
  }

  shut(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  /** What was sent, as values. */
  get said() {
    return this.sent.map((text) => JSON.parse(text));
  }
}

/** Sets the page up; returns what a test turns. */
export function page(context) {
  FakeSocket.made = [];
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  const page = new EventTarget();
  const document = new EventTarget();
  const storage = new Map();
  const reported = [];
  const given = {
    WebSocket: FakeSocket,
    document: Object.assign(document, { baseURI: "https://example.com/app/page", visibilityState: "visible" }),
    addEventListener: page.addEventListener.bind(page),
    removeEventListener: page.removeEventListener.bind(page),
    sessionStorage: { getItem: (key) => storage.get(key) ?? null, setItem: (key, value) => storage.set(key, value) },
    reportError: (error) => reported.push(error),
  };
  for (const [name, value] of Object.entries(given)) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  // The longest that may be drawn, so that a test sees the bound.
  const random = mock.method(Math, "random", () => 1);
  context.after(() => {
    mock.timers.reset();
    mock.restoreAll();
  });
  return {
    storage,
    reported,
    random,
    document,
    fire: (type, more) => page.dispatchEvent(Object.assign(new Event(type), more)),
    tick: (time) => mock.timers.tick(time),
    get sockets() {
      return FakeSocket.made;
    },
    get socket() {
      return FakeSocket.made.at(-1);
    },
  };
}

/** Lets everything go on that waits for a promise. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** The states of a connection, with their details. */
export function states(connection) {
  const states = [];
  connection.onState((state, detail) => states.push({ state, ...detail }));
  return states;
}

/** Everything of a type that is heard. */
export function heard(connection, type) {
  const heard = [];
  connection.on(type, (...values) => void heard.push(values.length > 1 ? values : values[0]));
  return heard;
}
