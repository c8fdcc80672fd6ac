"""The editor, talked to by clients that are not ours: `protocol.py BINARY`."""

import asyncio
import random
import time
from urllib.parse import quote

from program import closed, is_same, receive, run, send
from websockets.exceptions import ConnectionClosed, InvalidMessage


def units(text):
    """A text as UTF-16, two bytes a code unit: how positions count."""
    return text.encode("utf-16-le")


def apply(text, changes):
    for position, deleted, inserted in changes:
        text = text[: 2 * position] + units(inserted) + text[2 * (position + deleted) :]
    return text


def open_document(program, token, session, name="notes"):
    return program.connect(f"/collab/{quote(name, safe='')}?session={session}", token)


def history(program, token, name="notes"):
    """Who made which version: all pages of it."""
    by, before = {}, 1 << 40
    while True:
        path = f"/collab/{name}/history?before={before}&limit=40"
        status, page = program.ask("GET", path, token)
        is_same(status, 200, f"the history: {page}")
        if not page["entries"]:
            return by
        for entry in page["entries"]:
            is_same(entry["from"] <= entry["to"] < before and entry["begun"] <= entry["time"], True, f"{entry}")
            by |= {version: entry["user"] for version in range(entry["from"], entry["to"] + 1)}
            before = entry["from"]


