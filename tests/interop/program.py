"""A program under test, for clients of the Python package `websockets`.

    with Program("chat", "target/release/chat") as chat:
        async with chat.connect("/chat/lobby", token) as client: ...

It keeps its data in a folder of its own, which goes with it, and is ended on every path.
"""

import asyncio
import base64
import hmac
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

DEADLINE = 20


class Program:
    def __init__(self, name, binary):
        self.name, self.binary, self.address = name, binary, "127.0.0.1:0"
        self._folder = tempfile.TemporaryDirectory(prefix=f"{name}-")
        self.start_again()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(DEADLINE)
        self.process.stdout.close()
        self._folder.cleanup()

    def start_again(self):
        """Starts it, after its end at the same address with the same data."""
        data = Path(self._folder.name) / f"{self.name}.redb"
        kept = {name: value for name, value in os.environ.items() if name not in ("HOST", "JWT_SECRET")}
        environment = kept | {"PORT": self.address.rsplit(":", 1)[1], "DATA": str(data)}
        self.process = subprocess.Popen(
            [self.binary], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        line = self.process.stdout.readline()
        if not line.startswith(f"{self.name} is at http://"):
            raise AssertionError(f"{self.name} does not say its address, but {line!r}")
        self.address = line.strip().rsplit("/", 1)[1]

    def kill(self):
        """Ends it without a word (SIGKILL)."""
        self._end(self.process.kill)

    def interrupt(self):
        """Sends Ctrl-C, and returns its exit status."""
        return self._end(lambda: self.process.send_signal(signal.SIGINT))

    def _end(self, how):
        how()
        status = self.process.wait(DEADLINE)
        self.process.stdout.close()
        return status

    def ask(self, method, path, token=None, body=None):
        """Asks over HTTP: the status, and the answer as JSON or else as text."""
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=DEADLINE) as answer:
                return answer.status, _read(answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                return refused.code, _read(refused.read())

    def login(self, user):
        status, answer = self.ask("POST", "/login", body={"user": user})
        is_same(status, 200, f"the login of {user}")
        return answer["token"]

    def sign(self, user="ada", key=None, alg="HS256", **claims):
        """A token that is none of its logins', though signed with its own key, unless that is said."""
        key = key or (Path(self._folder.name) / f"{self.name}.redb.key").read_bytes()
        claims = {"sub": user, "aud": self.name, "exp": int(time.time()) + 600} | claims
        signed = _base64(json.dumps({"alg": alg, "typ": "JWT"}).encode()) + b"." + _base64(json.dumps(claims).encode())
        signature = b"" if alg == "none" else _base64(hmac.digest(key, signed, "sha256"))
        return (signed + b"." + signature).decode()

    def bad_tokens(self):
        """What opens nothing here: none, nonsense, of another key, unsigned, with a stolen signature, of another
        audience, expired."""
        stolen = self.login("ada").rsplit(".", 1)[0] + "." + self.sign("eve").rsplit(".", 1)[1]
        forged, unsigned = self.sign(key=b"k" * 32), self.sign(alg="none")
        return [None, "x", forged, unsigned, stolen, self.sign(aud="another"), self.sign(exp=int(time.time()) - 3600)]

    async def refusal(self, path, token=None):
        """The status that a socket is answered with; 101 when it is let in."""
        try:
            async with self.connect(path, token):
                return 101
        except InvalidStatus as refused:
            return refused.response.status_code

    def connect(self, path, token=None):
        """A connection as a browser makes it: the token is a subprotocol."""
        protocols = ["bearer", token] if token else None
        return connect(f"ws://{self.address}{path}", subprotocols=protocols, max_size=None, proxy=None)


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _read(body):
    try:
        return json.loads(body)
    except ValueError:
        return body.decode()


def is_same(got, expected, what):
    if got != expected:
        raise AssertionError(f"{what}: expected {expected!r:.300}, got {got!r:.300}")


async def receive(client, kind=None):
    """The next message; with a kind, the next one of that type."""
    async with asyncio.timeout(DEADLINE):
        while True:
            message = json.loads(await client.recv())
            if kind is None or message["type"] == kind:
                return message


async def send(client, **message):
    await client.send(json.dumps(message))


async def closed(client):
    """Reads on until the connection is closed: the close code."""
    async with asyncio.timeout(DEADLINE):
        try:
            while True:
                await client.recv()
        except ConnectionClosed as end:
            return end.rcvd.code if end.rcvd else 1006


def run(name, *tests):
    """Runs each test with a fresh program: `protocol.py BINARY`."""
    for test in tests:
        with Program(name, sys.argv[1]) as program:
            asyncio.run(asyncio.wait_for(test(program), 120))
        print(f"{name}: {test.__name__}: ok")
    print(f"{name}: {len(tests)} checks by a client that is not ours")
