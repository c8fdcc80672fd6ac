"""The notifications, by a client that is not ours: `PYTHONPATH=tests/interop python protocol.py BINARY`."""

import json
import socket
from contextlib import AsyncExitStack

from program import closed, is_same, receive, run, send


def notify(program, token, to, text, priority="normal"):
    status, answer = program.ask("POST", "/notify", token, {"to": to, "priority": priority, "text": text})
    is_same(status, 200, f"a notification for {to}: {answer}")
    return answer


async def notifications(client, count):
    return [await receive(client, "notification") for _ in range(count)]


async def acked(client, notification_id, unread):
    told = await receive(client, "acked")
    is_same(told, {"type": "acked", "notification_id": notification_id, "unread": unread}, "an acknowledgement")


def texts(told):
    return [one["data"]["text"] for one in told]


async def what_waits_survives_a_kill_in_order_and_what_is_read_never_returns(program):
    ada = program.login("ada")
    sent = [notify(program, ada, "bob", f"{n}", ["low", "normal", "high"][n % 3]) for n in range(6)]
    is_same([(one["delivered"], one["queued"], one["waiting"]) for one in sent], [(0, True, 1)] * 6, "bob is away")
    program.kill()
    program.start_again()
    bob = program.login("bob")
    async with program.connect("/notifications", bob) as client:
        is_same(await receive(client, "unread"), {"type": "unread", "unread": 6}, "how much waits")
        told = await notifications(client, 6)
        is_same(texts(told), [f"{n}" for n in range(6)], "the order of sending")
        is_same([one["notification_id"] for one in told], [one["notification_id"] for one in sent], "the ids")
        is_same([one["priority"] for one in told[:3]], ["low", "normal", "high"], "the priorities")
        is_same(told[0]["data"], {"from": "ada", "text": "0", "everybody": False}, "the data")
        is_same(program.ask("GET", "/notifications", bob), (200, told), "what waits, by HTTP")
        await send(client, type="ack", notification_id=sent[2]["notification_id"])
        await acked(client, sent[2]["notification_id"], 5)
    # What was acknowledged is on the disk, however the program ends.
    for end in (program.kill, program.interrupt):
        end()
        program.start_again()
        is_same(program.ask("GET", "/notifications?unread", bob), (200, {"unread": 5}), "how much waits")
        async with program.connect("/notifications", bob) as client:
            is_same(texts(await notifications(client, 5)), ["0", "1", "3", "4", "5"], "what waits")
    async with program.connect("/notifications", bob) as client:
        await notifications(client, 5)
        await send(client, type="read_up_to", notification_id=sent[3]["notification_id"])
        for n, unread in ((0, 4), (1, 3), (3, 2)):
            await acked(client, sent[n]["notification_id"], unread)
        is_same(texts(program.ask("GET", "/notifications", bob)[1]), ["4", "5"], "all up to there are read")


async def two_tabs_get_it_and_one_reads_for_both(program):
    ada, bob = program.login("ada"), program.login("bob")
    async with AsyncExitStack() as stack:
        tabs = [await stack.enter_async_context(program.connect("/notifications", bob)) for _ in range(2)]
        for tab in tabs:
            await receive(tab, "unread")
        sent = notify(program, ada, "bob", "both of you", "high")
        is_same((sent["delivered"], sent["queued"], sent["waiting"]), (2, False, 0), "two tabs took it")
        for tab in tabs:
            is_same((await receive(tab, "notification"))["data"]["text"], "both of you", "each tab")
        await send(tabs[0], type="ack", notification_id=sent["notification_id"])
        for tab in tabs:
            await acked(tab, sent["notification_id"], 0)
        await send(tabs[1], type="ack", notification_id=sent["notification_id"])
        told = await receive(tabs[1], "error")
        is_same(told["notification_id"], sent["notification_id"], "it is read already")


