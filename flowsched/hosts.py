"""What a host is, as URLs and settings write it: a name, an address, this machine."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address


def address_of(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that a host is, with or without brackets; None: it is a name."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine: `localhost`, or an address of the loopback."""
    address = address_of(host)
    return host.lower() == "localhost" or (address is not None and address.is_loopback)
