/**
 * fanfare's client for browsers: a WebSocket that reconnects by itself and recovers all messages that the server kept.
 *
 * One file: an ES module without dependencies, which runs under a strict Content-Security-Policy. Serve it beside your
 * page (a Rust server has it as `fanfare::ws::CLIENT_JS`), and in a module:
 *
 *     import { connect } from "./fanfare.js";
 *     const connection = connect("/chat/lobby");
 *     connection.on("message", (message) => show(message.text));
 *     connection.onState((state) => { light.dataset.state = state; });
 *     connection.send({ type: "say", text: "hello" });
 *
 * In a classic script, use `import("./fanfare.js").then(({ connect }) => { ... })`.
 *
 * fanfare's page `protocol` specifies the protocol. All stored data is bounded: see the constants.
 */

/** The most groups whose position is kept: the server's limit. The least recently active group is dropped first. */
const MAX_POSITIONS = 64;
/** The most characters of positions in the address. Many proxies limit a whole request head to 8 KiB. */
const MAX_RECOVER_LENGTH = 6144;
/** The most notification ids that are remembered; the oldest are dropped. */
const MAX_SEEN = 1024;
/** The most groups whose presence is kept (a channel's limit of groups), and the most users kept of each. */
const MAX_PRESENCES = 1024;
const MAX_USERS = 1000;
/** The longest delay of a browser's timer; a longer one fires at once. */
const MAX_TIME = 2 ** 31 - 1;
/** The least time between attempts caused by the page's events, which come in bursts. */
const WAKE_GAP = 1000;
/** How long positions wait before they are written to the session storage, which is slow. */
const KEEP_AFTER = 250;

/** Close codes after which the client does not reconnect: the same error would recur, or the close was intended. */
const FINAL_CODES = new Set([1000, 1003, 1007, 1008, 1009, 4403]);
const NEEDS_TOKEN = 4401;
/** The close code that a script sees when a connection broke or could not be opened. */
const BROKEN = 1006;

/** Types used by the protocol and this client: an application's message of such a type reaches only `"message"`. */
const RESERVED = new Set([
  "message", "binary", "gap", "joined", "presence", "presence.diff", "presence.page", "notification", "unread", "acked",
  "error", "refreshed", "skip",
]);

/** A valid subprotocol (RFC 9110, token): base64url and the dots of a JWT are allowed, `=` and `/` are not. */
const SUBPROTOCOL = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/**
 * Opens a connection that reconnects by itself. See `fanfare.d.ts` for the options and their defaults.
 *
 * @param {string | URL} url relative to the page; http may stand for ws
 * @param {import("./fanfare.d.ts").Options} [options]
 * @returns {import("./fanfare.d.ts").Connection}
 */
export function connect(url, options = {}) {
  return new Connection(url, options);
}

/** Why a message was refused: its `reason` is `"full"`, `"offline"` or `"closed"`. */
export class SendError extends Error {
  constructor(reason, text) {
    super(text);
    this.name = "SendError";
    this.reason = reason;
  }
}

/** One connection, over a series of sockets. Made by `connect`. */
class Connection {
  #url;
  #options;
  /** @type {import("./fanfare.d.ts").State} */
  #state = "connecting";
  #socket = null;
  /** Counts attempts: a result of an earlier attempt is stale. */
  #turn = 0;
  /** Attempts since the connection was last stable: the back-off's exponent. */
  #failures = 0;
  /** The close code of the last connection, for the token function. */
  #lastCode = null;
  #attemptedAt = -Infinity;
  #heardAt = 0;
  #timers = new Timers();
  #listeners = new Map();
  #stateListeners = new Set();
  #queue = [];
  #queuedSize = 0;
  #positions;
  #presences = new Presences();
  #inbox = new Inbox();
  #refreshing = null;
  #unlisten = [];

