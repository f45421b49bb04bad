"""Addresses of the link: `host:port`, with brackets around an IPv6 host."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from sordino_privacy.errors import LinkError, UsageError


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[host]:port`. Raises LinkError otherwise."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or len(port) > 5 or int(port) > 65535:
        raise LinkError(
            f"{address!r} is not an address", hint="write host:port, for example coordinator.example.org:9443"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def told_apart(hosts: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """DNS names and IP addresses of `hosts`, without duplicates, in their order."""
    names: list[str] = []
    addresses: list[str] = []
    for host in hosts:
        try:
            addresses.append(str(ip_address(host)))
        except ValueError:
            names.append(host.lower())
    return tuple(dict.fromkeys(names)), tuple(dict.fromkeys(addresses))


def require_address(address: str, *, option: str) -> None:
    """Raises UsageError if `address`, typed by a user for `option`, is not a valid address."""
    try:
        parse_address(address)
    except LinkError as problem:
        raise UsageError(f"{option}: {problem.message}", hint=problem.hint) from None
