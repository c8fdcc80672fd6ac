/** Types of fanfare's client for browsers: see fanfare.js for how it is used, and fanfare's page `protocol`. */

/** A place in a group's history: the last message that was seen. */
export interface Position {
  epoch: number;
  offset: number;
}

// What the server sends.

/** The connection has joined a group with a history; what it has missed comes next. */
export interface Joined {
  type: "joined";
  group: string;
  epoch: number;
  /** The last offset of the group at the join. */
  offset: number;
  /** What is replayed is all that was missed. */
  recovered: boolean;
  replayed: number;
}

/** What is known of a user in a group. */
export interface PresentUser<Info = unknown> {
  info?: Info;
  connections: number;
  /** Unix time, in milliseconds. */
  since: number;
}

export type NamedUser<Info = unknown> = PresentUser<Info> & { user: string };

/** Who is in a group: a page of the state. */
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

/** Who has come and gone since the version before. */
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

/** The answer to a request for a page of users. */
export interface PresencePage<Info = unknown> {
  type: "presence.page";
  group: string;
  count: number;
  users: NamedUser<Info>[];
  more: boolean;
}

/** Something that the user is not to miss. */
export interface Notification<Data = unknown> {
  type: "notification";
  notification_id: number;
  priority: string;
  /** Unix time, in milliseconds. */
  time: number;
  data: Data;
}

/** How many notifications wait, when the connection begins. */
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

/** The connection goes on with the new token. */
export interface Refreshed {
  type: "refreshed";
  /** Unix time, in milliseconds. */
  expires: number;
}

/** What was asked for failed. */
export interface ServerError {
  type: "error";
  error: string;
  notification_id?: number;
}

/** In place of a message that leaves this client out. The client takes note of the offset; a page need not. */
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

// What a client sends. The client does it by itself, or by a method.

export interface Ack {
  type: "ack";
  notification_id: number;
}

export interface PresenceRequest {
  type: "presence";
  group: string;
  /** Users behind this one. */
  after?: string;
  limit?: number;
}

export interface Refresh {
  type: "refresh";
  token: string;
}

/** Every message of the protocol that a client sends. */
export type ClientMessage = Ack | PresenceRequest | Refresh;

// What the client makes of them.

/** Who is in a group, as last heard. It changes as the group does; do not change it. */
export interface Presence<Info = unknown> {
  readonly group: string;
  readonly epoch: number;
  readonly version: number;
  /** How many users there are, also when not all of them are known. */
  readonly count: number;
  /** By the user's id: at most 1000, and of a larger group the first 100. */
  readonly users: ReadonlyMap<string, PresentUser<Info>>;
  /** All users are known. */
  readonly complete: boolean;
  /** It was heard on this connection: false while that is gone, and until the group's new state is there. */
  readonly live: boolean;
}

/** Messages of a group were missed, and are not to be had any more: all after `from`, up to `to`. */
export interface Gap {
  group: string;
  from: Position;
  /** If its epoch is another, the group has begun anew, and nobody knows how many were missed. */
  to: Position;
}

export type State = "connecting" | "open" | "waiting" | "closed";

/** What there is to know of a new state. */
export interface StateDetail {
  /** "connecting", "waiting": attempts since the connection was last stable. */
  attempt?: number;
  /** "waiting", "closed": how the connection ended; 1006 when it broke or was refused. */
  code?: number;
  reason?: string;
  /** "waiting", "closed": what was thrown, by the token function say. */
  error?: unknown;
  /** "waiting": milliseconds to the next attempt. */
  delay?: number;
  /** "closed": how many messages still waited to be sent. They are dropped. */
  unsent?: number;
}

/** How the last connection ended, for the token function. */
export interface LastClose {
  /** 4401 when the token was refused or has expired; null at the first attempt, and after the server was reached. */
  code: number | null;
  attempt: number;
}

type Token = string | null | undefined;

