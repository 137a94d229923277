"""The gateways of a process, with the keys that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from flowsched.config import read_secrets
from flowsched.enos import Gateway
from flowsched.errors import SecretError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flowsched.clock import Clock
    from flowsched.model import Settings, Target


def gateway_of(target: Target, settings: Settings, environ: Mapping[str, str], clock: Clock) -> Gateway:
    """Return the gateway of a target; raises SecretError and ConfigError, and makes no connection."""
    access_key, secret_key = read_secrets((target.access_key, target.secret_key), environ)
    return Gateway(
        target,
        access_key.reveal(),
        secret_key.reveal(),
        clock,
        clock_tolerance=settings.clock_tolerance,
        exports_spans=settings.traces is not None,
    )


def gateways_of(settings: Settings, environ: Mapping[str, str], clock: Clock) -> dict[str, Gateway]:
    """Return the gateway of each target, as `gateway_of` does; SecretError has the faults of all targets."""
    gateways: dict[str, Gateway] = {}
    faults: list[str] = []
    for name, target in settings.targets.items():
        try:
            gateways[name] = gateway_of(target, settings, environ, clock)
        except SecretError as error:
            faults += error.faults
    if faults:
        raise SecretError(*faults)
    return gateways


class GatewaysOnDemand(Mapping[str, Gateway]):
    """The gateway of each target, made when it is first asked for: who needs none needs no keys."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], clock: Clock) -> None:
        self._settings = settings
        self._environ = environ
        self._clock = clock
        self._made: dict[str, Gateway] = {}

    def __getitem__(self, name: str) -> Gateway:
        """Return the gateway of a target. Raises KeyError, SecretError, ConfigError."""
        if name not in self._made:
            target = self._settings.targets[name]
            self._made[name] = gateway_of(target, self._settings, self._environ, self._clock)
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._settings.targets

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings.targets)

    def __len__(self) -> int:
        return len(self._settings.targets)

    async def aclose(self) -> None:
        """Close those that were made."""
        for gateway in self._made.values():
            await gateway.aclose()
