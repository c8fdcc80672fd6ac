/** Types of fanfare's client for browsers: see fanfare.js for its use, and fanfare's page `protocol`. */

/** A position in a group's history: the last message that was seen. */
export interface Position {
  epoch: number;
  offset: number;
}

// Messages from the server.

/** The connection has joined a group with a history; missed messages come next. */
export interface Joined {
  type: "joined";
  group: string;
  epoch: number;
  /** The last offset of the group at the join. */
  offset: number;
  /** Whether the replay has all missed messages. */
  recovered: boolean;
  replayed: number;
}

/** A user in a group. */
export interface PresentUser<Info = unknown> {
  info?: Info;
  connections: number;
  /** Unix time, in milliseconds. */
  since: number;
}

export type NamedUser<Info = unknown> = PresentUser<Info> & { user: string };

/** The users of a group: a page of the state. */
export interface PresenceState<Info = unknown> {
  type: "presence";
  group: string;
  epoch: number;
  version: number;
  count: number;
  page: number;
  pages: number;
  users: NamedUser<Info>[];
}

/** The users who have joined, changed or left since the version before. */
export interface PresenceDiff<Info = unknown> {
  type: "presence.diff";
  group: string;
  epoch: number;
  version: number;
  count: number;
  joined: NamedUser<Info>[];
  updated: NamedUser<Info>[];
  left: string[];
}

/** The answer to a request for a page of a group's users. */
export interface PresencePage<Info = unknown> {
  type: "presence.page";
  group: string;
  count: number;
  users: NamedUser<Info>[];
  more: boolean;
}

/** A notification: it comes again until it is acknowledged. */
export interface Notification<Data = unknown> {
  type: "notification";
  notification_id: number;
  priority: string;
  /** Unix time, in milliseconds. */
  time: number;
  data: Data;
}

/** The number of waiting notifications, when the connection begins. */
export interface Unread {
  type: "unread";
  unread: number;
}

/** A notification was acknowledged, here or on another device. */
export interface Acked {
  type: "acked";
  notification_id: number;
  unread: number;
}

/** The server has accepted the new token. */
export interface Refreshed {
  type: "refreshed";
  /** Unix time, in milliseconds. */
  expires: number;
}

/** A request failed. */
export interface ServerError {
  type: "error";
  error: string;
  notification_id?: number;
}

/** In place of a message that excludes this client. The client records the offset; the page does not see it. */
export interface Skip {
  type: "skip";
  group: string;
  offset: number;
}

/** Every message of the protocol that a server sends. */
export type ServerMessage =
  | Joined
  | Skip
  | PresenceState
  | PresenceDiff
  | PresencePage
  | Notification
  | Unread
  | Acked
  | Refreshed
  | ServerError;

// Messages from the client: sent by itself, or by a method.

export interface Ack {
  type: "ack";
  notification_id: number;
}

export interface PresenceRequest {
  type: "presence";
  group: string;
  /** Users after this one. */
  after?: string;
  limit?: number;
}

export interface Refresh {
  type: "refresh";
  token: string;
}

/** Every message of the protocol that a client sends. */
export type ClientMessage = Ack | PresenceRequest | Refresh;

// The client's view.

/** The last known users of a group. The client updates it; do not change it. */
export interface Presence<Info = unknown> {
  readonly group: string;
  readonly epoch: number;
  readonly version: number;
  /** The number of users, even if not all of them are known. */
  readonly count: number;
  /** The users by id: at most 1000; of a larger group the first 100. */
  readonly users: ReadonlyMap<string, PresentUser<Info>>;
  /** Whether all users are known. */
  readonly complete: boolean;
  /** Whether it is current: false while there is no connection, and until the group's new state has arrived. */
  readonly live: boolean;
}

/** Messages of a group were lost for good: all after `from`, up to `to`. */
export interface Gap {
  group: string;
  from: Position;
  /** With another epoch than `from`, the group's history has restarted, and the number of lost messages is unknown. */
  to: Position;
}

export type State = "connecting" | "open" | "waiting" | "closed";

/** Details of a new state. */
export interface StateDetail {
  /** "connecting", "waiting": attempts since the connection was last stable. */
  attempt?: number;
  /** "waiting", "closed": how the connection ended; 1006 when it broke or was refused. */
  code?: number;
  reason?: string;
  /** "waiting", "closed": the error that was thrown, by the token function for example. */
  error?: unknown;
  /** "waiting": milliseconds to the next attempt. */
  delay?: number;
  /** "closed": the number of queued messages, which are dropped. */
  unsent?: number;
}

