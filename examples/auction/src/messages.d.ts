/** The messages of the auction. Amounts are whole cents, times are milliseconds by the server's clock. */

import type { ClientMessage as AnyClientMessage, ServerMessage as AnyServerMessage, Notification } from "./fanfare.js";

export type Status = "open" | "closing" | "closed";

/** A bid that was accepted. */
export interface AcceptedBid {
  /** Of its lot's bids, from 1 without gaps. */
  seq: number;
  /** What its client calls it. */
  id: string;
  user: string;
  amount: number;
  time: number;
}

/** Something to bid for. */
export interface Lot {
  id: number;
  title: string;
  /** Nobody, for a lot of the house. */
  seller: string | null;
  opening: number;
  closes: number;
  /** A bid in the last so many milliseconds moves the closing time to so many from then. */
  soft_close: number;
  status: Status;
  /** The least that the next bid has to be; null when none will do. */
  least: number | null;
  /** The last ones, in order: the very last leads, or has won. */
  bids: AcceptedBid[];
  /** Your own highest bid. */
  yours: number | null;
}

// What the server sends.

/** All lots there are: comes first, and once more when something happened meanwhile. */
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

/** A bid was accepted, and leads. To all; to its bidder again when it is sent again. */
export type NewBid = AcceptedBid & {
  type: "bid";
  lot: number;
  closes: number;
  least: number | null;
};

/** A bid was refused: to its bidder alone. */
export interface Refused {
  type: "refused";
  lot: number;
  id: string;
  amount: number;
  reason: string;
  /** The least amount that would do; null when none will. */
  least: number | null;
}

/** A lot is in its last seconds. */
export interface StatusUpdate {
  type: "status";
  lot: number;
  status: Status;
  closes: number;
}

/** A lot is closed: who has it, if anybody bid, and for how much. */
export interface Closed {
  type: "closed";
  lot: number;
  winner: string | null;
  amount: number | null;
}

/** The server's clock, as it was between the client's question and now. */
export interface TimeAnswer {
  type: "time";
  sent: number;
  now: number;
}

/** What a notification says: you were outbid, you have won or lost, your own lot has ended. */
export interface News {
  news: "outbid" | "won" | "lost" | "ended";
  lot: number;
  title: string;
  /** The price then; null when nobody bid. */
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

/** A bid. Sent again with the same id it is the same bid, and counts once. */
export interface Bid {
  type: "bid";
  lot: number;
  /** 1 to 64 characters, unique among the user's bids. */
  id: string;
  amount: number;
}

/** What time is it? `sent` is the client's own clock, whatever it counts from. */
export interface Time {
  type: "time";
  sent: number;
}

export type ClientMessage = Bid | Time | AnyClientMessage;
