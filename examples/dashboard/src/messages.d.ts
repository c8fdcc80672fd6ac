// What the dashboard's server and page send one another, besides the library's own messages.

import type { PresenceDiff, PresencePage, PresenceState, Refreshed, ServerError } from "./fanfare.js";

/** A moment, as ISO 8601 in UTC, with milliseconds. */
export type Time = string;

/** What does not change. */
export interface Machine {
  name: string | null;
  system: string | null;
  cores: number;
  /** Bytes. */
  memory: number;
}

/** All figures of one moment. One of them is named as it is reached: `machine.cpu`. */
export interface Reading {
  machine: {
    /** Percent of all cores. */
    cpu: number;
    /** Percent that is not available to programs. */
    memory: number;
    /** Programs that want to run, on average over a minute. */
    load: number;
    /** Bytes per second over all interfaces, the loopback too. */
    received: number;
    sent: number;
  };
  /** Percent of each core. */
  cores: number[];
  process: {
    /** Percent of one core. */
    cpu: number;
    /** Resident bytes. */
    memory: number;
  };
  library: {
    /** Open WebSockets. */
    connections: number;
    /** Those of them that look: a hidden page does not. */
    viewers: number;
    /** Messages per second, to and from all connections. */
    sent: number;
    received: number;
    /** Messages that wait for slow viewers now. */
    waiting: number;
    /** Messages that slow viewers did not get since the server began: there was a later value behind each. */
    dropped: number;
  };
}

/** A reading, and when it was taken. */
export interface Taken {
  data: Reading;
  timestamp: Time;
}

/** The latest value of a metric that is not measured here. */
export interface Metric {
  name: string;
  value: number;
  /** Who posted it, as its token said. */
  by: string;
  timestamp: Time;
}

/** What a value should not be: one of the two is there. */
export interface Limit {
  above?: number;
  below?: number;
}

export interface Threshold extends Limit {
  metric: string;
  by: string;
  /** It is passed now. */
  raised: boolean;
}

/** A threshold was passed, or its metric has come back. */
export interface Alert extends Limit {
  metric: string;
  value: number;
  raised: boolean;
  timestamp: Time;
}

/** What is watched, and the last 50 alerts, the latest first. */
export interface Watch {
  thresholds: Threshold[];
  alerts: Alert[];
}

/** All that is shown. */
export interface Snapshot extends Watch {
  machine: Machine;
  /** Of the last two minutes in which anybody looked, the latest first. */
  readings: Taken[];
  metrics: Metric[];
}

/** Comes first, and after each `resume`. */
export interface Initial {
  type: "initial";
  data: Snapshot;
  timestamp: Time;
}

/** Comes each second. */
export interface Update extends Taken {
  type: "update";
}

/** Somebody posted a value. */
export interface MetricPosted {
  type: "metric";
  data: Metric;
  timestamp: Time;
}

/** A threshold was set, removed, passed or left. It replaces all that was known of them. */
export interface WatchChanged {
  type: "watch";
  data: Watch;
  timestamp: Time;
}

/** What the library's presence says of each user, in the group `people`. */
export interface Activity {
  page: PageName;
  /** The last sign of life. */
  active: Time;
  /** Its page is not seen. */
  hidden: boolean;
}

export type ServerMessage =
  | Initial
  | Update
  | MetricPosted
  | WatchChanged
  | PresenceState<Activity>
  | PresenceDiff<Activity>
  | PresencePage<Activity>
  | Refreshed
  | ServerError;

export type PageName = "overview" | "activity" | "alerts";

/** This client shows another page. */
export interface PageShown {
  type: "page";
  page: PageName;
}

/** Somebody moves the mouse, or types. */
export interface Active {
  type: "active";
}

/** Nobody sees the page: no more updates. */
export interface Pause {
  type: "pause";
}

/** It is seen again: `initial`, and updates. */
export interface Resume {
  type: "resume";
}

export type ClientMessage = PageShown | Active | Pause | Resume;
