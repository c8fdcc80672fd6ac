// Talks to echo and fanout as a client that is not ours: the node package `ws`.
//
// client.mjs check ECHO FANOUT no|offered|agreed     all checks; the last says what becomes of compression
// client.mjs goodbye ECHO                            prints a line when connected, then expects close 1001
//
// NODE_MODULES is the folder that `ws` is installed in. The other clients in this folder check the same,
// in the same order.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createRequire } from "node:module";

const WebSocket = createRequire(`${process.env.NODE_MODULES}/`)("ws");

const DEADLINE = 60_000;
const LARGEST = 16 << 20;
const SIZES = [0, 1, 125, 126, 65_535, 65_536, 1 << 20, LARGEST];
const SPEAKERS = 3;
const MESSAGES = 100;

const [mode, echo, fanout, compression = "no"] = process.argv.slice(2);

/** A connection whose messages are awaited one by one; the last thing it has is its close. */
class Client {
    static async open(address) {
        const client = new Client(address);
        await once(client.socket, "open");
        return client;
    }

    constructor(address) {
        this.socket = new WebSocket(`ws://${address}/`, {
            perMessageDeflate: compression !== "no",
            maxPayload: 2 * LARGEST,
        });
        this.received = [];
        this.arrived = () => {};
        this.socket.on("message", (data, isBinary) => this.push(isBinary ? data : data.toString()));
        this.socket.on("close", (code, reason) => this.push({ code, reason: reason.toString() }));
        // A close follows.
        this.socket.on("error", () => {});
    }

    push(what) {
        this.received.push(what);
        this.arrived();
    }

    async next() {
        while (this.received.length === 0) {
            await new Promise((resolve) => (this.arrived = resolve));
        }
        return this.received.shift();
    }

    send(data, options) {
        this.socket.send(data, options);
    }

    async close(code, reason) {
        this.socket.close(code, reason);
        return await this.next();
    }
}

/** Says what differs without printing megabytes of it. */
function isSame(got, expected, what) {
    const same = Buffer.isBuffer(expected)
        ? Buffer.isBuffer(got) && got.equals(expected)
        : JSON.stringify(got) === JSON.stringify(expected);
    const text = (value) => (Buffer.isBuffer(value) ? value.toString("hex") : JSON.stringify(value));
    const brief = (value) => String(text(value)).slice(0, 100);
    assert(same, `${what}: expected ${brief(expected)}, got ${brief(got)}`);
}

async function extensionsAreAsAgreed() {
    const client = await Client.open(echo);
    isSame(client.socket.extensions, compression === "agreed" ? "permessage-deflate" : "", "extensions");
    await client.close();
}

async function messagesComeBack() {
    const client = await Client.open(echo);
    for (const size of SIZES) {
        for (const message of ["x".repeat(size), Buffer.alloc(size, 7)]) {
            client.send(message);
            isSame(await client.next(), message, `${size} bytes`);
        }
    }
    client.send("Grüße, 世界 👋\0");
    isSame(await client.next(), "Grüße, 世界 👋\0", "text beyond ASCII");
    await client.close();
}

async function fragmentsComeBackAsOne() {
    const client = await Client.open(echo);
    for (const parts of [["Gr", "", "üße"], ["1", "", "2", ""], Array(1000).fill("x")]) {
        for (const binary of [false, true]) {
            parts.forEach((part, n) => client.send(part, { fin: n === parts.length - 1, binary }));
            const whole = parts.join("");
            isSame(await client.next(), binary ? Buffer.from(whole) : whole, "fragments");
        }
    }
    await client.close();
}

async function pingsAreAnswered() {
    const client = await Client.open(echo);
    for (const payload of ["", "there?", "p".repeat(125)]) {
        const pong = once(client.socket, "pong");
        client.socket.ping(payload);
        isSame((await pong)[0], Buffer.from(payload), "the pong");
    }
    await client.close();
}

async function closesAreAnsweredWithTheirCode() {
    for (const [code, reason] of [[1000, ""], [1001, "leaving"], [3000, "ü".repeat(61)], [4999, ""]]) {
        const client = await Client.open(echo);
        isSame((await client.close(code, reason)).code, code, "the code of the answer");
    }
}

async function tooMuchIsClosedWith1009() {
    const client = await Client.open(echo);
    client.send(Buffer.alloc(LARGEST + 1, "x"));
    isSame((await client.next()).code, 1009, "the close code");
}

async function everybodyHearsTheSame() {
    const clients = [];
    for (let number = 0; number < SPEAKERS; number++) {
        const client = await Client.open(fanout);
        clients.push(client);
        // Who hears itself has joined.
        client.send(`hello ${number}`);
        for (const listener of clients) {
            isSame(await listener.next(), `hello ${number}`, "a greeting");
        }
    }
    clients.forEach((client, number) => {
        client.send(Buffer.from("binary is for nobody"));
        for (let n = 0; n < MESSAGES; n++) {
            client.send(`${number} ${n}`);
        }
    });
    const heard = await Promise.all(
        clients.map(async (client) => {
            const all = [];
            while (all.length < SPEAKERS * MESSAGES) {
                all.push(await client.next());
            }
            return all;
        }),
    );
    for (let number = 0; number < SPEAKERS; number++) {
        isSame(heard[number], heard[0], "the order");
        const said = heard[0].filter((text) => text.startsWith(`${number} `));
        isSame(said, Array.from({ length: MESSAGES }, (_, n) => `${number} ${n}`), "what one said");
    }
    await Promise.all(clients.map((client) => client.close()));
}

async function goodbye() {
    const client = await Client.open(echo);
    console.log("connected");
    isSame((await client.next()).code, 1001, "the close code");
}

async function run(claim) {
    const late = setTimeout(() => fail(claim, new Error("it takes too long")), DEADLINE);
    await claim().catch((error) => fail(claim, error));
    clearTimeout(late);
}

function fail(claim, error) {
    console.error(`${claim.name}: ${error.message}`);
    process.exit(1);
}

if (mode === "check") {
    const checks = [
        extensionsAreAsAgreed,
        messagesComeBack,
        fragmentsComeBackAsOne,
        pingsAreAnswered,
        closesAreAnsweredWithTheirCode,
        tooMuchIsClosedWith1009,
        everybodyHearsTheSame,
    ];
    for (const claim of checks) {
        await run(claim);
    }
    console.log(`ws: ${checks.length} checks passed, compression: ${compression}`);
} else {
    await run(goodbye);
}
