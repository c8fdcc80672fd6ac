"""The dashboard's protocol, spoken by the Python package `websockets`.

    PYTHONPATH=tests/interop python examples/dashboard/tests/protocol.py target/release/dashboard
"""

import asyncio
import json
import re
import socket
import time
from datetime import datetime

from program import closed, is_same, receive, run, send

ISO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


def when(message):
    assert ISO.match(message["timestamp"]), message["timestamp"]
    return datetime.fromisoformat(message["timestamp"]).timestamp()


async def updates(client, count):
    return [await receive(client, "update") for _ in range(count)]


async def ask(program, *what):
    """Asks while the clients are served."""
    return await asyncio.to_thread(program.ask, *what)


async def post(program, token, name, value):
    status, answer = await ask(program, "POST", "/metrics", token, {"name": name, "value": value})
    is_same(status, 200, f"{name} = {value}: {answer}")


async def watch(program, token, metric, **limit):
    status, answer = await ask(program, "POST", "/threshold", token, {"metric": metric} | limit)
    is_same(status, 200, f"{metric} {limit}: {answer}")


async def one_timer_serves_all(program):
    """However many look: one reading a second, the same for all."""
    clients = [await program.connect("/dashboard", program.login(f"user {n}")) for n in range(20)]
    for client in clients:
        is_same((await receive(client))["type"], "initial", "the first message")
    heard = await asyncio.gather(*(updates(client, 6) for client in clients))
    times = sorted({when(update) for each in heard for update in each})
    span = times[-1] - times[0]
    assert len(times) <= span + 2, f"one a second, but in {span} s there were {times}"
    for each in heard:
        # Those who came later have heard the same, and none in between.
        begun, ended = when(each[0]), when(each[-1])
        is_same([when(update) for update in each], [time for time in times if begun <= time <= ended], "what one heard")
    last = heard[-1][-1]["data"]
    is_same((last["library"]["connections"], last["library"]["viewers"]), (20, 20), "connections, and those that look")
    assert last["library"]["sent"] >= 10, f"20 messages a second, or few less: {last}"
    is_same(len(last["cores"]), (await snapshot(program))["machine"]["cores"], "cores")
    assert 1e6 < last["process"]["memory"] < 1e9, f"bytes of this process: {last}"
    for client in clients:
        await client.close()
    async with program.connect("/dashboard", program.login("late")) as client:
        readings = (await receive(client))["data"]["readings"]
        assert len(readings) >= 6, "a newcomer's charts begin with what was"
        assert when(readings[0]) > when(readings[-1]), "the latest comes first"
        while (update := await receive(client, "update"))["data"]["library"]["connections"] != 1:
            pass
        is_same(update["data"]["library"]["viewers"], 1, "who is closed does not stay")


async def snapshot(program):
    async with program.connect("/dashboard", program.login("looker")) as client:
        return (await receive(client, "initial"))["data"]


async def posted_at_once(program):
    ada, bob = program.login("ada"), program.login("bob")
    async with program.connect("/dashboard", ada) as one, program.connect("/dashboard", bob) as two:
        await updates(one, 1), await updates(two, 1)
        begun = time.monotonic()
        for value in [3, -2.5, 1e300, 0] * 5:
            await post(program, bob, "orders", value)
            for client in (one, two):
                told = await receive(client, "metric")
                is_same({key: told["data"][key] for key in ("name", "value", "by")},
                        {"name": "orders", "value": value, "by": "bob"}, "what was posted")
        assert time.monotonic() - begun < 8, "20 of them do not wait for a timer of a second"
        for number in range(63):
            await post(program, ada, f"metric {number}", number)
        status, answer = await ask(program, "POST", "/metrics", ada, {"name": "one too many", "value": 1})
        is_same((status, "64 metrics" in answer), (409, True), answer)
        await post(program, ada, "metric 0", 100)
        kept = (await snapshot(program))["metrics"]
        is_same(len(kept), 64, "metrics in the snapshot")
        is_same([metric["value"] for metric in kept if metric["name"] == "metric 0"], [100], "the latest value")


