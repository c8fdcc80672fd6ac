/**
 * The dashboard's page: shows the server's figures, and reports the user's page and activity.
 *
 * @import { Activity, Alert, ClientMessage, Initial, Limit, Metric, MetricPosted, PageName, Reading, Taken, Threshold,
 *   Update, Watch, WatchChanged } from "./messages.js"
 * @import { PresentUser } from "./fanfare.js"
 */

import { connect } from "./fanfare.js";
import { $, element, face, showState, signIn } from "./start.js";

/** The least and the greatest time span of a chart, in milliseconds. */
const [SHORTEST, LONGEST] = [30_000, 120_000];
/** Lines are interrupted over longer gaps, in milliseconds: there were no viewers then. */
const GAP = 3_000;
/** A user without input for this long is idle, in milliseconds. */
const IDLE = 15_000;
/** The least time between two `active` messages, in milliseconds. */
const SIGN = 5_000;

/** @typedef {(value: number) => string} Format */
/** @typedef {{ time: number, value: number }} Point */
/** A colour is a CSS variable's name or a CSS colour. @typedef {{ colour: string, points: Point[], area?: boolean, dashed?: boolean, sparse?: boolean }} Line */

/** Three significant digits; whole numbers in full. @type {Format} */
const number = (value) =>
  Math.abs(value) >= 1e9 || (value && Math.abs(value) < 1e-3)
    ? value.toExponential(2)
    : value.toLocaleString("en", Math.abs(value) < 100 ? { maximumSignificantDigits: 3 } : { maximumFractionDigits: 0 });
/** @type {Format} */
const percent = (value) => `${value.toFixed(value > 0 && value < 10 ? 1 : 0)} %`;
/** @type {Format} */
const bytes = (value) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const unit = Math.min(Math.floor(Math.log2(Math.max(value, 1)) / 10), units.length - 1);
  const size = value / 1024 ** unit;
  return `${size.toFixed(size < 9.95 && unit > 0 && size % 1 ? 1 : 0)} ${units[unit]}`;
};
/** @type {Format} */
const rate = (value) => `${bytes(value)}/s`;

/**
 * The figures that have a tile and can have a threshold.
 *
 * @type {[string, string, Format, (reading: Reading) => string][]}
 */
const FIGURES = [
  ["machine.cpu", "CPU", percent, ({ cores }) => `${cores.length} cores`],
  ["machine.memory", "Memory", percent, ({ machine }) => `of ${bytes(here.memory)}, ${percent(100 - machine.memory)} free`],
  ["machine.load", "Load", number, () => "over a minute"],
  ["machine.received", "Network in", rate, () => "all interfaces"],
  ["process.cpu", "Process CPU", percent, () => "of one core"],
  ["process.memory", "Process memory", bytes, () => "resident"],
  ["library.connections", "Connections", number, ({ library }) => `${number(library.viewers)} looking`],
  ["library.sent", "Messages sent", (value) => `${number(value)}/s`, ({ library }) => `${number(library.waiting)} waiting, ${number(library.dropped)} skipped`],
];

const session = await signIn();

/** The server's latest data. Readings are oldest first. */
let here = { memory: 0 };
/** @type {Taken[]} */
let readings = [];
/** @type {Watch} */
let watch = { thresholds: [], alerts: [] };
/** Posted metrics by name, with their values so far. @type {Map<string, { latest: Metric, points: Point[] }>} */
const metrics = new Map();
/** @type {PageName} */
let page = "overview";
let heard = performance.now();
/** The state that the lists of alerts show. @type {Watch | null} */
let shown = null;

const connection = connect("/dashboard", { token: session.token });
showState(connection);

/** Sends a message only while connected: it would be out of date later. */
const tell = (/** @type {ClientMessage} */ message) => {
  if (connection.state === "open") connection.send(message);
};

connection.onState((state) => {
  if (state !== "open") return;
  tell({ type: "page", page });
  if (document.hidden) tell({ type: "pause" });
});

connection.on("initial", (/** @type {Initial} */ { data }) => {
  readings = data.readings.toReversed();
  watch = data;
  here = data.machine;
  const { name, system, cores, memory } = data.machine;
  $("machine").textContent = [name, system, `${cores} cores`, bytes(memory)].filter(Boolean).join(" · ");
  for (const name of metrics.keys()) if (!data.metrics.some((metric) => metric.name === name)) metrics.delete(name);
  for (const metric of data.metrics) add(metric);
  heard = performance.now();
  show();
});

connection.on("update", (/** @type {Update} */ { data, timestamp }) => {
  readings.push({ data, timestamp });
  $("machine").dataset.latest = timestamp;
  readings.splice(0, readings.length - LONGEST / 1000);
  heard = performance.now();
  show();
});

