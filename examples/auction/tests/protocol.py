"""The auction, talked to by clients that are not ours: `protocol.py BINARY`."""

import asyncio
import json
import random
import time
from collections import Counter

from program import DEADLINE, closed, is_same, receive, run, send
from websockets.exceptions import ConnectionClosed

# How many bid at once, and how often each.
CROWD, ROUNDS = 200, 12
# How often the server is killed amid the bidding.
KILLS = 10


def sell(auction, title="A teapot", opening=1000, closes_in=600, soft_close=10, by="sue"):
    lot = {"title": title, "opening": opening, "closes_in": closes_in, "soft_close": soft_close}
    status, answer = auction.ask("POST", "/lots", auction.login(by), lot)
    is_same(status, 201, f"the status of {answer}")
    return answer["lot"]


class Bidder:
    """One connection, and all that it was told, in order."""

    def __init__(self, auction, user):
        self.user, self.token, self.heard, self.sent = user, auction.login(user), [], 0
        self.changed = asyncio.Condition()
        # Called with each message, at once.
        self.trap = lambda message: None

    async def come(self, auction):
        self.client = await auction.connect("/auction", self.token)
        first = await receive(self.client)
        is_same(first["type"], "lots", "the first message")
        await self.hear(first)
        self.reading = asyncio.create_task(self.read())
        return self

    async def read(self):
        try:
            async for message in self.client:
                await self.hear(json.loads(message))
        except ConnectionClosed:
            pass

    async def hear(self, message):
        self.trap(message)
        async with self.changed:
            self.heard.append(message)
            self.changed.notify_all()

    async def until(self, is_it, what="a message"):
        """Waits until something that is heard, or was, is it."""

        def found():
            return next((message for message in reversed(self.heard) if is_it(message)), None)

        async with self.changed:
            try:
                await asyncio.wait_for(self.changed.wait_for(lambda: found() is not None), DEADLINE)
            except TimeoutError:
                raise AssertionError(f"{self.user} did not hear {what}: {self.heard[-3:]!r:.600}") from None
            return found()

    def lot(self, lot):
        """A lot as the last list has it."""
        lists = [message for message in self.heard if message["type"] == "lots"]
        return next(shown for shown in lists[-1]["lots"] if shown["id"] == lot)

    def is_answer(self, bid):
        def is_one(message):
            mine = message["type"] == "bid" and message["user"] == self.user or message["type"] == "refused"
            return mine and message["id"] == bid

        return is_one

    async def bid(self, lot, amount, bid=None):
        """Bids, and returns the answer."""
        self.sent += bid is None
        bid = bid or f"{self.user}-{self.sent}"
        before = len(self.heard)
        await send(self.client, type="bid", lot=lot, id=bid, amount=amount)
        is_answer = self.is_answer(bid)
        async with self.changed:
            answers = lambda: [message for message in self.heard[before:] if is_answer(message)]
            await asyncio.wait_for(self.changed.wait_for(answers), DEADLINE)
            return answers()[0]

    def of(self, kind, lot):
        return [message for message in self.heard if message["type"] == kind and message.get("lot") == lot]

    def news(self, lot):
        """What it was notified of, each notice once."""
        notices = {
            message["notification_id"]: message["data"] for message in self.heard if message["type"] == "notification"
        }
        return [(data["news"], data["amount"]) for data in notices.values() if data["lot"] == lot]

    async def go(self):
        await self.client.close()
        await self.reading


async def come(auction, *users):
    return await asyncio.gather(*(Bidder(auction, user).come(auction) for user in users))


