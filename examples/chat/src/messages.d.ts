/** The messages between the chat server and its page. */

import type { Joined, PresenceDiff, PresencePage, PresenceState, ServerError, Skip } from "./fanfare.js";

/** The first message of a connection: the id that this client's own messages carry. */
export interface Welcome {
  type: "welcome";
  id: string;
}

/** All missed messages have been sent. A message of this client that is not among them did not arrive. */
export interface Ready {
  type: "ready";
}

/** A user has sent a message to the room. */
export interface Message {
  type: "message";
  room: string;
  /** The sender's id, the same for all tabs of a browser. */
  id: string;
  from: string;
  text: string;
  /** The sender's own id for the message. */
  nonce?: string;
  /** Unix time, in milliseconds. */
  time: number;
  group: string;
  offset: number;
}

/** The presence info of a user. */
export interface Info {
  name: string;
  typing: boolean;
}

export type ServerMessage =
  | Welcome
  | Ready
  | Message
  | Joined
  | Skip
  | PresenceState<Info>
  | PresenceDiff<Info>
  | PresencePage<Info>
  | ServerError;

/** Sends a message of 1 to 8000 characters to the room. */
export interface Say {
  type: "say";
  text: string;
  /** An id of 1 to 40 characters. It comes back with the message; a second message with the same id is dropped. */
  nonce?: string;
}

/** The user has started or stopped typing. */
export interface Typing {
  type: "typing";
  typing: boolean;
}

export type ClientMessage = Say | Typing;