  constructor(url, options) {
    this.#options = {
      ...options,
      backoff: { base: 500, cap: 30_000, stable: 10_000, ...options.backoff },
      queue: options.queue === false ? { messages: 0, size: 0 } : { messages: 64, size: 1 << 18, ...options.queue },
      openTimeout: options.openTimeout ?? 15_000,
      maxBuffered: options.maxBuffered ?? 1 << 20,
    };
    this.#url = url;
    this.#positions = new Positions(options.keep);
    this.#address(); // throws now if the address is invalid
    this.#watchPage();
    // Not at once, so that the caller can register listeners first.
    queueMicrotask(() => this.#state === "connecting" && this.#attempt());
  }

  /** `"connecting"`, `"open"`, `"waiting"` for the next attempt, or `"closed"` for good. */
  get state() {
    return this.#state;
  }

  /** The number of unacknowledged notifications, as far as the client knows. */
  get unread() {
    return this.#inbox.unread;
  }

  /** The number of messages that wait for the connection to open. */
  get queued() {
    return this.#queue.length;
  }

  /** Calls `listener` with every message of a type; returns a function that removes the listener. */
  on(type, listener) {
    const listeners = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(type) === listeners) this.#listeners.delete(type);
    };
  }

  /** Calls `listener` with every new state and its details; returns a function that removes the listener. */
  onState(listener) {
    this.#stateListeners.add(listener);
    return () => this.#stateListeners.delete(listener);
  }

  /** Sends a value as JSON: returns `"sent"` or `"queued"`, or throws a `SendError`. */
  send(value) {
    const text = JSON.stringify(value);
    if (text === undefined) throw new TypeError("the value cannot be written as JSON");
    return this.sendRaw(text);
  }

  /** Sends text or bytes unchanged; returns and throws as `send`. */
  sendRaw(data) {
    if (this.#state === "closed") throw new SendError("closed", "the connection is closed");
    if (this.#isOpen()) {
      if (!this.#transmit(data)) throw new SendError("full", "too many bytes wait in the browser already");
      return "sent";
    }
    const { messages, size } = this.#options.queue;
    if (messages === 0) throw new SendError("offline", "the connection is not open");
    const length = sizeOf(data);
    if (this.#queue.length >= messages || this.#queuedSize + length > size) {
      throw new SendError("full", "too many messages wait for the connection already");
    }
    this.#queue.push(data);
    this.#queuedSize += length;
    return "queued";
  }

  /**
   * Acknowledges a notification, so that it does not come again. Without a connection the client remembers this: the
   * server sends the notification again after the reconnect, and the client acknowledges it then.
   */
  ack(id) {
    this.#inbox.acked(id);
    this.#request({ type: "ack", notification_id: id });
  }

  /** Returns the last known presence of a group; null before the first. Read only: it is the client's own object. */
  presence(group) {
    return this.#presences.of(group);
  }

  /**
   * Asks for a page of a group's users; the answer is the event `presence.page`. Returns whether the request was sent.
   *
   * @param {string} group
   * @param {{ after?: string, limit?: number }} [page]
   */
  requestPresence(group, { after, limit = 100 } = {}) {
    return this.#request({ type: "presence", group, after, limit });
  }

  /** Renews the token; returns a promise of the new token's expiry. */
  refresh(token) {
    if (this.#refreshing !== null) return Promise.reject(new Error("a refresh is under way"));
    if (!this.#request({ type: "refresh", token })) {
      return Promise.reject(new SendError("offline", "the connection is not open"));
    }
    return new Promise((resolve, reject) => {
      this.#refreshing = { resolve, reject };
    });
  }

  /** Forgets a group's position and presence: the page has left it, and its messages are not recovered. */
  forget(group) {
    this.#positions.forget(group);
    this.#presences.forget(group);
  }

  /** Closes for good. */
  close(code = 1000, reason = "") {
    if (this.#state === "closed") return;
    this.#socket?.close(code, reason); // first: it throws if the code is not allowed
    this.#end({ code, reason });
  }

  // One attempt, from the token to the open socket.

  async #attempt() {
    const turn = ++this.#turn;
    this.#timers.clear();
    this.#attemptedAt = Date.now();
    // By itself, a browser tries for minutes to reach an address that does not answer.
    this.#timers.set("open", () => this.#abandon("opening takes too long"), this.#options.openTimeout);
    this.#change("connecting", { attempt: this.#failures });
    let protocols;
    try {
      protocols = await this.#protocols();
    } catch (error) {
      if (turn === this.#turn) this.#lost({ code: BROKEN, reason: "there is no token", error });
      return;
    }
    if (turn === this.#turn) this.#openSocket(protocols);
  }

  /** The subprotocols to offer. A browser's script cannot set a header, so the token goes as a subprotocol. */
  async #protocols() {
    const { token, protocols = [] } = this.#options;
    const last = { code: this.#lastCode, attempt: this.#failures };
    const value = typeof token === "function" ? await token(last) : token;
    return value ? ["bearer", value, ...protocols] : protocols;
  }

  #openSocket(protocols) {
    let socket;
    try {
      // Otherwise the browser's error would quote the refused subprotocol, which may be the token.
      if (!protocols.every((protocol) => SUBPROTOCOL.test(protocol))) {
        throw new TypeError("a token or subprotocol has characters that are not allowed, such as = or /");
      }
      socket = new WebSocket(this.#address(), protocols);
    } catch (error) {
      this.#end({ error });
      return;
    }
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => this.#opened();
    socket.onmessage = ({ data }) => this.#receive(data);
    // There is no `onerror`: the event has no details, and a close follows. A refused handshake is a 1006 like any
    // other failure: neither its status nor its text reaches the page.
    socket.onclose = (close) => this.#lost(close);
  }

  /** The socket's address: relative to the page, with TLS if the page has it, and the positions to recover from. */
  #address() {
    const url = new URL(this.#url, globalThis.document?.baseURI ?? globalThis.location?.href);
    url.protocol = url.protocol.replace(/^http/, "ws"); // https becomes wss
    if (!/^wss?:$/.test(url.protocol)) throw new TypeError(`${url.protocol} is not a protocol of a WebSocket`);
    url.hash = ""; // browsers refuse a fragment
    const seen = this.#positions.ask();
    if (seen !== null) url.searchParams.set("recover", seen);
    return url.href;
  }

  #opened() {
    this.#timers.clear();
    this.#timers.set("stable", () => { this.#failures = 0; }, this.#options.backoff.stable);
    this.#heardAt = Date.now();
    this.#listenForSilence();
    this.#lastCode = null;
    const turn = this.#turn;
    // The state listeners come first: their messages (an introduction, say) go before the queued ones.
    this.#change("open", {});
    if (turn !== this.#turn) return;
    const queue = this.#queue;
    this.#queue = [];
    this.#queuedSize = 0;
    for (const data of queue) this.#socket.send(data);
  }

  // The end of a socket, and the reconnect.

  /** Gives up the socket without waiting for its close, for which a browser waits long on a dead connection. */
  #abandon(reason) {
    this.#lost({ code: BROKEN, reason });
  }

  /** @param {{ code: number, reason: string, error?: unknown }} close */
  #lost({ code, reason, error }) {
    const socket = this.#release();
    socket?.close();
    this.#lastCode = code;
    if (!this.#comesBack(code, reason)) {
      this.#end({ code, reason, error });
      return;
    }
    const { base, cap } = this.#options.backoff;
    // To fetch a new token it reconnects at once, but only the first time in a row.
    const most = code === NEEDS_TOKEN && this.#failures === 0 ? 0 : Math.min(cap, base * 2 ** this.#failures);
    // Full jitter: ten thousand clients of a restarted server reconnect spread over the whole time.
    const delay = Math.min(Math.random() * most, MAX_TIME);
    this.#failures += 1;
    this.#timers.set("retry", () => this.#attempt(), delay);
    this.#change("waiting", { code, reason, error, delay, attempt: this.#failures });
  }

  #comesBack(code, reason) {
    const { reconnect } = this.#options;
    const wanted = reconnect ? call(reconnect, { code, reason }) : undefined;
    if (typeof wanted === "boolean") return wanted;
    // The same token would be refused again.
    if (code === NEEDS_TOKEN) return typeof this.#options.token === "function";
    return !FINAL_CODES.has(code);
  }

  #end(detail) {
    this.#release();
    for (const unlisten of this.#unlisten.splice(0)) unlisten();
    const unsent = this.#queue.length;
    this.#queue = [];
    this.#queuedSize = 0;
    this.#change("closed", { ...detail, unsent });
  }

  /** Detaches the socket: its later events are ignored. */
  #release() {
    const socket = this.#socket;
    this.#socket = null;
    this.#turn += 1;
    this.#timers.clear();
    this.#positions.keep();
    this.#presences.disconnected();
    this.#refreshing?.reject(new SendError("offline", "the connection was lost"));
    this.#refreshing = null;
    if (socket) socket.onopen = socket.onmessage = socket.onclose = null;
    return socket;
  }

  #change(state, detail) {
    this.#state = state;
    for (const listener of [...this.#stateListeners]) call(listener, state, detail);
  }

  // Events of the page.

  #watchPage() {
    const listen = (target, type, listener) => {
      if (!target?.addEventListener) return; // not a page
      target.addEventListener(type, listener);
      this.#unlisten.push(() => target.removeEventListener(type, listener));
    };
    const page = globalThis.document;
    listen(globalThis, "online", () => this.#wake());
    listen(globalThis, "pageshow", ({ persisted }) => persisted ? this.#restored() : this.#wake());
    // The timers of a hidden page run once a minute, or not at all: one may be long overdue.
    listen(page, "visibilitychange", () => page.visibilityState === "visible" && this.#wake());
    // A connection may lose its network without an event on either side: reconnecting costs less than finding out.
    listen(globalThis, "offline", () => this.#socket && this.#abandon("the browser is offline"));
    listen(globalThis, "pagehide", ({ persisted }) => this.#left(persisted));
  }

  /**
   * The user has left the page. If the browser may restore it, it freezes the page with its socket open, and the server
   * would count the user as present for minutes.
   */
  #left(persisted) {
    this.#positions.keep();
    if (!persisted || this.#state === "closed") return;
    if (this.#state !== "waiting") this.#abandon("the page was left");
    this.#timers.clear(); // no attempt before the page is restored
  }

  #restored() {
    if (this.#state === "waiting") this.#attempt();
  }

  /** Ends the wait, because an event of the page suggests that an attempt would succeed now. */
  #wake() {
    if (this.#state === "waiting" && Date.now() - this.#attemptedAt >= WAKE_GAP) this.#attempt();
  }

  /** Scripts see neither pings nor pongs: for this check the server has to send messages. */
  #listenForSilence() {
    const { silence } = this.#options;
    if (!silence) return;
    const left = this.#heardAt + silence - Date.now();
    if (left <= 0) this.#abandon("no message arrived for too long");
    else this.#timers.set("silence", () => this.#listenForSilence(), left);
  }

  // Messages from the server.

  #receive(data) {
    this.#heardAt = Date.now();
    if (typeof data !== "string") {
      this.#emit("binary", data);
      return;
    }
    const message = parse(data);
    const type = message?.type;
    switch (typeof type === "string" ? type : "") {
      case "joined": return this.#joined(message);
      case "presence": return this.#presenceChanged(message, this.#presences.state(message), null);
      case "presence.diff": return this.#presenceChanged(message, this.#presences.diff(message), message);
      case "notification": return this.#notified(message);
      case "unread": return this.#counted(this.#inbox.attached(message.unread));
      case "acked":
        this.#emit("acked", message);
        return this.#counted(this.#inbox.counted(message.unread));
      case "refreshed": return this.#refreshed(message);
      case "error": return this.#failed(message);
      case "presence.page": return void this.#emit("presence.page", message);
      case "skip": return void this.#place(message); // only its offset matters: the message was not for this client
      default: return this.#said(message);
    }
  }

  /** Records a message's position in its group's history, if it has one; returns whether listeners get the message. */
  #place({ group, offset }) {
    if (typeof group !== "string" || !isCount(offset)) return true;
    const taken = this.#positions.take(group, offset, this.#options.skips !== "report");
    if (taken === "duplicate") return false;
    // The server has dropped messages because this client was too slow. They are in the history.
    if (taken === "missing") {
      this.#abandon(`a message of ${group} is missing`);
      return false;
    }
    if (taken !== "next") this.#emit("gap", taken);
    this.#positions.keepSoon(this.#timers);
    return true;
  }

  /** A message of the application. */
  #said(message) {
    if (!this.#place(message ?? {})) return;
    const type = message?.type;
    if (typeof type === "string" && !RESERVED.has(type)) this.#emit(type, message);
    this.#emit("message", message);
  }

  #joined(message) {
    if (typeof message.group !== "string" || !isCount(message.epoch) || !isCount(message.offset)) return;
    const gap = this.#positions.joined(message);
    this.#positions.keepSoon(this.#timers);
    this.#emit("joined", message);
    if (gap) this.#emit("gap", gap);
  }

  #presenceChanged(message, outcome, change) {
    if (outcome === "ask") this.#request({ type: "presence", group: message.group });
    if (outcome === "changed") this.#emit("presence", this.#presences.of(message.group), change);
  }

  #notified(message) {
    const id = message.notification_id;
    if (!isCount(id)) return;
    const before = this.#inbox.unread;
    const known = this.#inbox.arrived(id);
    // The page has acknowledged it, but the server did not get that.
    if (known === "acked") this.#request({ type: "ack", notification_id: id });
    if (known !== "new") return;
    if (before !== this.#inbox.unread) this.#emit("unread", this.#inbox.unread);
    const results = this.#emit("notification", message);
    if (!this.#options.autoAck || results.length === 0 || results.includes(FAILED)) return;
    // A notification whose listener failed is not acknowledged: a new page gets it again.
    Promise.all(results).then(() => this.ack(id), report);
  }

  #counted(changed) {
    if (changed) this.#emit("unread", this.#inbox.unread);
  }

  #refreshed(message) {
    this.#refreshing?.resolve(message.expires);
    this.#refreshing = null;
    this.#emit("refreshed", message);
  }

  #failed(message) {
    if (message.notification_id === undefined) {
      this.#refreshing?.reject(new Error(String(message.error)));
      this.#refreshing = null;
    }
    this.#emit("error", message);
  }

  /** Calls each listener, independently of the others; returns their results. */
  #emit(type, ...values) {
    return [...(this.#listeners.get(type) ?? [])].map((listener) => call(listener, ...values));
  }

  /** Sends a message of the protocol; returns whether it was sent. */
  #request(message) {
    return this.#isOpen() && this.#transmit(JSON.stringify(message));
  }

  /** While a socket closes, before its close event, a browser silently drops messages: `readyState` says so. */
  #isOpen() {
    return this.#state === "open" && this.#socket.readyState === 1;
  }

  /** Passes data to the socket, unless too many bytes wait: the browser's own buffer has no bound. */
  #transmit(data) {
    if (this.#socket.bufferedAmount > this.#options.maxBuffered) return false;
    this.#socket.send(data);
    return true;
  }
}