connection.on("metric", (/** @type {MetricPosted} */ { data }) => {
  add(data);
  show();
});

connection.on("watch", (/** @type {WatchChanged} */ { data }) => {
  watch = data;
  show();
});

connection.on("presence", showPeople);

// The user's activity.

document.addEventListener("visibilitychange", () => tell({ type: document.hidden ? "pause" : "resume" }));

let told = 0;
for (const sign of ["pointermove", "pointerdown", "keydown", "wheel"]) {
  document.addEventListener(sign, () => {
    if (performance.now() - told < SIGN) return;
    told = performance.now();
    tell({ type: "active" });
  }, { passive: true });
}

for (const tab of document.querySelectorAll("nav button")) {
  tab.addEventListener("click", () => {
    page = /** @type {PageName} */ (/** @type {HTMLElement} */ (tab).dataset.page);
    document.querySelector("nav [aria-current]").removeAttribute("aria-current");
    tab.setAttribute("aria-current", "page");
    for (const name of ["overview", "activity", "alerts"]) $(name).hidden = name !== page;
    tell({ type: "page", page });
    drawPage();
  });
}

// Requests to the server.

/** Sends a form's request, and shows a refusal beside the form. */
function onSubmit(/** @type {HTMLFormElement} */ form, /** @type {(fields: any) => Promise<unknown>} */ ask) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = form.querySelector(".problem");
    try {
      await ask(Object.fromEntries(new FormData(form)));
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
    }
  });
}

onSubmit($("post"), ({ name, value }) => session.ask("POST", "/metrics", { name, value: Number(value) }));
onSubmit($("threshold"), ({ metric, side, limit }) =>
  session.ask("POST", "/threshold", { metric, [side]: Number(limit) }));

// Display.

/** The server's time, in milliseconds: the browser's own clock may be wrong. */
function now() {
  const latest = readings.at(-1);
  return latest ? Date.parse(latest.timestamp) + performance.now() - heard : Date.now();
}

function add(/** @type {Metric} */ metric) {
  const known = metrics.get(metric.name) ?? { latest: metric, points: [] };
  const time = Date.parse(metric.timestamp);
  if (known.points.at(-1)?.time !== time) known.points.push({ time, value: metric.value });
  known.points.splice(0, known.points.length - 300);
  metrics.set(metric.name, { ...known, latest: metric });
}

/** The value of a figure in a reading, by its name. */
function figure(/** @type {Reading} */ reading, /** @type {string} */ name) {
  const [part, field] = name.split(".");
  return /** @type {any} */ (reading)[part][field];
}

const pointsOf = (/** @type {(reading: Reading) => number} */ value) =>
  readings.map(({ data, timestamp }) => ({ time: Date.parse(timestamp), value: value(data) }));

/** A metric's label, and the format of its values. @returns {[string, Format]} */
function named(/** @type {string} */ metric) {
  const known = FIGURES.find(([name]) => name === metric);
  return known ? [known[1], known[2]] : [metric, number];
}

let isDue = false;

/** Redraws the page with the next frame, once for all changes before it. */
function show() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    drawPage();
  });
}

function drawPage() {
  const raised = watch.thresholds.filter((threshold) => threshold.raised);
  $("raised").textContent = String(raised.length);
  $("raised").hidden = raised.length === 0;
  document.title = raised.length === 0 ? "Dashboard" : `(${raised.length}) Dashboard`;
  if (page === "overview") showOverview(new Set(raised.map(({ metric }) => metric)));
  if (page === "activity") showPeople();
  if (page === "alerts") showAlerts();
}

function showOverview(/** @type {Set<string>} */ raised) {
  const latest = readings.at(-1)?.data;
  if (latest) {
    for (const [name, label, format, more] of FIGURES) {
      const value = figure(latest, name);
      const box = tile($("tiles"), name, label, format(value), more(latest), raised.has(name));
      draw(box.querySelector("canvas"), [{ colour: "--first", points: pointsOf((reading) => figure(reading, name)), area: true }], format, true);
    }
    const cores = latest.cores.map((_, core) => ({
      colour: `hsl(${(205 + core * 137.5) % 360} 60% 52%)`,
      points: pointsOf((reading) => reading.cores[core]),
    }));
    showLegend(cores);
    draw($("cpu"), cores, percent, false, 100);
    draw($("network"), [
      { colour: "--first", points: pointsOf(({ machine }) => machine.received), area: true },
      { colour: "--second", points: pointsOf(({ machine }) => machine.sent), dashed: true },
    ], rate);
    draw($("messages"), [
      { colour: "--first", points: pointsOf(({ library }) => library.sent), area: true },
      { colour: "--second", points: pointsOf(({ library }) => library.received), dashed: true },
    ], number);
  }
  for (const box of $("metrics").querySelectorAll(".tile")) if (!metrics.has(box.dataset.name)) box.remove();
  for (const [name, { latest, points }] of metrics) {
    const more = `${latest.by}, ${new Date(latest.timestamp).toLocaleTimeString()}`;
    const box = tile($("metrics"), name, name, number(latest.value), more, raised.has(name));
    draw(box.querySelector("canvas"), [{ colour: "--second", points, area: true, sparse: true }], number, true);
  }
}