async def a_full_queue_drops_what_matters_least_and_tells(program):
    ada, bob = program.login("ada"), program.login("bob")
    async with program.connect("/notifications", ada) as watching:
        await receive(watching, "unread")
        priorities = ["low"] * 30 + ["normal"] * 50 + ["high"] * 40
        sent = [notify(program, ada, "bob", f"{p} {n}", p) for n, p in enumerate(priorities)]
        lost = [(await receive(watching, "dropped")) for _ in range(20)]
        is_same({(one["user"], one["reason"]) for one in lost}, {("bob", "evicted")}, "who has lost what")
        gone = [one["notification_id"] for one in lost]
        is_same(gone, [one["notification_id"] for one in sent[:20]], "the oldest of the low ones go first")
    waiting = program.ask("GET", "/notifications", bob)[1]
    is_same(len(waiting), 100, "the bound")
    is_same([one["priority"] for one in waiting], ["low"] * 10 + ["normal"] * 50 + ["high"] * 40, "what is left")
    async with program.connect("/notifications", bob) as client:
        is_same(await notifications(client, 100), waiting, "what bob gets")

    # All that waits matters more than a low one: the listener that sends fails, and the answer says so.
    for n in range(60):
        notify(program, ada, "cleo", f"{n}", "high")
    for n in range(40):
        notify(program, ada, "cleo", f"{n}")
    status, why = program.ask("POST", "/notify", ada, {"to": "cleo", "priority": "low", "text": "did you know?"})
    is_same(status, 500, "a listener has failed")
    is_same("listener of `notification.created` failed" in why and "full of notifications of higher urgency" in why, True, why)
    async with program.connect("/notifications", ada) as client:
        while (last := await receive(client, "audit"))["outcome"]["failed"] == 0:
            pass
        is_same((last["to"], last["outcome"]["delivered"], last["outcome"]["queued"]), ("cleo", 0, False), "the audit")


async def a_star_is_everybody_who_was_ever_here(program):
    ada, bob = program.login("ada"), program.login("bob")
    async with program.connect("/notifications", bob) as client:
        await receive(client, "unread")
    program.kill()
    program.start_again()
    # Nobody remembers bob but the file; cleo has never come with her token.
    program.login("cleo")
    async with program.connect("/notifications", ada) as client:
        await receive(client, "unread")
        sent = notify(program, ada, "*", "the office is closed", "high")
        is_same((sent["delivered"], sent["queued"], sent["waiting"]), (1, True, 1), "ada is here, bob is not")
        told = await receive(client, "notification")
        is_same(told["data"], {"from": "ada", "text": "the office is closed", "everybody": True}, "ada's own copy")
        audit = await receive(client, "audit")
        is_same((audit["from"], audit["to"], audit["outcome"]), ("ada", "*", sent), "the audit")
        is_same("the office" in json.dumps(audit), False, "it does not tell the text")
    async with program.connect("/notifications", bob) as client:
        copy = await receive(client, "notification")
        is_same(copy["data"]["everybody"], True, "bob's copy")
    is_same(sent["notification_id"], min(told["notification_id"], copy["notification_id"]), "the lowest of their ids")