/** The position in each group: the epoch of its history, and the offset of the last message seen. */
class Positions {
  /** Group to `{ epoch, offset }`, the least recently active first. */
  #seen = new Map();
  /** Group to its last offset when this connection joined it. */
  #joined = new Map();
  #key;

  constructor(key) {
    this.#key = key === undefined ? null : `fanfare:${key}`;
    if (this.#key !== null) this.#load();
  }

  /** Returns the value of the query parameter `recover`, or null: the most recently active groups, as many as fit. */
  ask() {
    this.#joined.clear();
    const asked = new Set();
    let length = 0;
    for (const [group, { epoch, offset }] of [...this.#seen].reverse()) {
      length += encodeURIComponent(JSON.stringify({ [group]: [epoch, offset] })).length;
      if (length > MAX_RECOVER_LENGTH) break;
      asked.add(group);
    }
    return asked.size === 0 ? null : this.#json((group) => asked.has(group));
  }

  /** Records a group's position at a join; returns the gap, or null. */
  joined({ group, epoch, offset, replayed }) {
    // The replay comes next. Messages before it were seen or are lost, whether or not the client asked for them.
    const start = { epoch, offset: Math.max(0, offset - (isCount(replayed) ? replayed : 0)) };
    const seen = this.#seen.get(group);
    const follows = seen !== undefined && seen.epoch === epoch && start.offset <= seen.offset && seen.offset <= offset;
    this.#set(group, follows ? seen : start);
    setLast(this.#joined, group, offset, MAX_POSITIONS);
    return seen === undefined || follows ? null : { group, from: seen, to: start };
  }

  /** Returns "next", "duplicate", "missing" (messages before it), or the gap after which the client goes on. */
  take(group, offset, fetches) {
    const seen = this.#seen.get(group);
    // Before `joined` names the history, offsets may start anywhere.
    if (seen === undefined || !this.#joined.has(group)) return "next";
    if (offset <= seen.offset) return "duplicate";
    const before = { epoch: seen.epoch, offset: offset - 1 };
    const isNext = before.offset === seen.offset;
    // A message missing from a replay would be missing from another replay, too.
    if (!isNext && fetches && seen.offset >= this.#joined.get(group)) return "missing";
    this.#set(group, { epoch: seen.epoch, offset });
    return isNext ? "next" : { group, from: seen, to: before };
  }

  forget(group) {
    this.#seen.delete(group);
    this.keep();
  }

  /** Writes to the session storage, which belongs to this tab and survives a reload. */
  keep() {
    if (this.#key === null) return;
    try {
      sessionStorage.setItem(this.#key, this.#json(() => true));
    } catch {
      // The storage may be forbidden or full: then a reload does not recover.
    }
  }

  /** Does the same as `keep`, after a short delay. */
  keepSoon(timers) {
    if (this.#key !== null && !timers.has("keep")) timers.set("keep", () => this.keep(), KEEP_AFTER);
  }

  #load() {
    try {
      const kept = Object.entries(JSON.parse(sessionStorage.getItem(this.#key)) ?? {});
      for (const [group, [epoch, offset]] of kept.slice(0, MAX_POSITIONS)) {
        if (isCount(epoch) && isCount(offset)) this.#seen.set(group, { epoch, offset });
      }
    } catch {
      // The storage is forbidden, or the entry is not ours: start without positions.
    }
  }

  #set(group, position) {
    setLast(this.#seen, group, position, MAX_POSITIONS);
  }

  #json(isWanted) {
    const wanted = [...this.#seen].filter(([group]) => isWanted(group));
    // `fromEntries` makes a plain field of any name, `__proto__` too.
    return JSON.stringify(Object.fromEntries(wanted.map(([group, { epoch, offset }]) => [group, [epoch, offset]])));
  }
}

/** The presence of each group: the server's states, and the differences since. */
class Presences {
  #groups = new Map();

  of(group) {
    return this.#groups.get(group)?.view ?? null;
  }

  forget(group) {
    this.#groups.delete(group);
  }

  /** Keeps the known users for display; the next state comes with the next connection. */
  disconnected() {
    for (const known of this.#groups.values()) {
      known.live = false;
      known.pages = null;
      if (known.view) known.view.live = false;
    }
  }

  /** Takes in a page of a state; returns "changed" if it completes the state. */
  state({ group, epoch, version, count, page, pages, users }) {
    if (typeof group !== "string" || !isCount(version) || !Array.isArray(users)) return "ignored";
    const known = this.#groups.get(group) ?? { view: null, pages: null, live: false };
    if (known.live && known.view.epoch === epoch && version < known.view.version) return "ignored";
    setLast(this.#groups, group, known, MAX_PRESENCES);
    if (known.pages?.version !== version || known.pages.epoch !== epoch) {
      known.pages = { epoch, version, arrived: new Set(), users: new Map() };
    }
    known.pages.arrived.add(page);
    addUsers(known.pages.users, users);
    if (known.pages.arrived.size < (pages ?? 1)) return "partial";
    known.view = { group, epoch, version, count, users: known.pages.users, complete: false, live: true };
    known.view.complete = known.view.users.size === count;
    known.pages = null;
    known.live = true;
    return "changed";
  }

  /** Takes in a difference; returns "changed", or "ask" (for the state) if an earlier difference is missing. */
  diff({ group, epoch, version, count, joined, updated, left }) {
    const known = this.#groups.get(group);
    if (!known?.live) return "ignored"; // the state comes
    const { view } = known;
    if (view.epoch === epoch && version <= view.version) return "ignored";
    if (view.epoch !== epoch || version !== view.version + 1) return "ask";
    view.version = version;
    view.count = count;
    for (const user of left ?? []) view.users.delete(user);
    addUsers(view.users, joined);
    addUsers(view.users, (updated ?? []).filter(({ user }) => view.users.has(user)));
    view.complete = view.users.size === count;
    return "changed";
  }
}

/** The notifications that have arrived, and the number of unacknowledged ones. */
class Inbox {
  unread = 0;
  /** How many of the unread have not arrived yet: `unread` counted them when the connection began. */
  #owed = 0;
  /** Notification id to whether it was acknowledged, the oldest first. */
  #seen = new Map();

  /** The connection begins: `unread` notifications wait, and come next. */
  attached(unread) {
    this.#owed = isCount(unread) ? unread : 0;
    return this.counted(unread);
  }

  counted(unread) {
    if (!isCount(unread) || unread === this.unread) return false;
    this.unread = unread;
    return true;
  }

  /** Returns whether a notification is "new", "seen", or "acked". */
  arrived(id) {
    const acked = this.#seen.get(id);
    if (this.#owed > 0) this.#owed -= 1;
    else if (acked === undefined) this.unread += 1;
    setLast(this.#seen, id, acked ?? false, MAX_SEEN);
    return acked === undefined ? "new" : acked ? "acked" : "seen";
  }

  acked(id) {
    setLast(this.#seen, id, true, MAX_SEEN);
  }
}

/** Timers by name: setting one again replaces it. */
class Timers {
  #running = new Map();

  has(name) {
    return this.#running.has(name);
  }

  set(name, callback, delay) {
    clearTimeout(this.#running.get(name));
    const run = () => {
      this.#running.delete(name);
      callback();
    };
    this.#running.set(name, setTimeout(run, Math.min(delay, MAX_TIME)));
  }

  clear() {
    for (const timer of this.#running.values()) clearTimeout(timer);
    this.#running.clear();
  }
}

/** Sets an entry and moves it to the end; removes the first entry if there are too many. */
function setLast(map, key, value, most) {
  map.delete(key);
  map.set(key, value);
  if (map.size > most) map.delete(map.keys().next().value);
}

function addUsers(to, users) {
  for (const { user, info, connections, since } of users ?? []) {
    if (to.has(user) || to.size < MAX_USERS) to.set(user, { info, connections, since });
  }
}

/** Parses JSON; returns other text unchanged. */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** The size of data in bytes, or of text in characters. */
function sizeOf(data) {
  return data.byteLength ?? data.size ?? data.length;
}

function isCount(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

/** The result of `call` for a listener that threw. */
const FAILED = Symbol("failed");

/** Calls a listener. If it throws, reports the error, so that the other listeners are still called. */
function call(listener, ...values) {
  try {
    return listener(...values);
  } catch (error) {
    report(error);
    return FAILED;
  }
}

/** Reports an error to the page's error listeners, or else to the console. */
function report(error) {
  (globalThis.reportError ?? console.error)(error);
}
