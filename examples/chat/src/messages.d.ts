/** What goes over the wire between the chat and its page. */

import type { Joined, PresenceDiff, PresencePage, PresenceState, ServerError, Skip } from "./fanfare.js";

/** The connection begins, and who this is: the id that stands at its own messages. */
export interface Welcome {
  type: "welcome";
  id: string;
}

/** All that was missed has come. What was said before, and is not among it, has not arrived. */
export interface Ready {
  type: "ready";
}

/** Somebody has said something. */
export interface Message {
  type: "message";
  room: string;
  /** Who: the same for all tabs of a browser. */
  id: string;
  from: string;
  text: string;
  /** What its author called it. */
  nonce?: string;
  /** Unix time, in milliseconds. */
  time: number;
  group: string;
  offset: number;
}

/** What is known of somebody who is here. */
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

/** Says something to the room: 1 to 8000 characters. */
export interface Say {
  type: "say";
  text: string;
  /** Any name for it of 1 to 40 characters: it comes back with it, and is not said twice by that name. */
  nonce?: string;
}

/** Begins to type, or ends. */
export interface Typing {
  type: "typing";
  typing: boolean;
}

export type ClientMessage = Say | Typing;