async def a_bid_is_told_to_all_and_a_refusal_to_its_bidder(auction):
    lot = sell(auction)
    ada, bob = await come(auction, "ada", "bob")
    is_same((ada.lot(lot)["least"], ada.lot(lot)["status"], ada.lot(lot)["seller"]), (1000, "open", "sue"), "the lot")
    is_same(len(ada.heard[0]["lots"]), 4, "three lots for a stranger, and this one")
    answer = await ada.bid(lot, 1250)
    is_same((answer["type"], answer["seq"], answer["amount"], answer["least"]), ("bid", 1, 1250, 1350), "the answer")
    is_same(await bob.until(lambda message: message["type"] == "bid"), answer, "what the other one hears")
    for bidder, amount, reason, least in [
        (ada, 2000, "you lead already", 1350),
        (bob, 1349, "bid 13.50 or more", 1350),
        (bob, 1, "bid 13.50 or more", 1350),
    ]:
        refused = await bidder.bid(lot, amount)
        is_same((refused["type"], refused["reason"], refused["least"]), ("refused", reason, least), "the refusal")
    is_same(len(ada.of("refused", lot)), 1, "refusals that ada hears")
    refused = await bob.bid(999, 1350)
    is_same((refused["reason"], refused["least"]), ("there is no such lot", None), "of a lot that is not there")
    (sue,) = await come(auction, "sue")
    is_same((await sue.bid(lot, 1350))["reason"], "it is your own lot", "the seller's own bid")
    await bob.bid(lot, 100_000_000)
    is_same((await ada.bid(lot, 100_000_000))["reason"], "1000000.00 is the highest bid there is", "above the highest")
    await ada.until(lambda message: message["type"] == "notification", "that it is outbid")
    is_same(ada.news(lot), [("outbid", 100_000_000)], "ada's news")

    await send(ada.client, type="time", sent=1234.5)
    answer = await ada.until(lambda message: message["type"] == "time")
    is_same(answer["sent"], 1234.5, "the client's own time")
    if abs(answer["now"] - time.time() * 1000) > 1000:
        raise AssertionError(f"the server's clock is off: {answer}")


async def one_bid_sent_twice_counts_once_also_after_a_crash(auction):
    lot = sell(auction)
    ada, bob = await come(auction, "ada", "bob")
    first = await ada.bid(lot, 1000, "the-same")
    is_same((await ada.bid(lot, 1000, "the-same")), first, "the answer to the same bid")
    other = await bob.bid(lot, 1100, "the-same")
    is_same((other["type"], other["seq"]), ("bid", 2), "a bid of another one by the same id")
    again = await ada.bid(lot, 1000, "the-same")
    is_same((again["seq"], again["amount"], again["least"]), (1, 1000, 1200), "the answer when somebody else leads")
    is_same(len(bob.of("bid", lot)), 2, "bids that bob hears of")
    auction.kill()
    auction.start_again()
    (ada,) = await come(auction, "ada")
    is_same((await ada.bid(lot, 1000, "the-same"))["seq"], 1, "the answer of the next process")
    shown = ada.lot(lot)
    is_same([bid["seq"] for bid in shown["bids"]], [1, 2], "the bids")
    is_same((shown["yours"], shown["closes"]), (1000, other["closes"]), "what is kept")


async def two_hundred_bid_at_once_and_agree_on_everything(auction):
    lot = sell(auction, closes_in=20, soft_close=1)
    users = [f"bidder {number}" for number in range(CROWD)]
    bidders = await come(auction, *users)
    (sue,) = await come(auction, "sue")
    chance = random.Random(20)

    async def bids(bidder):
        for _ in range(ROUNDS):
            # More than the last that it has heard of: most are too late.
            heard = bidder.of("bid", lot)
            least = heard[-1]["least"] if heard else 1000
            await bidder.bid(lot, least + chance.randrange(6000))

    begun = time.monotonic()
    await asyncio.gather(*(bids(bidder) for bidder in bidders))
    took = time.monotonic() - begun
    end = await sue.until(lambda message: message["type"] == "closed", "that it is closed")
    is_news = lambda *news: lambda message: message["type"] == "notification" and message["data"]["news"] in news
    await sue.until(is_news("ended"))
    story = sue.of("bid", lot)
    took_part = {bid["user"] for bid in story}
    if len(took_part) < 10:
        raise AssertionError(f"{len(story)} bids of {len(took_part)} bidders are no crowd")
    is_same([bid["seq"] for bid in story], list(range(1, len(story) + 1)), "the numbers of the bids")
    amounts = [bid["amount"] for bid in story]
    is_same(amounts, sorted(set(amounts)), "amounts, which rise")
    is_same((end["winner"], end["amount"]), (story[-1]["user"], max(amounts)), "the end")
    is_same(
        any(before["user"] == after["user"] for before, after in zip(story, story[1:])),
        False,
        "somebody outbids himself",
    )
    for bidder in bidders:
        if bidder.user in took_part:
            await bidder.until(is_news("won", "lost"))
        is_same(bidder.of("bid", lot), story, f"what {bidder.user} hears")
        answers = Counter(message["id"] for message in bidder.heard if message["type"] == "refused")
        answers += Counter(bid["id"] for bid in story if bid["user"] == bidder.user)
        is_same(answers, Counter(f"{bidder.user}-{number + 1}" for number in range(ROUNDS)), "one answer for each bid")
        outbid = [
            ("outbid", after["amount"]) for before, after in zip(story, story[1:]) if before["user"] == bidder.user
        ]
        result = (
            [("won" if bidder.user == end["winner"] else "lost", end["amount"])] if bidder.user in took_part else []
        )
        is_same(sorted(bidder.news(lot)), sorted(outbid + result), f"the news of {bidder.user}")
    is_same(sorted(sue.news(lot)), [("ended", end["amount"])], "the seller's news")
    auction.kill()
    auction.start_again()
    (late,) = await come(auction, end["winner"])
    shown = late.lot(lot)
    is_same((shown["status"], shown["yours"]), ("closed", end["amount"]), "after a restart")
    kept = [{name: bid[name] for name in ("seq", "id", "user", "amount", "time")} for bid in story[-8:]]
    is_same(shown["bids"], kept, "the last bids after a restart")
    print(f"auction: {CROWD * ROUNDS} bids of {CROWD} bidders in {took:.1f} s, {len(story)} accepted")


