/** The messages between the server and the page, besides those that the client in `fanfare.js` handles. */

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

/** The urgency of a notification: when a queue is full, low ones are dropped first. */
export type Priority = "low" | "normal" | "high";

/** The content of a notification. */
export interface Data {
  /** The user who sent it. */
  from: string;
  text: string;
  /** Whether it was sent to everyone. */
  everybody: boolean;
}

/** A notification for this user. It comes again to each connection until it is acknowledged. */
export interface Told extends Notification<Data> {
  priority: Priority;
}

/** The outcome of a notification, and the answer of `POST /notify`. */
export interface Outcome {
  /** For a notification to everyone, the lowest id of the copies; null when there were no recipients. */
  notification_id: number | null;
  /** How many connections accepted it. */
  delivered: number;
  /** Whether it waits for a user who is away. */
  queued: boolean;
  /** For how many users it waits. */
  waiting: number;
  /** How many users do not get it. */
  failed: number;
}

/** Where a message is in the history of the group. */
interface Place {
  group: string;
  offset: number;
}

/** To all connected clients: a user has sent a notification, with this outcome. */
export interface Audit extends Place {
  type: "audit";
  from: string;
  /** A name, or `*`. */
  to: string;
  priority: Priority;
  /** Unix time, in milliseconds. */
  time: number;
  /** Null when sending failed before there was an outcome. */
  outcome: Outcome | null;
}

/** To all connected clients: a notification was dropped before its user read it. */
export interface Dropped extends Place {
  type: "dropped";
  user: string;
  notification_id: number;
  /** The user's queue was full of notifications at least as urgent, or the notification was too old. */
  reason: "evicted" | "expired";
}

/** The user has read all waiting notifications up to this one. */
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
