/** The messages between the server and the page of a document. */

import type { PresenceDiff, PresencePage, PresenceState, ServerError } from "./fanfare.js";

/**
 * One change: at a position, deletes a number of UTF-16 code units and inserts a text. In a list, each change applies
 * to the result of the one before.
 */
export type Change = [position: number, deleted: number, inserted: string];

/**
 * The current text: the first message of a connection, and the answer after `reload` and `refused`. It includes all
 * edits that arrive before it on the same connection.
 */
export interface Initial {
  type: "initial";
  content: string;
  /** Increases by one with every edit. */
  version: number;
  /** The number of this session's last edit that is in it; 0 before the first. */
  edit: number;
}

/** An edit of this session is in the text, and on the server's disk. */
export interface Applied {
  type: "applied";
  edit: number;
  version: number;
  /** The edit's changes, relative to the version before. */
  changes: Change[];
}

/** Another session has edited, or any session has restored an old version. */
export interface Edited {
  type: "edit";
  user: string;
  session: string;
  changes: Change[];
  version: number;
  /** Unix time, in milliseconds. */
  timestamp: number;
}

/** An edit was refused or, with number 0, another request. The current text follows. */
export interface Refused {
  type: "refused";
  edit: number;
  error: string;
}

/** The caret of another session and the other end of its selection; null when the page is gone. */
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

/** Edits the text of a version: one edit at a time, numbered from 1 on. A repeated edit is made once. */
export interface Edit {
  type: "edit";
  edit: number;
  version: number;
  /** 1 to 32 of them. */
  changes: Change[];
}

/** The caret's position in the text of a version. */
export interface Cursor {
  type: "cursor";
  position: number;
  anchor: number;
  version: number;
}

/** Restores the text of a version. */
export interface Restore {
  type: "restore";
  version: number;
}

/** Asks for the current text. */
export interface Reload {
  type: "reload";
}

export type ClientMessage = Edit | Cursor | Restore | Reload;

// Over HTTP, with a token.

/** Consecutive edits of one user without a long pause: the versions `from` to `to`. */
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
  /** The oldest kept version: those before it are merged into one text. */
  oldest: number;
}

/** `GET /collab/{document}/at/{version}` */
export interface At {
  content: string;
  version: number;
}
