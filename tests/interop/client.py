"""Talks to echo and fanout as a client that is not ours: the Python package `websockets`.

client.py check ECHO FANOUT no|offered|agreed     all checks; the last says what becomes of compression
client.py goodbye ECHO                            prints a line when connected, then expects close 1001

The other clients in this folder check the same, in the same order.
"""

import asyncio
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode

DEADLINE = 60
LARGEST = 16 << 20
SIZES = [0, 1, 125, 126, 65_535, 65_536, 1 << 20, LARGEST]
SPEAKERS, MESSAGES = 3, 100

COMPRESSION = "no"


def is_same(got, expected, what):
    if got != expected:
        raise AssertionError(f"{what}: expected {expected!r:.100}, got {got!r:.100}")


def open_at(address):
    compression = None if COMPRESSION == "no" else "deflate"
    return connect(f"ws://{address}/", compression=compression, max_size=None, proxy=None)


async def is_closed(client, code, sending=None):
    """Expects a close in place of a message, while sending or after. The client is not to be closed again."""
    try:
        if sending:
            await sending
        message = await client.recv()
    except ConnectionClosed as closed:
        is_same(closed.rcvd and closed.rcvd.code, code, "the close code")
    else:
        raise AssertionError(f"{message!r:.100} came, not a close")


async def extensions_are_as_agreed(echo):
    async with open_at(echo) as client:
        agreed = [extension.name for extension in client.protocol.extensions]
        is_same(agreed, ["permessage-deflate"] if COMPRESSION == "agreed" else [], "extensions")


async def messages_come_back(echo):
    async with open_at(echo) as client:
        for size in SIZES:
            for message in ["x" * size, b"\x07" * size]:
                await client.send(message)
                is_same(await client.recv(), message, f"{size} bytes")
        await client.send("Grüße, 世界 👋\0")
        is_same(await client.recv(), "Grüße, 世界 👋\0", "text beyond ASCII")


async def fragments_come_back_as_one(echo):
    async with open_at(echo) as client:
        for parts in [["Gr", "", "üße"], [b"1", b"", b"2", b""], ["x"] * 1000]:
            await client.send(parts)
            is_same(await client.recv(), parts[0][:0].join(parts), "fragments")


async def pings_are_answered(echo):
    async with open_at(echo) as client:
        for payload in [b"", b"there?", b"p" * 125]:
            await (await client.ping(payload))


async def closes_are_answered_with_their_code(echo):
    for code, reason in [(1000, ""), (1001, "leaving"), (3000, "ü" * 61), (4999, "")]:
        client = await open_at(echo)
        await client.close(code, reason)
        is_same(client.close_code, code, "the code of the answer")
        is_same(client.protocol.close_rcvd_then_sent, False, "who closed")


async def too_much_is_closed_with_1009(echo):
    client = await open_at(echo)
    await is_closed(client, CloseCode.MESSAGE_TOO_BIG, client.send(b"x" * (LARGEST + 1)))


async def everybody_hears_the_same(fanout):
    clients = []
    for number in range(SPEAKERS):
        client = await open_at(fanout)
        # Who hears itself has joined.
        await client.send(f"hello {number}")
        for listener in [*clients, client]:
            is_same(await listener.recv(), f"hello {number}", "a greeting")
        clients.append(client)

    async def speak(number):
        await clients[number].send(b"binary is for nobody")
        for n in range(MESSAGES):
            await clients[number].send(f"{number} {n}")

    async def hear(number):
        return [await clients[number].recv() for _ in range(SPEAKERS * MESSAGES)]

    heard, *_ = await asyncio.gather(
        asyncio.gather(*map(hear, range(SPEAKERS))), *map(speak, range(SPEAKERS))
    )
    for number in range(SPEAKERS):
        is_same(heard[number], heard[0], "the order")
        said = [text for text in heard[0] if text.startswith(f"{number} ")]
        is_same(said, [f"{number} {n}" for n in range(MESSAGES)], "what one said")
    for client in clients:
        await client.close()


async def check(echo, fanout):
    checks = [
        (extensions_are_as_agreed, echo),
        (messages_come_back, echo),
        (fragments_come_back_as_one, echo),
        (pings_are_answered, echo),
        (closes_are_answered_with_their_code, echo),
        (too_much_is_closed_with_1009, echo),
        (everybody_hears_the_same, fanout),
    ]
    for claim, address in checks:
        await run(claim, address)
    print(f"websockets: {len(checks)} checks passed, compression: {COMPRESSION}")


async def run(claim, address):
    try:
        await asyncio.wait_for(claim(address), DEADLINE)
    except Exception as error:
        raise Failed(f"{claim.__name__}: {error!r}") from error


class Failed(Exception):
    pass


async def goodbye(echo):
    client = await open_at(echo)
    print("connected", flush=True)
    await is_closed(client, CloseCode.GOING_AWAY)


try:
    if sys.argv[1] == "check":
        COMPRESSION = sys.argv[4]
        asyncio.run(check(sys.argv[2], sys.argv[3]))
    else:
        asyncio.run(run(goodbye, sys.argv[2]))
except Failed as failed:
    sys.exit(str(failed))
