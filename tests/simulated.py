"""A simulator that listens and somebody who calls it, for the tests of the simulator.

`Caller` signs by the letter of the reference; it shares no code with the client or with the simulator.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx

from flowsched.simulator import Simulator
from tests.fakes import HandClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)
NOW_MS = 1767268830000
MINUTE_MS = 60_000
PREFIXES = {"2.1": "/batch-processing-service/v2.1/", "2.0": "/dataflow-batch-service/v2.0/"}


class Caller:
    """Makes calls as the reference says they must be; any part can be given otherwise."""

    def __init__(self, url: str, simulator: Simulator, clock: HandClock) -> None:
        self.http = httpx.AsyncClient(base_url=url, trust_env=False, verify=False)  # noqa: S501 - loopback
        self.user = {"userId": simulator.user.id, "orgId": simulator.user.org}
        self.token = ""
        self._key = simulator.application.access_key
        self._secret = simulator.application.secret_key
        self._clock = clock
        self._stamps = count()
        self.lag_ms = 0

    def now_ms(self) -> int:
        return round(self._clock.now().timestamp() * 1000)

    async def token_call(self, action: str = "get", **changes: object) -> dict[str, Any]:
        """Ask the token service, each time with another millisecond; None leaves a field out."""
        timestamp = changes.get("timestamp", self.now_ms() + next(self._stamps))
        digest = sha256(f"{self._key}{timestamp}{self._secret}".encode()).hexdigest()
        fields = {"appKey": self._key, "encryption": digest, "timestamp": timestamp, **changes}
        body = {key: value for key, value in fields.items() if value is not None}
        path = f"/apim-token-service/v2.0/token/{action}"
        reply: dict[str, Any] = (await self.http.post(path, content=json.dumps(body))).json()
        return reply

    async def sign_in(self) -> str:
        self.token = (await self.token_call())["data"]["accessToken"]
        return self.token

    async def signed(
        self,
        method: str,
        resource: str,
        query: Mapping[str, str],
        document: object = None,
        *,
        prefix: str = PREFIXES["2.1"],
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Request:
        """A signed request; `document` None: no body; bytes: as they are."""
        if not self.token:
            await self.sign_in()
        body = document if isinstance(document, bytes) else written(document)
        timestamp = str(self.now_ms() - self.lag_ms)
        text = "".join(f"{name}{query[name]}" for name in sorted(query)).encode()
        signed = self.token.encode() + text + body + timestamp.encode() + self._secret.encode()
        apim = {
            "apim-accesstoken": self.token,
            "apim-timestamp": timestamp,
            "apim-signature": sha256(signed).hexdigest(),
            **(headers or {}),
        }
        return self.http.build_request(method, prefix + resource, params=query, content=body, headers=apim)

    async def send(self, *request: Any, **more: Any) -> httpx.Response:
        """Send a signed request."""
        return await self.http.send(await self.signed(*request, **more))

    async def ask(
        self, method: str, resource: str, action: str, document: object = None, **more: Any
    ) -> dict[str, Any]:
        """Send as the user there is, and return the envelope."""
        query = {"action": action, **self.user, **more.pop("query", {})}
        reply: dict[str, Any] = (await self.send(method, resource, query, document, **more)).json()
        return reply

    async def trigger(self, flow: object = 3377, at: object = NOW_MS, **more: Any) -> dict[str, Any]:
        return await self.ask("POST", "flows", "trigger", {"flowId": flow, "triggerTime": at}, **more)

    async def current_time(self) -> httpx.Response:
        """The shortest signed call there is."""
        return await self.send("GET", "time", {"action": "getCurrentTime"})

    async def delete_flow(self, id_: str, **more: Any) -> dict[str, Any]:
        return await self.ask("GET", "flows", "delete", query={"flowId": id_}, **more)

    async def instance(self, id_: str) -> dict[str, Any]:
        return await self.ask("GET", "flowInstances", "get", query={"flowInstId": id_})


def written(document: object) -> bytes:
    return b"" if document is None else json.dumps(document).encode()


@asynccontextmanager
async def simulated(
    clock: HandClock | None = None, **world: Any
) -> AsyncIterator[tuple[Simulator, Caller, HandClock]]:
    """A simulator that listens, somebody who calls it, and the hand of its clock, at `NOW`."""
    clock = clock or HandClock(NOW)
    simulator = Simulator(clock, **world)
    caller = Caller(await simulator.start(), simulator, clock)
    try:
        yield simulator, caller, clock
    finally:
        await caller.http.aclose()
        await simulator.stop()
