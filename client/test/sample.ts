// An application in TypeScript: it is compiled and not run.
import { connect, SendError } from "../fanfare.js";
import type { ClientMessage, Connection, Gap, Presence, ServerMessage, State } from "../fanfare.js";

const connection: Connection = connect("/chat/lobby", {
  token: async ({ code, attempt }) => (code === 4401 || attempt > 3 ? await renewed() : localStorage.getItem("token")),
  backoff: { base: 100 },
  queue: { messages: 10 },
  reconnect: ({ code }) => (code === 1000 ? true : undefined),
  keep: "ada",
});
connect(new URL("https://example.com/"), { token: "fixed", queue: false, autoAck: true, skips: "report" });

async function renewed(): Promise<string> {
  return (await fetch("/token")).text();
}

const off: () => void = connection.on("message", (message) => console.log(message.text));
connection.on("say", ({ text }: { text: string }) => console.log(text));
connection.on("gap", (gap: Gap) => gap.to.offset - gap.from.offset);
connection.on("notification", async ({ notification_id, data }) => {
  console.log(data);
  connection.ack(notification_id);
});
connection.on("presence", (presence, change) => {
  const away = [...presence.users].filter(([, user]) => user.info.away).map(([name]) => name);
  console.log(away, presence.complete, change?.left ?? "anew");
});
connection.on("unread", (unread) => unread + connection.unread);
connection.on("binary", (data) => data.byteLength);
connection.onState((state: State, { delay = 0, unsent }) => console.log(state, delay + 1, unsent));

const present: Presence<{ away: boolean }> | null = connection.presence("lobby");
const since: number | undefined = present?.users.get("ada")?.since;
try {
  const outcome: "sent" | "queued" = connection.send({ type: "say", since, outcome: off });
  connection.sendRaw(new Uint8Array(outcome.length));
} catch (error) {
  if (error instanceof SendError && error.reason === "full") connection.close(4000, "enough");
}
connection.refresh("token").then((expires) => new Date(expires));

export function told(message: ServerMessage): string | number {
  switch (message.type) {
    case "joined": return message.offset;
    case "skip": return message.offset;
    case "presence": return message.pages;
    case "presence.diff": return message.left.join();
    case "presence.page": return message.users[0].user;
    case "notification": return message.priority;
    case "unread": return message.unread;
    case "acked": return message.notification_id;
    case "refreshed": return message.expires;
    case "error": return message.error;
  }
}
export const asked: ClientMessage = { type: "presence", group: "lobby", limit: 10 };

// @ts-expect-error there is no such state
connection.onState((state: "gone") => state);
// @ts-expect-error what is known of users is not the page's to change
present?.users.clear();
// @ts-expect-error an id is a number
connection.ack("17");
// @ts-expect-error there is no such option
connect("/", { retries: 3 });
