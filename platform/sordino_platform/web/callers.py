"""Where a request comes from, by its head alone. Pure.

Host                     DNS rebinding (CVE-2024-28224): a foreign name that resolves to 127.0.0.1
Origin, Sec-Fetch-Site   a web page that reaches for a port on loopback; a page cannot forge either
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
OWN_SITE: Final = frozenset({b"none", b"same-origin"})
# The value for a header that came more than once. No rule ever allows it.
AMBIGUOUS: Final = b"\0"

Stranger = Literal["host", "origin"]
# The status for each: a misdirected request (RFC 9110, section 15.5.20), and a forbidden one.
STRANGER_STATUS: Final[Mapping[str, int]] = {"host": 421, "origin": 403}


class RequestHeaders:
    """The headers of one request, by lower-case name. A header that came twice is AMBIGUOUS, so that a rule here and a
    later reader cannot use different ones.

    >>> RequestHeaders([(b"host", b"localhost:1")])[b"host"]
    b'localhost:1'
    """

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[bytes, bytes] = {}
        for name, value in headers:
            self._values[name] = AMBIGUOUS if name in self._values else value

    def __getitem__(self, name: bytes) -> bytes | None:
        return self._values.get(name)

    def __contains__(self, name: bytes) -> bool:
        return name in self._values


def stranger(
    head: RequestHeaders, *, hosts: frozenset[str] = LOOPBACK, origins: tuple[bytes, ...] = ()
) -> Stranger | None:
    """The rule that a head breaks; None when it is allowed.

    `hosts` are the port's own names, without ports, in lower case. `origins` are the prefixes of the only allowed
    origins. A request without an origin does not come from a page of another site, or Sec-Fetch-Site shows that it
    does.
    """
    if host_name_of(head[b"host"]) not in hosts:
        return "host"
    origin, site = head[b"origin"], head[b"sec-fetch-site"]
    if origin is not None:
        return None if origin.startswith(origins) and origin != AMBIGUOUS else "origin"
    return "origin" if site is not None and site not in OWN_SITE else None


def host_name_of(host: bytes | None) -> str:
    """The name in a Host header, in lower case, without its port; empty when the header is invalid."""
    text = (host or b"").decode("latin-1").lower()
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text
    return name if port.isascii() and port.isdecimal() else ""
