"""The chat, talked to by a client that is not ours: `protocol.py BINARY`."""

import json
from urllib.parse import quote

from program import closed, is_same, receive, run, send


def key(name):
    return name.ljust(32, "-")


def join(chat, room, name, who, **recover):
    query = f"name={quote(name)}" + (f"&recover={quote(json.dumps(recover))}" if recover else "")
    return chat.connect(f"/chat/{quote(room)}?{query}", key(who))


async def welcomed(client):
    """What was missed."""
    await receive(client, "welcome")
    told = []
    while not told or told[-1]["type"] != "ready":
        told.append(await receive(client))
    return told


async def a_room_is_told_and_no_other(chat):
    async with join(chat, "lobby", "Ada", "ada") as ada, join(chat, "lobby", "Bob", "bob") as bob:
        async with join(chat, "cellar", "Eve", "eve") as eve:
            await welcomed(ada), await welcomed(bob), await welcomed(eve)
            await send(ada, type="say", text="Grüße 👋", nonce="n1")
            said = [await receive(client, "message") for client in (ada, bob)]
            is_same(said[0], said[1], "what both hear")
            is_same((said[0]["text"], said[0]["from"], said[0]["nonce"]), ("Grüße 👋", "Ada", "n1"), "the message")
            await send(eve, type="say", text="alone")
            is_same((await receive(eve, "message"))["text"], "alone", "the other room")


async def who_comes_back_gets_what_it_missed_until_the_server_begins_anew(chat):
    async with join(chat, "lobby", "Ada", "ada") as ada:
        told = await welcomed(ada)
        epoch = told[0]["epoch"]
        for number in range(5):
            await send(ada, type="say", text=str(number))
            await receive(ada, "message")
        async with join(chat, "lobby", "Bob", "bob", lobby=[epoch, 2]) as bob:
            told = await welcomed(bob)
            is_same(told[0]["recovered"], True, "recovered")
            is_same([message["text"] for message in told if message["type"] == "message"], ["2", "3", "4"], "missed")
        is_same(chat.interrupt(), 0, "the exit status")
        is_same(await closed(ada), 1001, "the close code")
    chat.start_again()
    async with join(chat, "lobby", "Ada", "ada", lobby=[epoch, 5]) as ada:
        told = await welcomed(ada)
        is_same((told[0]["recovered"], told[0]["replayed"]), (False, 0), "after a restart")


async def what_is_malformed_is_answered_and_what_is_too_large_closed(chat):
    async with join(chat, "lobby", "Ada", "ada") as ada, join(chat, "lobby", "Bob", "bob") as bob:
        deep = '{"type":"say","text":' + "[" * 5000 + "]" * 5000 + "}"
        huge = '{"type":"say","text":1e999}'
        for bad in ["", "{", "null", "[]", '"say"', '{"type":"shout"}', '{"type":"say"}', deep, huge, b"\0\1", "\ud7ff"]:
            await ada.send(bad)
            await receive(ada, "error")
        await send(ada, type="say", text="")
        refused = (await receive(ada, "error"))["error"]
        is_same("it has 0 characters instead of 1 to 8000" in refused, True, refused)
        await ada.send("x" * (64 << 10) + "x")
        is_same(await closed(ada), 1009, "the close code")
        await send(bob, type="say", text="still here")
        is_same((await receive(bob, "message"))["text"], "still here", "the others")


run(
    "chat",
    a_room_is_told_and_no_other,
    who_comes_back_gets_what_it_missed_until_the_server_begins_anew,
    what_is_malformed_is_answered_and_what_is_too_large_closed,
)
