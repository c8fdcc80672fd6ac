/** What goes over the socket of the notifications, beside what the client in `fanfare.js` takes care of. */

import type {
  ClientMessage as Request,
  Joined,
  Notification,
  PresenceDiff,
  PresencePage,
  PresenceState,
  Acked,
  Refreshed,
  ServerError,
  Skip,
  Unread,
} from "./fanfare.js";

/** How much a notification matters: a low one goes first when there is no room for all. */
export type Priority = "low" | "normal" | "high";

/** What a notification says. */
export interface Data {
  /** Whose token it was sent with. */
  from: string;
  text: string;
  /** It was for everybody. */
  everybody: boolean;
}

/** A notification for this user. It comes again to each connection until it is acknowledged. */
export interface Told extends Notification<Data> {
  priority: Priority;
}

/** What became of a notification, and the answer of `POST /notify`. */
export interface Outcome {
  /** When it was for everybody, the lowest of their copies' ids; null when there was nobody. */
  notification_id: number | null;
  /** How many connections took it. */
  delivered: number;
  /** It waits for somebody who is away. */
  queued: boolean;
  /** For how many people it waits. */
  waiting: number;
  /** How many people do not get it. */
  failed: number;
}

/** Where a message is in the history of the group. */
interface Place {
  group: string;
  offset: number;
}

/** To everybody who is here: who has notified whom, and what became of it. */
export interface Audit extends Place {
  type: "audit";
  from: string;
  /** A name, or `*`. */
  to: string;
  priority: Priority;
  /** Unix time, in milliseconds. */
  time: number;
  /** Null when sending it failed before anything was known. */
  outcome: Outcome | null;
}

/** To everybody who is here: a notification has gone, and its user has not read it. */
export interface Dropped extends Place {
  type: "dropped";
  user: string;
  notification_id: number;
  /** Its user's queue was full of what mattered as much or more, or its time was over. */
  reason: "evicted" | "expired";
}

/** All that waits, up to this one, is read. */
export interface ReadUpTo {
  type: "read_up_to";
  notification_id: number;
}

/** Everything that the server sends. */
export type ServerMessage =
  | Joined
  | Skip
  | PresenceState
  | PresenceDiff
  | PresencePage
  | Told
  | Unread
  | Acked
  | Refreshed
  | ServerError
  | Audit
  | Dropped;

/** Everything that a client sends. */
export type ClientMessage = Request | ReadUpTo;
