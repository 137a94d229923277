"""Who is told of alerts and pings: a receiver that is slow, says 500, hangs, and mostly listens."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import suppress
from random import Random
from typing import Self

HANGS = 3.0
"""Real seconds without an answer, before it hangs up."""

MOODS = {"ok": 70, "500": 12, "hang": 6, "hang up": 6, "slow": 6}
"""How it answers, and how often."""

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK"
_FAULT = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Receiver:
    """`async with Receiver(seed) as receiver:`, then look at what it took."""

    def __init__(self, seed: int, hangs: float = HANGS) -> None:
        self.moods: Counter[str] = Counter()
        self.messages: Counter[str] = Counter()
        """By its id, how often it took each message."""
        self.kinds: Counter[str] = Counter()
        """Of the alerts that it took."""
        self.pings = 0
        self._chance = Random(f"receiver {seed}")  # noqa: S311 - to be repeated
        self._hangs = hangs
        self._answering: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            self._answering.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.lower().splitlines()
        length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        (mood,) = self._chance.choices(list(MOODS), list(MOODS.values()))
        self.moods[mood] += 1
        match mood:
            case "hang":
                await asyncio.sleep(self._hangs)
            case "slow":
                await asyncio.sleep(self._hangs / 6)
        if mood in ("ok", "slow"):
            self._hear(head.split()[1], body)
            writer.write(_OK)
        elif mood == "500":
            writer.write(_FAULT)
        await writer.drain()

    def _hear(self, path: str, body: bytes) -> None:
        if path != "/alerts":
            self.pings += 1
            return
        message = json.loads(body)
        self.messages[message["id"]] += 1
        self.kinds.update(alert["kind"] for alert in message["alerts"])
