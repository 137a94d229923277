"""Who asks: as the kernel knows it, and as a client says."""

from __future__ import annotations

from urllib.parse import quote, unquote

from flowsched.errors import printable, shortened

BY = "x-flowsched-by"
"""The header in which a client says who it is."""

UNKNOWN = "unknown"

_LONGEST = 64
"""Characters of a name."""

_ALL_USERS = ["0", "0", str(2**32 - 1)]


def who(peer: str | None, claimed: str | None) -> str:
    """Return by whom something is done, as the ledger has it.

    `peer` is what the kernel tells of the process at the other end, None where it is not known: in a user
    namespace of its own a daemon sees only some users. Then what the client claims counts. Where both are
    known and differ, as with sudo, both are there: `root (for bob)`.
    """
    if peer is None:
        return claimed or UNKNOWN
    return peer if claimed in (None, peer) else f"{peer} (for {claimed})"


def is_unknown(uid: int, overflow: int, uid_map: str) -> bool:
    """Tell whether a user id stands for all that a user namespace has no number for.

    `overflow` is the id that the kernel shows for those, `uid_map` the text of /proc/self/uid_map
    (user_namespaces(7)). Where that maps all ids to themselves there are no such users, and the id is that of
    a user like any other.
    """
    return uid == overflow and uid_map.split() != _ALL_USERS


def name_in(header: str | None) -> str | None:
    """Return the name that a header holds, on one line and bounded; None: there is none."""
    name = printable(unquote(header or "")).strip()
    return shortened(name, _LONGEST) or None


def header_of(name: str) -> str:
    """Return a name as a header can hold it."""
    return quote(name, safe=" ()@._-")