/** Updates the tile of this name, or makes it. @returns {HTMLElement} */
function tile(/** @type {HTMLElement} */ list, /** @type {string} */ name, /** @type {string} */ label, /** @type {string} */ value, /** @type {string} */ more, /** @type {boolean} */ alarm) {
  let box = /** @type {HTMLElement[]} */ ([...list.children]).find((child) => child.dataset.name === name);
  if (!box) {
    box = element("div", "tile");
    box.dataset.name = name;
    box.append(element("span", "name", label), element("span", "value"), element("span", "more"), element("canvas"));
    box.querySelector("canvas").setAttribute("aria-hidden", "true");
    list.append(box);
  }
  box.classList.toggle("alarm", alarm);
  box.querySelector(".value").textContent = value;
  box.querySelector(".more").textContent = more;
  return box;
}

function showLegend(/** @type {Line[]} */ cores) {
  if ($("cores").childElementCount > 0 || cores.length > 8) return;
  for (const [core, { colour }] of cores.entries()) {
    const dot = element("i");
    dot.style.background = colour;
    $("cores").append(dot, String(core));
  }
}

function showPeople() {
  const presence = connection.presence("people");
  $("people").textContent = presence ? String(presence.count) : "";
  if (page !== "activity" || !presence) return;
  const users = /** @type {Map<string, PresentUser<Activity>>} */ (presence.users);
  $("users").replaceChildren(...[...users].map(([user, { info, connections }]) => {
    const idle = Math.max(0, now() - Date.parse(info.active));
    const is = info.hidden ? "not looking" : idle < IDLE ? "active" : `idle for ${duration(idle)}`;
    const main = element("span", "main", user === session.user ? `${user} (you)` : user);
    main.append(element("p", "", `on ${info.page}${connections > 1 ? `, ${connections} devices` : ""}`));
    const item = element("li");
    item.dataset.user = user;
    item.append(face(user), main, element("span", "side", is), mark(info.hidden ? "none" : idle < IDLE ? "" : "wait"));
    return item;
  }));
}

const duration = (/** @type {number} */ time) => {
  const seconds = Math.floor(time / 1000);
  return seconds < 120 ? `${seconds} s` : seconds < 3600 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
};

const mark = (/** @type {string} */ kind) => element("span", `mark ${kind}`);

function showAlerts() {
  const select = $("threshold").elements.metric;
  const names = [...FIGURES.map(([name]) => name), ...metrics.keys()];
  // Only if they have changed, so that an open selection stays.
  if (names.join("\n") !== [...select.options].map(({ value }) => value).join("\n")) {
    const chosen = select.value;
    select.replaceChildren(...names.map((name) => new Option(named(name)[0], name, false, name === chosen)));
  }
  if (watch !== shown) {
    shown = watch;
    $("thresholds").replaceChildren(...watch.thresholds.map(thresholdItem));
    $("log").replaceChildren(...watch.alerts.map(alertItem));
    if (watch.alerts.length === 0) $("log").append(element("li", "", "No alerts yet."));
  }
  // Only the values change each second. The buttons stay, so that a click does not miss.
  const latest = readings.at(-1)?.data;
  for (const [index, { metric }] of watch.thresholds.entries()) {
    const known = FIGURES.some(([name]) => name === metric);
    const value = known && latest ? figure(latest, metric) : metrics.get(metric)?.latest.value;
    const text = value === undefined ? "" : `now ${named(metric)[1](value)}`;
    $("thresholds").children[index].querySelector(".side").textContent = text;
  }
}

function thresholdItem(/** @type {Threshold} */ threshold) {
  const item = element("li");
  const main = element("span", "main", `${named(threshold.metric)[0]} ${side(threshold)}`);
  main.append(element("p", "", `set by ${threshold.by}`));
  const remove = element("button", "quiet", "Remove");
  remove.addEventListener("click", async () => {
    const problem = $("threshold").querySelector(".problem");
    try {
      await session.ask("POST", "/threshold", { metric: threshold.metric, above: null });
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
    }
  });
  item.append(mark(threshold.raised ? "alarm" : ""), main, element("span", "side"), remove);
  return item;
}