/** How the last connection ended, for the token function. */
export interface LastClose {
  /** 4401 if the token was refused or has expired; null at the first attempt, and after a connection was open. */
  code: number | null;
  attempt: number;
}

type Token = string | null | undefined;

export interface Options {
  /** Identifies the user. A function is called at each attempt; with a string, a refusal (4401) closes for good. */
  token?: string | ((last: LastClose) => Token | Promise<Token>);
  /** More subprotocols to offer. */
  protocols?: string[];
  /**
   * The wait between attempts, in milliseconds: a random time up to `base` (500), doubled each time up to `cap`
   * (30 000). It starts again from `base` after a connection was open for `stable` (10 000).
   */
  backoff?: { base?: number; cap?: number; stable?: number };
  /** The longest time for an attempt, in milliseconds; 15 000 by default. */
  openTimeout?: number;
  /** The longest time without a message, in milliseconds; unlimited by default. Scripts do not see pings. */
  silence?: number;
  /**
   * The bounds of the queue while the connection is not open: 64 messages, 262 144 characters or bytes. More is
   * refused. `false` disables the queue.
   */
  queue?: false | { messages?: number; size?: number };
  /** How many bytes may wait in the browser for an open connection; 1 048 576 by default. */
  maxBuffered?: number;
  /** Whether to reconnect after a close; undefined leaves it to the protocol's rule. */
  reconnect?: (close: { code: number; reason: string }) => boolean | undefined;
  /**
   * What to do when an offset is skipped: "recover", the default, reconnects to fetch the message; "report" goes on
   * after a `gap`. Use "report" if the server omits messages on purpose: by `except`, or an overflow rule that drops
   * some.
   */
  skips?: "recover" | "report";
  /** Acknowledges a notification when its listeners have returned (and their promises are fulfilled). */
  autoAck?: boolean;
  /** Keeps positions in `sessionStorage` under this name, so that a reload recovers. Use one name per user. */
  keep?: string;
}

/** The client's own events, and those of the protocol. */
export interface Events {
  /** Every message of the application: a JSON value, or text that is not JSON. */
  message: [message: any];
  binary: [data: ArrayBuffer];
  joined: [joined: Joined];
  gap: [gap: Gap];
  /** A group's users have changed: by a difference, or by a new state. */
  presence: [presence: Presence<any>, change: PresenceDiff<any> | null];
  "presence.page": [page: PresencePage<any>];
  notification: [notification: Notification<any>];
  unread: [unread: number];
  acked: [acked: Acked];
  refreshed: [refreshed: Refreshed];
  error: [error: ServerError];
}

export interface Connection {
  readonly state: State;
  /** The number of unacknowledged notifications, as far as the client knows. */
  readonly unread: number;
  /** The number of messages that wait for the connection to open. */
  readonly queued: number;
  /** Calls `listener` with every event of this type; returns a function that removes the listener. */
  on<Type extends keyof Events>(type: Type, listener: (...values: Events[Type]) => unknown): () => void;
  /** Calls `listener` with every message of the application that has this `type`. */
  on(type: string, listener: (message: any) => unknown): () => void;
  /** Calls `listener` with every new state; returns a function that removes the listener. */
  onState(listener: (state: State, detail: StateDetail) => unknown): () => void;
  /** Sends a value as JSON, or queues it until the connection is open. Throws a `SendError` if it is refused. */
  send(value: unknown): "sent" | "queued";
  /** Sends text or bytes unchanged; returns and throws as `send`. */
  sendRaw(data: string | ArrayBuffer | ArrayBufferView | Blob): "sent" | "queued";
  /** Acknowledges a notification. */
  ack(notificationId: number): void;
  /** The last known users of a group; null before the first state. */
  presence(group: string): Presence<any> | null;
  /** Asks for a page of a group's users; the answer is the event `presence.page`. Returns whether it was sent. */
  requestPresence(group: string, page?: { after?: string; limit?: number }): boolean;
  /** Renews the token; returns a promise of the new token's expiry (Unix time, in milliseconds). */
  refresh(token: string): Promise<number>;
  /** Forgets a group's position and presence: its messages are not recovered. */
  forget(group: string): void;
  /** Closes for good. */
  close(code?: number, reason?: string): void;
}

/** Why a message was refused. */
export class SendError extends Error {
  constructor(reason: "full" | "offline" | "closed", text: string);
  readonly reason: "full" | "offline" | "closed";
}

/** Opens a connection that reconnects by itself. The address is relative to the page; http is converted to ws. */
export function connect(url: string | URL, options?: Options): Connection;
