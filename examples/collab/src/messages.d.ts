/** What goes over the wire between a document and its page. */

import type { PresenceDiff, PresencePage, PresenceState, ServerError } from "./fanfare.js";

/**
 * One change: at this position so many UTF-16 code units go, and this comes. In a list each one is made in what the one
 * before has left.
 */
export type Change = [position: number, deleted: number, inserted: string];

/**
 * The text as it is: for who connects, after `reload`, and after `refused`. What comes before it, on a connection that is
 * new or has asked for it, is in it.
 */
export interface Initial {
  type: "initial";
  content: string;
  /** One more with every edit. */
  version: number;
  /** The number of this session's last edit that is in it; 0 before the first. */
  edit: number;
}

/** An edit of this session is in the text, and on the server's disk. */
export interface Applied {
  type: "applied";
  edit: number;
  version: number;
  /** What it has become in the version before. */
  changes: Change[];
}

/** Somebody else has edited, or somebody has restored an old version. */
export interface Edited {
  type: "edit";
  user: string;
  session: string;
  changes: Change[];
  version: number;
  /** Unix time, in milliseconds. */
  timestamp: number;
}

/** An edit was not taken, or with the number 0 something else that was asked for. The text follows. */
export interface Refused {
  type: "refused";
  edit: number;
  error: string;
}

/** Where somebody else's caret is, and the other end of what is selected; null when the page is gone. */
export interface TheirCursor {
  type: "cursor";
  user: string;
  session: string;
  position: number | null;
  anchor: number;
  version: number;
}

export type ServerMessage =
  | Initial
  | Applied
  | Edited
  | Refused
  | TheirCursor
  | PresenceState
  | PresenceDiff
  | PresencePage
  | ServerError;

/** Edits the text of a version: one edit at a time, numbered from 1 on. The same one twice is made once. */
export interface Edit {
  type: "edit";
  edit: number;
  version: number;
  /** 1 to 32 of them. */
  changes: Change[];
}

/** Where the caret is, in the text of a version. */
export interface Cursor {
  type: "cursor";
  position: number;
  anchor: number;
  version: number;
}

/** Makes the text what it was at a version. */
export interface Restore {
  type: "restore";
  version: number;
}

/** Asks for the text. */
export interface Reload {
  type: "reload";
}

export type ClientMessage = Edit | Cursor | Restore | Reload;

// Over HTTP, with a token.

/** What one person did in one go: the versions `from` to `to`. */
export interface Entry {
  user: string;
  from: number;
  to: number;
  /** Unix time of the first edit and of the last one, in milliseconds. */
  begun: number;
  time: number;
}

/** `GET /collab/{document}/history?before=&limit=`: the latest first. */
export interface History {
  entries: Entry[];
  /** The first version that can be looked at: those before are one text. */
  oldest: number;
}

/** `GET /collab/{document}/at/{version}` */
export interface At {
  content: string;
  version: number;
}