function alertItem(/** @type {Alert} */ alert) {
  const [label, format] = named(alert.metric);
  const item = element("li");
  item.dataset.raised = String(alert.raised);
  const text = `${label} is ${alert.raised ? "" : "back at "}${format(alert.value)}${alert.raised ? `, ${side(alert)}` : ""}`;
  const time = element("span", "side", new Date(alert.timestamp).toLocaleTimeString());
  item.append(mark(alert.raised ? "alarm" : ""), element("span", "main", text), time);
  return item;
}

/** A limit in words: "above 90 %". */
function side(/** @type {Limit & { metric: string }} */ { metric, above, below }) {
  const [, format] = named(metric);
  return above === undefined ? `below ${format(below)}` : `above ${format(above)}`;
}

/** The next round number at or above a value, in its power of ten, and for bytes in its unit (a power of 1024). */
function round(/** @type {number} */ value, /** @type {Format} */ format) {
  const unit = format === bytes || format === rate ? 1024 ** Math.floor(Math.log2(Math.max(value, 1)) / 10) : 1;
  const power = 10 ** Math.floor(Math.log10(value / unit));
  return [1, 2, 3, 4, 6, 8, 10].map((step) => step * power * unit).find((step) => step >= value) ?? value;
}

/** Draws lines up to now, at the screen's resolution. A small chart has no axes. */
function draw(/** @type {HTMLCanvasElement} */ canvas, /** @type {Line[]} */ lines, /** @type {Format} */ format, small = false, least = 0) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (width === 0) return;
  const scale = devicePixelRatio;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const style = getComputedStyle(canvas);
  const colourOf = (/** @type {string} */ colour) => (colour.startsWith("--") ? style.getPropertyValue(colour) : colour);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);

  const to = now();
  const begun = readings.length ? Date.parse(readings[0].timestamp) : to;
  const span = Math.min(Math.max(to - begun, SHORTEST), LONGEST);
  const seen = lines.map(({ points }) => points.filter(({ time }) => time > to - span));
  const values = seen.flat().map(({ value }) => value);
  const low = Math.min(0, ...values);
  const high = Math.max(least, ...values);
  const [bottom, top] = [low < 0 ? -round(-low, format) : 0, high > 0 ? round(high, format) : low < 0 ? 0 : 1];
  const [ceiling, floor] = small ? [4, height - 1] : [12, height - 18];
  const x = (/** @type {number} */ time) => width * (1 - (to - time) / span);
  const y = (/** @type {number} */ value) => floor - ((value - bottom) / (top - bottom)) * (floor - ceiling);

  pen.lineWidth = small ? 1.5 : 1.75;
  pen.lineJoin = "round";
  for (const [index, points] of seen.entries()) {
    const { colour, area, dashed, sparse } = lines[index];
    pen.strokeStyle = pen.fillStyle = colourOf(colour);
    pen.setLineDash(dashed ? [4, 3] : []);
    for (const run of runs(points, sparse ? Infinity : GAP)) {
      pen.beginPath();
      for (const { time, value } of run) pen.lineTo(x(time), y(value));
      if (run.length === 1) pen.arc(x(run[0].time), y(run[0].value), 1, 0, 7);
      pen.stroke();
      if (!area || run.length === 1) continue;
      pen.lineTo(x(run.at(-1).time), y(Math.max(bottom, 0)));
      pen.lineTo(x(run[0].time), y(Math.max(bottom, 0)));
      pen.globalAlpha = 0.12;
      pen.fill();
      pen.globalAlpha = 1;
    }
  }
  pen.setLineDash([]);
  if (small) return;

  pen.font = `11px ${style.fontFamily}`;
  pen.fillStyle = style.getPropertyValue("--soft");
  pen.strokeStyle = style.getPropertyValue("--grid");
  pen.lineWidth = 1;
  for (const part of [0, 0.5, 1]) {
    const at = Math.round(y(bottom + (top - bottom) * part)) + 0.5;
    pen.beginPath();
    pen.moveTo(0, at);
    pen.lineTo(width, at);
    pen.stroke();
    pen.fillText(format(bottom + (top - bottom) * part), 2, at - 3);
  }
  for (const [part, text] of /** @type {[number, string][]} */ ([[0, `${duration(span)} ago`], [0.5, duration(span / 2)], [1, "now"]])) {
    pen.textAlign = part === 0 ? "left" : part === 1 ? "right" : "center";
    pen.fillText(text, width * part, height - 4);
  }
  pen.textAlign = "left";
}

/** Splits points at gaps. */
function runs(/** @type {Point[]} */ points, /** @type {number} */ gap) {
  /** @type {Point[][]} */
  const all = [];
  let before = 0;
  for (const point of points) {
    if (all.length === 0 || point.time - before > gap) all.push([]);
    all.at(-1).push(point);
    before = point.time;
  }
  return all;
}

new ResizeObserver(show).observe($("app"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
