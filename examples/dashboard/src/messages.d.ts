// The messages between the dashboard's server and page, besides the library's own.

import type { PresenceDiff, PresencePage, PresenceState, Refreshed, ServerError } from "./fanfare.js";

/** A time, as ISO 8601 in UTC, with milliseconds. */
export type Time = string;

/** Constant facts about the machine. */
export interface Machine {
  name: string | null;
  system: string | null;
  cores: number;
  /** Bytes. */
  memory: number;
}

/** All figures at one time. A figure is named by its path: `machine.cpu`. */
export interface Reading {
  machine: {
    /** Percent of all cores. */
    cpu: number;
    /** Percent not available to programs. */
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
    /** Connections with a visible page. */
    viewers: number;
    /** Messages per second, to and from all connections. */
    sent: number;
    received: number;
    /** Messages that wait for slow viewers now. */
    waiting: number;
    /** Messages that slow viewers did not get since the server started, each replaced by a later value. */
    dropped: number;
  };
}

/** A reading, and when it was taken. */
export interface Taken {
  data: Reading;
  timestamp: Time;
}

/** The latest value of a posted metric. */
export interface Metric {
  name: string;
  value: number;
  /** The user who posted it. */
  by: string;
  timestamp: Time;
}

/** The limit of a threshold: one of the two fields is present. */
export interface Limit {
  above?: number;
  below?: number;
}

export interface Threshold extends Limit {
  metric: string;
  by: string;
  /** Whether the limit is passed now. */
  raised: boolean;
}

/** A metric has crossed its threshold, in either direction. */
export interface Alert extends Limit {
  metric: string;
  value: number;
  raised: boolean;
  timestamp: Time;
}

/** The thresholds, and the last 50 alerts, latest first. */
export interface Watch {
  thresholds: Threshold[];
  alerts: Alert[];
}

/** The whole board. */
export interface Snapshot extends Watch {
  machine: Machine;
  /** The readings of the last two minutes with viewers, latest first. */
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

/** A value was posted. */
export interface MetricPosted {
  type: "metric";
  data: Metric;
  timestamp: Time;
}

/** A threshold was set, removed or crossed. Replaces all earlier thresholds and alerts. */
export interface WatchChanged {
  type: "watch";
  data: Watch;
  timestamp: Time;
}

/** The presence info of each user, in the group `people`. */
export interface Activity {
  page: PageName;
  /** The time of the last input. */
  active: Time;
  /** Whether the page is hidden. */
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

/** The user moves the mouse, or types. */
export interface Active {
  type: "active";
}

/** The page is hidden: no more updates. */
export interface Pause {
  type: "pause";
}

/** The page is visible again: `initial`, then updates. */
export interface Resume {
  type: "resume";
}

export type ClientMessage = PageShown | Active | Pause | Resume;