export interface Options {
  /** Whose connection it is. A function is asked at each attempt; a string is given up when it is refused (4401). */
  token?: string | ((last: LastClose) => Token | Promise<Token>);
  /** More subprotocols to offer. */
  protocols?: string[];
  /**
   * How long to wait between attempts, in milliseconds: a random time up to `base` (500), doubled each time up to
   * `cap` (30 000). It begins anew when a connection was open for `stable` (10 000).
   */
  backoff?: { base?: number; cap?: number; stable?: number };
  /** After how long an attempt is given up, in milliseconds; 15 000 by default. */
  openTimeout?: number;
  /** After how long a silence the connection is given up, in milliseconds; never by default. Pings are not heard. */
  silence?: number;
  /**
   * What may wait while the connection is not open: 64 messages, 262 144 characters or bytes. More is refused. With
   * `false` nothing waits.
   */
  queue?: false | { messages?: number; size?: number };
  /** How many bytes may wait in the browser for an open connection; 1 048 576 by default. */
  maxBuffered?: number;
  /** Whether to come back after a close; undefined leaves it to the rule of the protocol. */
  reconnect?: (close: { code: number; reason: string }) => boolean | undefined;
  /**
   * What to do when an offset is skipped: "recover", the default, comes back for the message; "report" goes on after a
   * `gap`. It is for groups whose server means to leave messages out: by `except`, or an overflow rule that drops some.
   */
  skips?: "recover" | "report";
  /** Acknowledges a notification when its listeners have returned (and their promises are kept). */
  autoAck?: boolean;
  /** Keeps positions in `sessionStorage` under this name, so that a reload recovers. Another one for each user. */
  keep?: string;
}

/** The client's own events, and those of the protocol. */
export interface Events {
  /** Every message of the application: a JSON value, or text that is none. */
  message: [message: any];
  binary: [data: ArrayBuffer];
  joined: [joined: Joined];
  gap: [gap: Gap];
  /** Who is in a group has changed: by a difference, or by a new state. */
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
  /** How many notifications are not acknowledged, as far as is known. */
  readonly unread: number;
  /** How many messages wait for the connection to open. */
  readonly queued: number;
  /** Calls `listener` with every such event; returns a function that ends that. */
  on<Type extends keyof Events>(type: Type, listener: (...values: Events[Type]) => unknown): () => void;
  /** Calls `listener` with every message of the application that has this `type`. */
  on(type: string, listener: (message: any) => unknown): () => void;
  /** Calls `listener` with every new state; returns a function that ends that. */
  onState(listener: (state: State, detail: StateDetail) => unknown): () => void;
  /** Sends a value as JSON, or has it wait for the connection. Throws a `SendError` when it is not taken. */
  send(value: unknown): "sent" | "queued";
  /** Sends text or bytes as they are. */
  sendRaw(data: string | ArrayBuffer | ArrayBufferView | Blob): "sent" | "queued";
  /** Acknowledges a notification. */
  ack(notificationId: number): void;
  /** Who is in a group, as last heard; null before anything was. */
  presence(group: string): Presence<any> | null;
  /** Asks who is in a group, a page at a time: the event `presence.page` has the answer. Returns whether it was sent. */
  requestPresence(group: string, page?: { after?: string; limit?: number }): boolean;
  /** Goes on with a new token: a promise of when that expires. */
  refresh(token: string): Promise<number>;
  /** Forgets what was seen of a group: it is not to be recovered. */
  forget(group: string): void;
  /** Closes for good. */
  close(code?: number, reason?: string): void;
}

/** Why a message was not taken. */
export class SendError extends Error {
  constructor(reason: "full" | "offline" | "closed", text: string);
  readonly reason: "full" | "offline" | "closed";
}

/** Opens a connection that comes back by itself. The address is relative to the page, and http may stand for ws. */
export function connect(url: string | URL, options?: Options): Connection;