class Editor:
    """Five of them write at once. It follows the protocol's rule for pages, without a page's display: what was sent is
    sent again as it was until a text has it; what came is made in the confirmed text, version by version."""

    def __init__(self, crowd, user, seed):
        self.crowd, self.user, self.dice = crowd, user, random.Random(seed)
        self.token = crowd.program.login(user)
        self.session = f"{user}{self.dice.getrandbits(64):x}"
        self.text, self.version, self.last, self.sent, self.acknowledged = b"", None, 0, None, []

    def change(self, text):
        letters = text.decode("utf-16-le")
        start = self.dice.randrange(len(letters) + 1)
        gone = letters[start : start + self.dice.choice([0, 0, 0, 1, 2, 7])]
        came = self.dice.choice(["", "a", "bc", "😀", "\n", "é👩‍🚀", "word "])
        return [len(units(letters[:start])) // 2, len(units(gone)) // 2, came if gone or came else "x"]

    def write(self):
        """Makes the next edit, in the text that is known here, however old it is."""
        text, changes = self.text, []
        for _ in range(self.dice.choice([1, 1, 1, 3])):
            changes.append(self.change(text))
            text = apply(text, changes[-1:])
        self.sent = {"type": "edit", "edit": self.last + 1, "version": self.version, "changes": changes}

    def knows(self, text, version):
        self.text, self.version = text, version
        is_same(self.crowd.seen.setdefault(version, text), text, f"version {version}, as {self.user} has it")

    def taken(self, edit):
        self.last, self.sent = edit, None
        self.crowd.taken += 1
        self.crowd.progress.set()

    def hear(self, message):
        kind = message["type"]
        if kind == "initial":
            if self.sent and message["edit"] >= self.sent["edit"]:
                is_same(message["edit"], self.sent["edit"], "the last edit")
                self.taken(message["edit"])
            is_same(message["edit"], self.last, "the number of the last edit")
            self.knows(units(message["content"]), message["version"])
        elif kind in ("edit", "applied") and self.version is not None and message["version"] > self.version:
            is_same(message["version"], self.version + 1, "the version after this one")
            self.knows(apply(self.text, message["changes"]), message["version"])
            if kind == "applied":
                is_same(message["edit"], self.sent["edit"], "what is answered")
                self.acknowledged.append(message["version"])
                self.taken(message["edit"])
        elif kind in ("refused", "error"):
            raise AssertionError(f"{self.user}: {message} to {self.sent}")

    async def work(self, edits):
        while self.last < edits or self.sent:
            await self.crowd.up.wait()
            try:
                async with open_document(self.crowd.program, self.token, self.session) as client:
                    await self.talk(client, edits)
            except (ConnectionClosed, InvalidMessage, OSError):
                pass
            if not self.sent and self.last < edits and self.version is not None and self.dice.random() < 0.5:
                self.write()
                # Away, while others write on.
                until = min(self.crowd.taken + 40, self.crowd.enough)
                while self.crowd.taken < until:
                    self.crowd.progress.clear()
                    await self.crowd.progress.wait()

    async def talk(self, client, edits):
        self.hear(await receive(client, "initial"))
        while self.last < edits or self.sent:
            if not self.sent:
                self.write()
            await send(client, **self.sent)
            if self.dice.random() < 0.02:
                # Amid an edit without its answer, in order or not.
                return client.transport.abort() if self.dice.random() < 0.5 else None
            while self.sent:
                self.hear(await receive(client))

    async def follow(self, version):
        """Listens until it has a version."""
        async with open_document(self.crowd.program, self.token, self.session) as client:
            self.hear(await receive(client, "initial"))
            while self.version < version:
                self.hear(await receive(client))


class Crowd:
    def __init__(self, program, edits):
        self.program, self.taken, self.seen = program, 0, {}
        # Who is away waits for others: not for the last ones, who may be away themselves.
        self.enough = edits // 2
        self.up, self.progress = asyncio.Event(), asyncio.Event()
        self.up.set()


async def five_random_editors_agree_and_nothing_acknowledged_is_lost(program):
    each, users = 400, ["ada", "bob", "cleo", "dan", "eve"]
    crowd = Crowd(program, each * len(users))
    editors = [Editor(crowd, user, seed) for seed, user in enumerate(users)]

    async def kills():
        for times in (1, 2):
            while crowd.taken < times * 600:
                crowd.progress.clear()
                await crowd.progress.wait()
            crowd.up.clear()
            program.kill()
            program.start_again()
            crowd.up.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(kills())
        for editor in editors:
            group.create_task(editor.work(each))
    latest = each * len(users)
    for editor in editors:
        await editor.follow(latest)
        is_same(editor.text, editors[0].text, f"what {editor.user} has")
    token = editors[0].token
    is_same(program.ask("GET", f"/collab/notes/at/{latest}", token)[1]["content"], editors[0].text.decode("utf-16-le"), "the text")
    # Each edit is there once, and those that were answered are whose they were.
    by = history(program, token)
    is_same(sorted(by), list(range(1, latest + 1)), "the versions")
    for editor in editors:
        is_same(sum(user == editor.user for user in by.values()), each, f"the edits of {editor.user}")
        is_same({by[version] for version in editor.acknowledged}, {editor.user}, "who made what was acknowledged")
    for version in random.Random(1).sample(sorted(crowd.seen), 30):
        status, then = program.ask("GET", f"/collab/notes/at/{version}", token)
        is_same((status, units(then["content"])), (200, crowd.seen[version]), f"the text of version {version}")
    acknowledged = sum(len(editor.acknowledged) for editor in editors)
    print(f"collab: {latest} edits, {acknowledged} heard acknowledged, {len(editors[0].text) // 2} code units left")


async def edits_come_to_all_but_their_author_and_once(program):
    ada, bob = program.login("ada"), program.login("bob")
    async with open_document(program, ada, "a1") as at_ada, open_document(program, bob, "b1") as at_bob:
        for client in (at_ada, at_bob):
            is_same(await receive(client, "initial"), {"type": "initial", "content": "", "version": 0, "edit": 0}, "the first text")
        hello = {"type": "edit", "edit": 1, "version": 0, "changes": [[0, 0, "hello 👋"]]}
        await send(at_ada, **hello)
        applied = await receive(at_ada, "applied")
        is_same(applied, {"type": "applied", "edit": 1, "version": 1, "changes": [[0, 0, "hello 👋"]]}, "the answer")
        edit = await receive(at_bob, "edit")
        is_same((edit["user"], edit["session"], edit["version"], edit["changes"]), ("ada", "a1", 1, hello["changes"]), "the edit")
        is_same(abs(edit["timestamp"] / 1000 - time.time()) < 60, True, "its time")
        # The same one again, and one at a version that others have left behind.
        await send(at_ada, **hello)
        is_same(await receive(at_ada), {"type": "initial", "content": "hello 👋", "version": 1, "edit": 1}, "known")
        await send(at_bob, type="edit", edit=1, version=0, changes=[[0, 0, "old "]])
        applied, edit = await receive(at_bob, "applied"), await receive(at_ada, "edit")
        is_same((applied["version"], applied["changes"]), (2, edit["changes"]), "what an old one has become")
        # Carets go to the others.
        await send(at_bob, type="cursor", position=3, anchor=1, version=2)
        cursor = {"type": "cursor", "user": "bob", "session": "b1", "position": 3, "anchor": 1, "version": 2}
        is_same(await receive(at_ada, "cursor"), cursor, "the caret")
        await at_bob.close()
        is_same((await receive(at_ada, "cursor"))["position"], None, "the caret of who is gone")
        await send(at_ada, type="restore", version=1)
        edit = await receive(at_ada, "edit")
        is_same((edit["version"], edit["user"]), (3, "ada"), "restored")
        await send(at_ada, type="reload")
        is_same(await receive(at_ada), {"type": "initial", "content": "hello 👋", "version": 3, "edit": 1}, "the text")
    # Another person may not go on with a session by its name: the numbers are that person's own.
    async with open_document(program, bob, "a1") as client:
        initial = {"type": "initial", "content": "hello 👋", "version": 3, "edit": 0}
        is_same(await receive(client, "initial"), initial, "another person's session, after all had left")


async def what_cannot_be_is_refused_and_what_is_malformed_answered(program):
    ada, bob = program.login("ada"), program.login("bob")
    async with open_document(program, ada, "a1") as client, open_document(program, bob, "b1") as other:
        await receive(client, "initial")
        await send(client, type="edit", edit=1, version=0, changes=[[0, 0, "a👋b"]])
        await receive(client, "applied")
        for edit, version, changes, why in [
            (2, 1, [[5, 0, "x"]], "ends at 5, and its text at 4"),
            (2, 1, [[0, 5, ""]], "ends at 5"),
            (2, 1, [[2, 0, "x"]], "splits a character"),
            (2, 1, [[1, 1, ""]], "splits a character"),
            (2, 1, [[0, 1, ""], [0, 4, ""]], "ends at 4, and its text at 3"),
            (2, 1, [[4294967295, 4294967295, ""]], "ends at 8589934590"),
            (2, 1, [[0, 0, "a\r\nb"]], "no control characters"),
            (2, 1, [[0, 0, "\0"]], "no control characters"),
            (2, 1, [], "1 to 32 changes"),
            (2, 1, [[0, 0, "x"]] * 33, "1 to 32 changes"),
            (2, 1, [[0, 0, "x" * 65536]], "more than 65536"),
            (2, 2, [[0, 0, "x"]], "there is no version 2: the latest is 1"),
            (2, 1 << 60, [[0, 0, "x"]], "there is no version"),
            (2, 0, [[0, 0, "x"]], "lacks this session's last edit"),
            (3, 1, [[0, 0, "x"]], "the next one of this session is 2"),
            (1 << 60, 1, [[0, 0, "x"]], "skips"),
            (0, 1, [[0, 0, "x"]], "from 1 on"),
        ]:
            await send(client, type="edit", edit=edit, version=version, changes=changes)
            refused = await receive(client)
            is_same((refused["type"], refused.get("edit")), ("refused", edit), f"the answer to {changes!r:.60}: {refused}")
            is_same(why in refused["error"], True, f"{refused['error']}: {why}")
            is_same(await receive(client), {"type": "initial", "content": "a👋b", "version": 1, "edit": 1}, "the text")
        for version in (7, 1 << 60):
            await send(client, type="restore", version=version)
            is_same((await receive(client, "refused"))["edit"], 0, "what was no edit")
        edit = '{"type":"edit","edit":2,"version":1,"changes":'
        bad = ["", "{", "null", "[]", '"edit"', '{"type":"shout"}', '{"type":"edit"}', b"\0\1", edit + "[" * 5000 + "]" * 5000 + "}"]
        bad += [edit + changes + "}" for changes in ("[[-1,0,\"x\"]]", "[[0,-1,\"x\"]]", "[[0,0]]", "[[0,0,7]]", "[[0.5,0,\"x\"]]", "7")]
        bad += [edit + changes + "}" for changes in ('[[0,0,"\\ud83d"]]', '[[4294967296,0,""]]', '[[1e999,0,""]]', '[["0",0,""]]')]
        bad += ['{"type":"edit","edit":-1,"version":1,"changes":[]}', '{"type":"edit","edit":2,"version":1e30,"changes":[]}']
        bad += ['{"type":"cursor","position":-1,"anchor":0,"version":1}', '{"type":"restore","version":"1"}', "\ud7ff"]
        for message in bad:
            await client.send(message)
            await receive(client, "error")
        await client.send("x" * (512 << 10) + "x")
        is_same(await closed(client), 1009, "the close code")
        await receive(other, "initial")
        await send(other, type="edit", edit=1, version=1, changes=[[4, 0, "!"]])
        is_same((await receive(other, "applied"))["version"], 2, "the others go on")


async def only_who_is_signed_in_gets_in_and_names_are_bounded(program):
    good = program.login("ada")
    is_same(program.ask("GET", "/collab/notes/history", program.sign())[0], 200, "a token like the program's own")
    for bad in program.bad_tokens():
        is_same(await program.refusal("/collab/notes?session=a1", bad), 401, f"a socket with {bad}")
        for path in ("/collab/notes/history", "/collab/notes/at/0"):
            is_same(program.ask("GET", path, bad)[0], 401, f"{path} with {bad}")
    for path in ["notes", "notes?session=", "notes?session=" + "a" * 65, "notes?session=%0A", "x" * 65 + "?session=a", "%0A?session=a"]:
        is_same(await program.refusal(f"/collab/{path}", good), 400, path)
    for path, status in [
        ("notes/at/0", 200),
        ("notes/at/1", 404),
        ("notes/at/-1", 400),
        ("notes/at/99999999999999999999999", 400),
        ("notes/history?before=x", 400),
        ("notes/history?limit=-1", 400),
        ("notes/history?limit=99999999&before=0", 200),
        ("x" * 65 + "/history", 400),
    ]:
        is_same(program.ask("GET", f"/collab/{path}", good)[0], status, path)
    for body in (b"", b"{", b"[]", b'{"user":7}', b'{"user":""}', b'{"user":"' + b"x" * 8000 + b'"}'):
        is_same(program.ask("POST", "/login", body=body)[0] in (400, 413), True, f"a login with {body[:20]}")
    # Names are names, whatever they look like.
    for name in ("../etc", "a/b", "%", "日本語", "<img src=x onerror=alert(1)>", "👩‍🚀" * 20):
        async with open_document(program, good, "a1", name) as client:
            is_same((await receive(client, "initial"))["version"], 0, f"the document {name}")
            await send(client, type="edit", edit=1, version=0, changes=[[0, 0, name]])
            await receive(client, "applied")
        is_same(program.ask("GET", f"/collab/{quote(name, safe='')}/at/1", good)[1]["content"], name, "its text")
    is_same(program.ask("GET", "/collab/notes/history", good)[1], {"entries": [], "oldest": 0}, "and no other's")


run(
    "collab",
    five_random_editors_agree_and_nothing_acknowledged_is_lost,
    edits_come_to_all_but_their_author_and_once,
    what_cannot_be_is_refused_and_what_is_malformed_answered,
    only_who_is_signed_in_gets_in_and_names_are_bounded,
)