async def slow_viewer_gets_the_latest(program):
    """Its buffers are small, it does not read, and 4000 values are posted meanwhile."""
    token = program.login("ada")
    host, port = program.address.rsplit(":", 1)
    pipe = socket.socket()
    pipe.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    pipe.connect((host, int(port)))
    lines = ["GET /dashboard HTTP/1.1", f"Host: {program.address}", "Connection: Upgrade", "Upgrade: websocket",
             "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==",
             f"Authorization: Bearer {token}"]
    pipe.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    async with program.connect("/dashboard", token) as quick:
        heard = 0

        async def read():
            nonlocal heard
            while (await receive(quick, "metric"))["data"]["value"] != 3999:
                heard += 1

        reader = asyncio.create_task(read())
        for number in range(4000):
            await post(program, token, "x" * 40, number)
        await asyncio.wait_for(reader, 20)
        while (update := await receive(quick, "update"))["data"]["library"]["dropped"] < 1000:
            pass
        is_same(update["data"]["library"]["connections"], 2, "the slow one is not closed")
        assert 1 <= update["data"]["library"]["waiting"] <= 4, update["data"]["library"]
    values = await asyncio.to_thread(read_frames, pipe)
    assert len(values) < 1500, f"the latest and no backlog, but {len(values)} of 4000"
    assert heard > 2 * len(values), f"who reads hears nearly all, but it was {heard}, and {len(values)}"
    is_same(values[-1], 3999, "the last value")
    assert values == sorted(values), "in their order"
    pipe.close()


def read_frames(pipe):
    """The values in a server's frames, until the last one."""
    pipe.settimeout(20)
    data, values = b"", []
    while b"\r\n\r\n" not in data:
        data += pipe.recv(4096)
    data = data.split(b"\r\n\r\n", 1)[1]
    while not values or values[-1] != 3999:
        while len(data) < 10 or len(data) < sum(head(data)):
            part = pipe.recv(65536)
            assert part, f"it was closed after {values[-3:]}"
            data += part
            if len(data) >= 2 and data[1] < 126 and len(data) >= sum(head(data)):
                break
        start, length = head(data)
        if data[0] == 0x81:
            message = json.loads(data[start:start + length])
            if message["type"] == "metric":
                values.append(message["data"]["value"])
        data = data[start + length:]
    return values


def head(data):
    if data[1] < 126:
        return 2, data[1]
    if data[1] == 126:
        return 4, int.from_bytes(data[2:4], "big")
    return 10, int.from_bytes(data[2:10], "big")


async def thresholds_tell_once(program):
    ada = program.login("ada")
    async with program.connect("/dashboard", ada) as client:
        await updates(client, 1)
        await post(program, ada, "orders", 1)
        await watch(program, ada, "orders", above=100)
        told = await receive(client, "watch")
        is_same(told["data"], {"thresholds": [{"metric": "orders", "above": 100, "by": "ada", "raised": False}], "alerts": []},
                "the threshold")
        for value in (101, 150, 99, 101, 60, 40, 170):
            await post(program, ada, "orders", value)
        alerts = (await snapshot(program))["alerts"]
        is_same([(alert["raised"], alert["value"]) for alert in alerts], [(True, 170), (False, 60), (True, 101)], "alerts")
        heard = [len((await receive(client, "watch"))["data"]["alerts"]) for _ in range(3)]
        is_same(heard, [1, 2, 3], "each crossing is told once")
        await watch(program, ada, "orders", above=None)
        is_same((await snapshot(program))["thresholds"], [], "it was removed")
        # Of what is measured here, and at once, if it is passed already.
        await watch(program, ada, "library.connections", below=1000)
        alert = (await snapshot(program))["alerts"][0]
        is_same((alert["metric"], alert["below"], alert["raised"]), ("library.connections", 1000, True), "the alert")
        await watch(program, ada, "library.connections", above=1e6)
        is_same(len((await snapshot(program))["thresholds"]), 1, "a new one takes the place of the old one")


async def paused_gets_nothing(program):
    ada, bob = program.login("ada"), program.login("bob")
    async with program.connect("/dashboard", ada) as client, program.connect("/dashboard", bob) as other:
        await updates(client, 1)
        await send(client, type="page", page="alerts")
        await send(client, type="pause")
        people = {}
        while people.get("ada", {}).get("hidden") is not True:
            told = await receive(other)
            if told["type"].startswith("presence"):
                for user in told.get("users", []) + told.get("joined", []) + told.get("updated", []):
                    people[user["user"]] = user["info"]
        is_same((people["ada"]["page"], people["bob"]["page"]), ("alerts", "overview"), "their pages")
        while (await receive(other, "update"))["data"]["library"]["viewers"] != 1:
            pass
        await send(client, type="presence", group="people")
        await receive(client, "presence")  # behind whatever was sent before it was paused
        await post(program, ada, "orders", 5)
        await updates(other, 3)
        await send(client, type="resume")
        told = await receive(client)
        while told["type"].startswith("presence"):
            told = await receive(client)
        is_same((told["type"], told["data"]["metrics"][0]["value"]), ("initial", 5), "what comes after a pause")
        await updates(client, 2)
        # Twice is once more a snapshot, and no second membership.
        await send(client, type="resume")
        await receive(client, "initial")
        times = [when(update) for update in await updates(client, 3)]
        assert times == sorted(set(times)), f"each update once: {times}"