async def what_was_told_survives_a_crash_amid_the_bidding(auction):
    lot, chance = sell(auction), random.Random(7)
    users = [f"bidder {number}" for number in range(8)]
    # What anybody was told of, and what has no answer: by user and id.
    told, open_bids = {}, {}

    async def bids(bidder, round):
        """Bids until the server is gone."""
        for number in range(1000):
            bid, heard = f"{bidder.user}-{round}-{number}", bidder.of("bid", lot)
            amount = heard[-1]["least"] if heard else bidder.lot(lot)["least"]
            open_bids[bidder.user, bid] = amount
            try:
                await send(bidder.client, type="bid", lot=lot, id=bid, amount=amount)
            except ConnectionClosed:
                return
            answered = asyncio.create_task(bidder.until(bidder.is_answer(bid)))
            await asyncio.wait([answered, bidder.reading], return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                answered.cancel()
                return
            if answered.result()["type"] == "refused":
                del open_bids[bidder.user, bid]

    for round in range(KILLS):
        bidders = await come(auction, *users)
        # Some bids later, in the very moment when one is told.
        enough = len(told) + chance.randrange(5, 40)

        def trap(message):
            if message["type"] == "bid" and message["seq"] >= enough:
                auction.process.kill()

        for bidder in bidders:
            bidder.trap = trap
        await asyncio.gather(*(bids(bidder, round) for bidder in bidders), *(bidder.reading for bidder in bidders))
        auction.kill()
        for bidder in bidders:
            for bid in bidder.of("bid", lot):
                known = told.setdefault(bid["seq"], bid)
                is_same(
                    (bid["user"], bid["id"], bid["amount"]), (known["user"], known["id"], known["amount"]), "a number"
                )
        auction.start_again()
        # Each bid is sent again: those that were told are what they were, the others get an answer.
        bidders = {bidder.user: bidder for bidder in await come(auction, *users)}
        for bid in list(told.values()):
            again = await bidders[bid["user"]].bid(lot, bid["amount"], bid["id"])
            is_same(
                (again["type"], again["seq"], again["amount"]),
                ("bid", bid["seq"], bid["amount"]),
                "a bid that was told",
            )
            open_bids.pop((bid["user"], bid["id"]), None)
        for (user, bid), amount in list(open_bids.items()):
            answer = await bidders[user].bid(lot, amount, bid)
            if answer["type"] == "bid":
                told[answer["seq"]] = answer
        open_bids.clear()
        story = [told[seq] for seq in sorted(told)]
        is_same([bid["seq"] for bid in story], list(range(1, len(story) + 1)), "numbers without gaps")
        is_same([bid["amount"] for bid in story], sorted({bid["amount"] for bid in story}), "amounts, which rise")
        for user, bidder in bidders.items():
            outbid = [("outbid", after["amount"]) for before, after in zip(story, story[1:]) if before["user"] == user]
            await bidder.until(lambda _: len(bidder.news(lot)) >= len(outbid), f"{len(outbid)} notices")
            is_same(sorted(bidder.news(lot)), outbid, f"the news of {user}")
            await bidder.go()
    print(f"auction: {len(told)} bids over {KILLS} crashes")


async def a_late_bid_moves_the_end_and_a_refused_one_does_not(auction):
    lot = sell(auction, closes_in=5, soft_close=3)
    ada, bob = await come(auction, "ada", "bob")
    closes = ada.lot(lot)["closes"]
    is_same((await ada.bid(lot, 1000))["closes"], closes, "the end after an early bid")
    closing = await ada.until(lambda message: message["type"] == "status", "that it is closing")
    is_same((closing["status"], closing["closes"]), ("closing", closes), "the status")
    is_same((await bob.bid(lot, 1001))["type"], "refused", "too little")
    later = await bob.bid(lot, 1100)
    if not closes < later["closes"] <= closes + 3000:
        raise AssertionError(f"the end moved from {closes} to {later['closes']}")
    is_same(later["closes"], later["time"] + 3000, "the end after a late bid")
    end = await ada.until(lambda message: message["type"] == "closed", "that it is closed")
    is_same((end["winner"], end["amount"]), ("bob", 1100), "the end")
    await send(ada.client, type="time", sent=0)
    now = (await ada.until(lambda message: message["type"] == "time"))["now"]
    if not later["closes"] <= now < later["closes"] + 1000:
        raise AssertionError(f"closed at {now}, not at {later['closes']}")
    is_same((await ada.bid(lot, 5000))["reason"], "the lot is closed", "a bid that comes too late")


async def a_lot_that_ends_while_the_server_is_down_is_closed_when_it_is_back(auction):
    lot, kept = sell(auction, closes_in=5, soft_close=1), sell(auction)
    ada, bob = await come(auction, "ada", "bob")
    await ada.bid(lot, 1000)
    await bob.bid(lot, 1100)
    closes, stays = ada.lot(lot)["closes"], ada.lot(kept)["closes"]
    auction.kill()
    await asyncio.sleep(max(0, closes / 1000 - time.time()) + 0.01)
    auction.start_again()
    for user, news in [
        ("ada", [("lost", 1100), ("outbid", 1100)]),
        ("bob", [("won", 1100)]),
        ("sue", [("ended", 1100)]),
    ]:
        (bidder,) = await come(auction, user)
        await bidder.until(lambda _: len(bidder.news(lot)) == len(news), f"{news}")
        is_same(sorted(bidder.news(lot)), news, f"the news of {user}")
        is_same((await bidder.bid(lot, 5000, "too late"))["reason"], "the lot is closed", "a bid for it")
        is_same(bidder.lot(kept)["closes"], stays, "the end of a lot that goes on")
        (again,) = await come(auction, user)
        is_same((again.lot(lot)["status"], again.lot(lot)["least"]), ("closed", None), "the lot")


async def what_is_malformed_is_answered_and_counts_for_nothing(auction):
    lot = sell(auction)
    deep = '{"type":"bid","lot":' + "[" * 1500 + "]" * 1500 + "}"
    async with auction.connect("/auction", auction.login("ada")) as ada:
        is_same((await receive(ada))["type"], "lots", "the first message")
        for bad in [
            "",
            "{",
            "null",
            "[]",
            '"bid"',
            "1",
            '{"type":"buy"}',
            '{"type":"bid"}',
            '{"lot":1}',
            deep,
            b"\0\1",
        ]:
            await ada.send(bad)
            await receive(ada, "error")
        good = {"type": "bid", "lot": lot, "id": "x", "amount": 1000}
        for field, bad in [
            (
                "amount",
                [0, -1, 10.5, 1000.0, 100_000_001, 2**63, 2**64, 1e300, "1000", None, [1000], {"cents": 1000}, True],
            ),
            ("lot", [-1, 1.5, 2**64, "1", None]),
            ("id", ["", "x" * 65, 7, None]),
        ]:
            for value in bad:
                await send(ada, **good | {field: value})
                error = (await receive(ada, "error"))["error"]
                if (
                    field == "amount"
                    and "whole cents, from 1 to 100000000" not in error
                    and "out of range" not in error
                ):
                    raise AssertionError(f"{value!r}: {error}")
        for text in ['{"type":"time","sent":1e999}', '{"type":"time","sent":"now"}', '{"type":"time"}']:
            await ada.send(text)
            await receive(ada, "error")
        await send(ada, **good)
        is_same((await receive(ada, "bid"))["seq"], 1, "the first good bid")
        await ada.send("x" * 4097)
        is_same(await closed(ada), 1009, "the close code")
    (ada,) = await come(auction, "ada")
    is_same(len(ada.lot(lot)["bids"]), 1, "bids")


async def nobody_bids_or_sells_without_a_good_token(auction):
    good = {"title": "A kettle", "opening": 500, "closes_in": 60}
    is_same(auction.ask("POST", "/lots", auction.sign("ada"), good)[0], 201, "a token like the server's own")
    for bad in auction.bad_tokens():
        is_same(auction.ask("POST", "/lots", bad, good)[0], 401, f"the status of a lot with {bad}")
        is_same(await auction.refusal("/auction", bad), 401, f"the status with {bad}")


async def a_lot_is_checked_and_their_number_is_bounded(auction):
    ada = auction.login("ada")
    good = {"title": "A kettle", "opening": 500, "closes_in": 60, "soft_close": 5}
    (eve,) = await come(auction, "eve")
    for field, bad in [
        ("title", ["", " ", "x" * 81, "two\nlines", 5, None]),
        ("opening", [0, -5, 1.5, "5.00", 100_000_001, 2**64, None]),
        ("closes_in", [4, 604_801, -1, 1.5, "60", None]),
        ("soft_close", [0, 301, -1, None]),
    ]:
        for value in bad:
            status, answer = auction.ask("POST", "/lots", ada, good | {field: value})
            if status != 400 or not ("1 to" in answer or "a lot is" in answer or field in answer):
                raise AssertionError(f"{field} {value!r}: {status} {answer}")
    for body in [b"", b"{", b"[]", b"\xff", b"[" * 3000, b" " * 5000]:
        status, answer = auction.ask("POST", "/lots", ada, body)
        if status != 400 or "a lot is" not in answer:
            raise AssertionError(f"{body!r:.40}: {status} {answer}")
    hostile = '<img src=x onerror="window.hacked=1"> \u202e\U0001f4a3'
    is_same(auction.ask("POST", "/lots", ada, good | {"title": hostile})[0], 201, "any text is a title")
    opened = await eve.until(lambda message: message["type"] == "lot", "that a lot was opened")
    is_same(
        (opened["lot"]["title"], opened["lot"]["seller"], opened["lot"]["yours"]), (hostile, "ada", None), "the lot"
    )
    # Three were there from the beginning.
    sellers = [ada] * 19 + [auction.login("bob")] * 20 + [auction.login("cleo")] * 7
    for seller in sellers:
        is_same(auction.ask("POST", "/lots", seller, good)[0], 201, "one of fifty")
        if seller != sellers[0]:
            is_same(auction.ask("POST", "/lots", ada, good)[0], 503, "more than twenty of one seller")
    status, answer = auction.ask("POST", "/lots", sellers[-1], good)
    if status != 503 or "50 open lots" not in answer:
        raise AssertionError(f"the fifty-first: {status} {answer}")
    auction.interrupt()
    auction.start_again()
    (eve,) = await come(auction, "eve")
    is_same(len(eve.heard[0]["lots"]), 50, "lots after a restart")


run(
    "auction",
    a_bid_is_told_to_all_and_a_refusal_to_its_bidder,
    one_bid_sent_twice_counts_once_also_after_a_crash,
    two_hundred_bid_at_once_and_agree_on_everything,
    what_was_told_survives_a_crash_amid_the_bidding,
    a_late_bid_moves_the_end_and_a_refused_one_does_not,
    a_lot_that_ends_while_the_server_is_down_is_closed_when_it_is_back,
    what_is_malformed_is_answered_and_counts_for_nothing,
    nobody_bids_or_sells_without_a_good_token,
    a_lot_is_checked_and_their_number_is_bounded,
)
