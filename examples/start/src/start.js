/**
 * Code that the examples' pages share: elements, faces, the login, and the connection indicator.
 *
 * @import { Connection, LastClose } from "./fanfare.js"
 */

/**
 * The element of this id.
 *
 * @returns {any}
 */
export const $ = (/** @type {string} */ id) => document.getElementById(id);

/** Makes an element. Users' text enters the page only here, and only as text. */
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

/** A round initial in the name's colour, or in the id's colour where two users may share a name. */
export function face(/** @type {string} */ name, id = name) {
  const made = element("span", "face", [...name][0]?.toUpperCase());
  made.style.backgroundColor = colour(id);
  made.setAttribute("aria-hidden", "true");
  return made;
}

/** Formats Unix milliseconds as local time, with the date unless it is today. */
export function clock(/** @type {number} */ time) {
  const [then, today] = [new Date(time), new Date()];
  const hour = then.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (then.toDateString() === today.toDateString()) return hour;
  return `${then.toLocaleDateString([], { month: "short", day: "numeric" })}, ${hour}`;
}

/** Like `fetch`, with a readable error when the server cannot be reached. */
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

/** The key in `localStorage` under which the browser keeps the session. */
const KEPT = "fanfare.session";

/** The session of a signed-in user. */
export class Session {
  #token;

  constructor(/** @type {string} */ user, token = "") {
    this.user = user;
    this.#token = token;
  }

  /** The session of this browser, shared by all its tabs. @returns {Session | null} */
  static known() {
    try {
      const { user, token } = JSON.parse(localStorage.getItem(KEPT));
      return typeof user === "string" && typeof token === "string" ? new Session(user, token) : null;
    } catch {
      return null; // There is no session, or another application wrote the entry.
    }
  }

  /** Signs in, and keeps the session for other tabs. Throws the server's refusal. */
  async enter() {
    await this.#signIn();
    localStorage.setItem(KEPT, JSON.stringify({ user: this.user, token: this.#token }));
  }

  /** Fetches a token for this user. If another tab has signed in another user meanwhile, that session is kept. */
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

  /** The token to connect with: the current one, or a new one after a refusal. */
  token = async (/** @type {LastClose} */ { code, attempt }) => {
    // A browser does not distinguish a refusal (401) from an unreachable server.
    if (!this.#token || code === 4401 || attempt % 4 === 2) await this.#signIn();
    return this.#token;
  };

  /** Sends a request with the token and returns the answer's JSON. Throws the server's refusal. */
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

  /** Signs out, and returns to the login form. */
  leave() {
    localStorage.removeItem(KEPT);
    location.reload();
  }
}

/**
 * Returns the session of this browser, or waits until the user signs in with the form `#door` (`#name`, `.problem`).
 * Then shows `#app` in place of the form; its button `#leave` signs out.
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