async def nobody_looks_nobody_measures(program):
    async with program.connect("/dashboard", program.login("ada")) as client:
        await receive(client, "initial")
        await updates(client, 2)
        await send(client, type="pause")
        await asyncio.sleep(4)
        await send(client, type="resume")
        times = [when(reading) for reading in (await receive(client, "initial"))["data"]["readings"]]
        gap = when(await receive(client, "update")) - times[0]
        assert gap > 2.5, f"readings were taken while nobody looked: {gap} s"


async def survives_anything(program):
    ada = program.login("ada")
    async with program.connect("/dashboard", ada) as client:
        await receive(client, "initial")
        for text in ("", "{", "[]", "null", '"x"', "1e999", '{"type":"dance"}', '{"type":7}', '{"type":"page"}',
                     '{"type":"page","page":"secret"}', '{"type":"page","page":{"a":1}}', "[" * 900, '{"a":' * 150,
                     '{"type":"active","x":1e999}', '{"type":"ack","notification_id":-1}'):
            await client.send(text)
            assert (await receive(client, "error"))["error"], text
        await client.send(b"\x00\x01")
        assert (await receive(client, "error"))["error"]
        await updates(client, 1)
        await client.send(" " * 2000)
        is_same(await closed(client), 1009, "the code for what is too large")

    is_same(await program.refusal("/dashboard", program.sign()), 101, "a token like the program's own")
    for token in program.bad_tokens():
        is_same(await program.refusal("/dashboard", token), 401, f"the answer to {token!r}")
        for path in ("/metrics", "/threshold"):
            is_same((await ask(program, "POST", path, token, {}))[0], 401, f"{path} with {token!r}")

    for path, body, expected in [
        ("/metrics", b"", 400),
        ("/metrics", b"{", 400),
        ("/metrics", b"\xff\xfe", 400),
        ("/metrics", b"[" * 2000, 422),
        ("/metrics", b'{"name":"x","value":1,"more":' + b"[" * 2000, 400),
        ("/metrics", b'{"name":"x","value":1e999}', 400),
        ("/metrics", b'{"name":"x","value":NaN}', 400),
        ("/metrics", b" " * 5000, 413),
        ("/metrics", {"name": "x"}, 422),
        ("/metrics", {"name": "x", "value": "1"}, 422),
        ("/metrics", {"name": 1, "value": 1}, 422),
        ("/metrics", {"name": "", "value": 1}, 400),
        ("/metrics", {"name": " x", "value": 1}, 400),
        ("/metrics", {"name": "x" * 65, "value": 1}, 400),
        ("/metrics", {"name": "a\nb", "value": 1}, 400),
        ("/metrics", {"name": "machine.cpu", "value": 1}, 409),
        ("/threshold", {"metric": "machine.cpu"}, 422),
        ("/threshold", {"metric": "machine.cpu", "above": "high"}, 422),
        ("/threshold", {"metric": "machine.cpu", "above": [1]}, 422),
        ("/threshold", b'{"metric":"machine.cpu","above":1e999}', 400),
        ("/threshold", {"metric": "nothing", "above": 1}, 409),
        ("/threshold", {"metric": "machine.cores", "above": 1}, 409),
        ("/threshold", {"metric": "x" * 65, "above": 1}, 400),
    ]:
        status, answer = await ask(program, "POST", path, ada, body)
        is_same(status, expected, f"{path} {body!r:.60}: {answer}")
        assert len(answer) > 20, f"it says what is wrong: {answer!r}"
    is_same((await ask(program, "GET", "/metrics", ada))[0], 405, "the wrong method")
    async with program.connect("/dashboard", ada) as client:
        is_same((await receive(client))["type"], "initial", "it lives on")
        await updates(client, 1)


run(
    "dashboard",
    one_timer_serves_all,
    posted_at_once,
    slow_viewer_gets_the_latest,
    thresholds_tell_once,
    paused_gets_nothing,
    nobody_looks_nobody_measures,
    survives_anything,
)
