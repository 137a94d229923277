"""Room for one call at a time, and what keeps its connection while all goes well.

Why a connection per slot and not a pool for all: whoever is cancelled, or meets a server that lies, can
spoil nothing but a connection of his own, which is thrown away after anything but a whole reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowsched.enos.calls import Call, Progress
from flowsched.enos.connections import connect
from flowsched.enos.messages import request_of
from flowsched.enos.reasons import reason
from flowsched.enos.replies import NoReply, Reply

if TYPE_CHECKING:
    from flowsched.enos.connections import Connection
    from flowsched.enos.ways import Way

__all__ = ["Call", "Progress", "Slot"]


class Slot:
    """Room for one call at a time, on a connection that is kept from call to call while all goes well."""

    def __init__(self, way: Way) -> None:
        self._way = way
        self._host = way.host_field
        self._kept: Connection | None = None

    async def send(self, call: Call, progress: Progress) -> Reply | NoReply:
        """Send once and read the reply. Raises nothing but CancelledError."""
        request = request_of(call, self._host)
        if request is None:
            return NoReply("the request does not fit into HTTP")
        connection = self._take()
        try:
            connection = connection or await connect(self._way, progress)
            return await connection.exchange(request, call.longest_reply, progress)
        except Exception as error:  # noqa: BLE001 - ssl, the resolver and codecs have errors of their own
            return NoReply(f"{reason(error)}, {progress.stage}")
        finally:
            self._keep(connection)

    def close(self) -> None:
        """Close the connection, if any; the next call makes another."""
        if self._kept is not None:
            self._kept.close()
        self._kept = None

    def _take(self) -> Connection | None:
        """Return the connection that is kept, where it can still be used."""
        if self._kept is not None and not self._kept.is_fit():
            self.close()
        kept, self._kept = self._kept, None
        return kept

    def _keep(self, connection: Connection | None) -> None:
        """Keep a connection that has read a whole reply; close any other."""
        self._kept = connection
        if connection is not None and not connection.rests:
            self.close()
