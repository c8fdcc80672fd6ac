/** The messages of the auction. Amounts are whole cents, times are milliseconds by the server's clock. */

import type { ClientMessage as AnyClientMessage, ServerMessage as AnyServerMessage, Notification } from "./fanfare.js";

export type Status = "open" | "closing" | "closed";

/** A bid that was accepted. */
export interface AcceptedBid {
  /** The bid's number in its lot, from 1 without gaps. */
  seq: number;
  /** The client's own id for the bid. */
  id: string;
  user: string;
  amount: number;
  time: number;
}

/** A lot. */
export interface Lot {
  id: number;
  title: string;
  /** Null for a lot of the house. */
  seller: string | null;
  opening: number;
  closes: number;
  /** A bid less than this many milliseconds before the closing time moves that time to this long after the bid. */
  soft_close: number;
  status: Status;
  /** The least amount of the next bid; null when no bid is accepted. */
  least: number | null;
  /** The last bids, in order: the last one leads, or has won. */
  bids: AcceptedBid[];
  /** Your own highest bid. */
  yours: number | null;
}

// What the server sends.

/** All lots: the first message of a connection, sent again if a lot changed meanwhile. */
export interface Lots {
  type: "lots";
  lots: Lot[];
  now: number;
}

/** A lot was opened. */
export interface NewLot {
  type: "lot";
  lot: Lot;
}

/** A bid was accepted, and leads. Sent to all clients; again to its bidder if the bid is repeated. */
export type NewBid = AcceptedBid & {
  type: "bid";
  lot: number;
  closes: number;
  least: number | null;
};

/** A bid was refused: sent to its bidder only. */
export interface Refused {
  type: "refused";
  lot: number;
  id: string;
  amount: number;
  reason: string;
  /** The least amount that would be accepted; null if there is none. */
  least: number | null;
}

/** A lot is in its last seconds. */
export interface StatusUpdate {
  type: "status";
  lot: number;
  status: Status;
  closes: number;
}

/** A lot is closed: the winner and the price, or null for both if there was no bid. */
export interface Closed {
  type: "closed";
  lot: number;
  winner: string | null;
  amount: number | null;
}

/** The server's clock at a moment between the client's request and the arrival of this answer. */
export interface TimeAnswer {
  type: "time";
  sent: number;
  now: number;
}

/** The content of a notification: the user was outbid, has won or lost, or the user's own lot has ended. */
export interface News {
  news: "outbid" | "won" | "lost" | "ended";
  lot: number;
  title: string;
  /** The price at that time; null if there was no bid. */
  amount: number | null;
}

export type ServerMessage =
  | Lots
  | NewLot
  | NewBid
  | Refused
  | StatusUpdate
  | Closed
  | TimeAnswer
  | Notification<News>
  | Exclude<AnyServerMessage, Notification>;

// What the client sends.

/** A bid. A repetition with the same id counts once. */
export interface Bid {
  type: "bid";
  lot: number;
  /** 1 to 64 characters, unique among the user's bids. */
  id: string;
  amount: number;
}

/** Asks for the server's time. `sent` is the client's own clock, with any starting point. */
export interface Time {
  type: "time";
  sent: number;
}

export type ClientMessage = Bid | Time | AnyClientMessage;
