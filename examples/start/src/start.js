/**
 * What the pages of the examples have in common: elements, faces, signing in, and the light for the connection.
 *
 * @import { Connection, LastClose } from "./fanfare.js"
 */

/**
 * The element of this id.
 *
 * @returns {any}
 */
export const $ = (/** @type {string} */ id) => document.getElementById(id);

/** Makes an element. Foreign text gets onto a page here, as text, and nowhere else. */
export function element(/** @type {string} */ kind, className = "", text = "") {
  const made = document.createElement(kind);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

/** A name's own hue, in degrees. */
export function hue(/** @type {string} */ name) {
  let hue = 0;
  for (const letter of name) hue = (hue * 31 + letter.codePointAt(0)) % 360;
  return hue;
}

/** A name's own colour, dark enough for white letters. */
export const colour = (/** @type {string} */ name) => `hsl(${hue(name)} 45% 42%)`;

/** A round initial in the name's own colour, or in that of an id, where two people may have one name. */
export function face(/** @type {string} */ name, id = name) {
  const made = element("span", "face", [...name][0]?.toUpperCase());
  made.style.backgroundColor = colour(id);
  made.setAttribute("aria-hidden", "true");
  return made;
}

/** When something was, by the clock on the wall, with the day unless that is today: from milliseconds since 1970. */
export function clock(/** @type {number} */ time) {
  const [then, today] = [new Date(time), new Date()];
  const hour = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (then.toDateString() === today.toDateString()) return hour;
  return `${then.toLocaleDateString([], { month: "short", day: "numeric" })}, ${hour}`;
}

/** As `fetch`; a server that is not there is told in words. */
async function reach(/** @type {string} */ path, /** @type {RequestInit} */ options) {
  try {
    return await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached. Try again in a moment.");
  }
}

/** Shows the state of a connection in the page's `#state`. */
export function showState(/** @type {Connection} */ connection) {
  connection.onState((state, { delay = 0 }) => {
    const seconds = Math.ceil(delay / 1000);
    const texts = {
      connecting: "Connecting",
      open: "Online",
      waiting: `Offline, trying again${seconds > 1 ? ` in ${seconds} s` : ""}`,
      closed: "Closed",
    };
    $("state").dataset.state = state;
    $("state").textContent = texts[state];
  });
}

/** Where a browser keeps who is signed in. */
const KEPT = "fanfare.session";

/** Somebody who is signed in. */
export class Session {
  #token;

  constructor(/** @type {string} */ user, token = "") {
    this.user = user;
    this.#token = token;
  }

  /** Who is signed in in this browser, all its tabs. @returns {Session | null} */
  static known() {
    try {
      const { user, token } = JSON.parse(localStorage.getItem(KEPT));
      return typeof user === "string" && typeof token === "string" ? new Session(user, token) : null;
    } catch {
      return null; // Nobody, or another application has written there.
    }
  }

  /** Signs in, and keeps that for the next tab. Throws what the server has against it. */
  async enter() {
    await this.#signIn();
    localStorage.setItem(KEPT, JSON.stringify({ user: this.user, token: this.#token }));
  }

  /** Fetches a token for this name. Another tab may have another name by now, and keeps it. */
  async #signIn() {
    const answer = await reach("/login", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user: this.user }),
    });
    if (!answer.ok) throw new Error(await answer.text());
    this.#token = (await answer.json()).token;
    if (Session.known()?.user === this.user) {
      localStorage.setItem(KEPT, JSON.stringify({ user: this.user, token: this.#token }));
    }
  }

  /** The token to connect with: the one that is there, or a new one when that was refused. */
  token = async (/** @type {LastClose} */ { code, attempt }) => {
    // A browser does not tell a refusal (401) from a server that is not there.
    if (!this.#token || code === 4401 || attempt % 4 === 2) await this.#signIn();
    return this.#token;
  };

  /** Asks the server for something; the answer's JSON. Throws what it has against that. */
  async ask(/** @type {string} */ method, /** @type {string} */ path, /** @type {unknown} */ body) {
    const ask = () =>
      reach(path, {
        method,
        headers: { authorization: `Bearer ${this.#token}`, "content-type": "application/json" },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    let answer = await ask();
    if (answer.status === 401) {
      await this.#signIn();
      answer = await ask();
    }
    if (!answer.ok) throw new Error((await answer.text()).trim());
    return answer.json();
  }

  /** Signs out, and goes back to the door. */
  leave() {
    localStorage.removeItem(KEPT);
    location.reload();
  }
}

/**
 * Who it is: whoever was here before in this browser, or who comes in by the form `#door` with its `#name` and
 * `.problem`. Then `#app` is shown in its place, whose `#leave` signs out.
 */
export async function signIn() {
  const session = Session.known() ?? (await comesIn());
  $("door").hidden = true;
  $("app").hidden = false;
  $("leave").addEventListener("click", () => session.leave());
  return session;
}

/** @returns {Promise<Session>} */
function comesIn() {
  $("door").hidden = false;
  $("name").focus();
  return new Promise((resolve) => {
    $("door").addEventListener("submit", async (event) => {
      event.preventDefault();
      const session = new Session($("name").value.trim());
      try {
        await session.enter();
        resolve(session);
      } catch (error) {
        $("door").querySelector(".problem").textContent = error.message;
      }
    });
  });
}