async def who_hangs_up_leaves_nothing_half_done(program):
    ada, bob = program.login("ada"), program.login("bob")
    body = json.dumps({"to": "bob", "text": "hello?"})
    request = (
        f"POST /notify HTTP/1.1\r\nHost: {program.address}\r\nAuthorization: Bearer {ada}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    host, port = program.address.split(":")

    def unread():
        return program.ask("GET", "/notifications?unread", bob)[1]["unread"]

    async with program.connect("/notifications", ada) as client:
        await receive(client, "unread")
        # Some hang up before it is stored, and some after that.
        while unread() < 10:
            for _ in range(10):
                with socket.create_connection((host, int(port))) as connection:
                    connection.sendall(request)
        # Each that was stored is audited: the listeners behind the push have had their turn.
        audited = 0
        while audited < unread():
            is_same((await receive(client, "audit"))["to"], "bob", "an audit")
            audited += 1


async def malformed_messages_are_answered_or_end_their_connection(program):
    ada = program.login("ada")
    async with program.connect("/notifications", ada) as client:
        await receive(client, "unread")
        deep = '{"type":"read_up_to","notification_id":' + "[" * 5000 + "]" * 5000 + "}"
        for message, says in [
            ("{", "EOF"),
            ("5", "invalid type"),
            ("[]", "missing field `type`"),
            ("{}", "missing field `type`"),
            (deep, "recursion limit"),
            ('{"type":"shout"}', "unknown variant `shout`, expected `read_up_to`"),
            ('{"type":17}', "17"),
            ('{"type":"ack"}', "missing field `notification_id`"),
            ('{"type":"ack","notification_id":"seventeen"}', "invalid type: string"),
            ('{"type":"ack","notification_id":-1}', "invalid value"),
            ('{"type":"ack","notification_id":1e400}', "number out of range"),
            ('{"type":"ack","notification_id":99999999999999999999999}', "invalid"),
            ('{"type":"ack","notification_id":17}', "no such notification waits"),
            ('{"type":"read_up_to","notification_id":{}}', "invalid type: map"),
            ('{"type":"refresh","token":"forged"}', "token"),
        ]:
            await client.send(message)
            told = await receive(client, "error")
            is_same(says in told["error"], True, f"{message:.60} is answered with {says}, not with {told['error']!r}")
        await client.send(b"\x00\x01")
        told = await receive(client, "error")
        await send(client, type="read_up_to", notification_id=2**63)
        notify(program, ada, "ada", "still here")
        is_same((await receive(client, "notification"))["data"]["text"], "still here", "the connection lives")
        await client.send("x" * (17 << 10))
        is_same(await closed(client), 1009, "a message that is too large")
    is_same(program.ask("GET", "/notifications?unread", ada), (200, {"unread": 1}), "the server lives")


async def bad_requests_are_refused_with_a_reason(program):
    ada = program.login("ada")
    good = {"to": "bob", "text": "hello"}
    for body, status, says in [
        (b"{", 400, "EOF"),
        (b"\xff\xfe", 400, "expected value"),
        (b'{"to":' + b"[" * 4000 + b"]" * 4000 + b"}", 400, "invalid type: sequence"),
        (b'{"to":"bob","text":"' + b"x" * 9000 + b'"}', 413, "length limit"),
        ({}, 400, "missing field `to`"),
        ({"to": "bob"}, 400, "missing field `text`"),
        ({"to": 5, "text": "hello"}, 400, "invalid type: integer"),
        (good | {"to": ""}, 400, "to: it is \"*\" for everyone, or a name: 1 to 32 characters"),
        (good | {"to": "b\nb"}, 400, "no control characters"),
        (good | {"to": "b" * 33}, 400, "1 to 32 characters"),
        (good | {"to": "b" * 300}, 400, "1 to 32 characters"),
        (good | {"to": "bob "}, 400, "no space at either end"),
        (good | {"text": ""}, 400, "text: it is empty"),
        (good | {"text": "\n \t"}, 400, "it is empty"),
        (good | {"text": "x" * 501}, 400, "501 characters instead of 1 to 500"),
        (good | {"text": None}, 400, "invalid type: null"),
        (good | {"priority": "urgent"}, 400, "unknown variant `urgent`, expected one of `low`, `normal`, `high`"),
        (good | {"priority": 10**30}, 400, "priority"),
        (good | {"from": "eve"}, 400, "unknown field `from`"),
    ]:
        got, why = program.ask("POST", "/notify", ada, body)
        is_same(got, status, f"{body!r:.60}: {why}")
        is_same(says in why, True, f"{body!r:.60} is answered with {says}, not with {why!r}")
    is_same(program.ask("POST", "/notify", ada, good | {"text": "ä" * 500})[0], 200, "the longest text")
    is_same(program.ask("GET", "/notify", ada)[0], 405, "another method")
    is_same(program.ask("GET", "/notifications?recover=x", ada)[0], 400, "a malformed position")


async def only_who_is_signed_in_gets_in(program):
    good = program.login("ada")
    is_same(program.ask("GET", "/notifications?unread", program.sign())[0], 200, "a token like the program's own")
    for bad in program.bad_tokens():
        is_same(program.ask("POST", "/notify", bad, {"to": "ada", "text": "hello"})[0], 401, f"POST with {bad}")
        is_same(program.ask("GET", "/notifications", bad)[0], 401, f"GET with {bad}")
        is_same(await program.refusal("/notifications", bad), 401, f"a socket with {bad}")
    is_same(program.ask("GET", "/notifications", good), (200, []), "nothing was sent, and the server lives")


run(
    "notifications",
    what_waits_survives_a_kill_in_order_and_what_is_read_never_returns,
    two_tabs_get_it_and_one_reads_for_both,
    a_full_queue_drops_what_matters_least_and_tells,
    a_star_is_everybody_who_was_ever_here,
    who_hangs_up_leaves_nothing_half_done,
    malformed_messages_are_answered_or_end_their_connection,
    bad_requests_are_refused_with_a_reason,
    only_who_is_signed_in_gets_in,
)
