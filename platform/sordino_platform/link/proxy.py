"""The proxy that the link uses, by gRPC's own rules, and a connection through it for the diagnosis.

gRPC reads the environment itself (`http_proxy_mapper.cc` in gRPC core), by other rules than curl or Python:

* `grpc_proxy`, `https_proxy`, `http_proxy`, in lower case only; the first that is set counts, and an empty one means
  that there is no proxy. Only `http://` is understood: the proxy is asked by CONNECT, in clear.
* `no_grpc_proxy`, or where that is not set `no_proxy`, in lower case only: endings of host names without a regard for
  case, and subnets for a host that is an address. It knows no `*`.

A loopback address is never reached through a proxy: `is_loopback` says which, and the client switches gRPC's proxy off
for it.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from sordino_platform.link.address import parse_address

PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
EXCEPTIONS: Final = ("no_grpc_proxy", "no_proxy")
DEFAULT_PORT: Final = 443


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy and the variable that names it. repr never shows `credentials` (user:password)."""

    variable: str
    host: str
    port: int
    credentials: str = field(default="", repr=False)


def is_loopback(host: str) -> bool:
    """Whether a host, as written in an address, is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


def proxy_of(target: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy through which gRPC connects to `target` (host:port), or None for a direct connection.

    Raises LinkError when `target` is not an address.
    """
    host, _ = parse_address(target)
    variable = next((name for name in PROXIES if name in environment), None)
    if variable is None or is_loopback(host):
        return None
    exceptions = next((environment[name] for name in EXCEPTIONS if name in environment), "")
    if any(_covers(entry.strip(), host) for entry in exceptions.split(",") if entry.strip()):
        return None
    try:
        url = urlsplit(environment[variable])
        named, port = url.hostname, url.port or DEFAULT_PORT
    except ValueError:  # gRPC cannot read it either, and connects directly
        return None
    if url.scheme != "http" or not named:
        return None
    return Proxy(
        variable=variable,
        host=named,
        port=port,
        credentials=unquote(url.netloc.rpartition("@")[0]),
    )


def _covers(exception: str, host: str) -> bool:
    """Whether an entry of the list of exceptions matches a host."""
    if host.lower().endswith(exception.lower()):
        return True
    network, slash, bits = exception.partition("/")
    if not slash or not bits.isdecimal():
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(f"{network}/{bits}", strict=False)
    except ValueError:
        return False


def through(proxy: Proxy, host: str, port: int, *, seconds: float) -> socket.socket:
    """A connection to `host`:`port` through the proxy; `seconds` limits each wait.

    Raises OSError when the proxy cannot be reached (`ConnectionRefusedError`, `socket.gaierror`, ...) and
    `http.client.HTTPException` when it is reached but refuses the connection; the text of the latter is printable.
    """
    connection = http.client.HTTPConnection(proxy.host, proxy.port, timeout=seconds)
    connection.connect()
    plain = connection.sock
    assert isinstance(plain, socket.socket)
    lines = [f"CONNECT {_bracketed(host)}:{port} HTTP/1.1", f"Host: {_bracketed(host)}:{port}"]
    if proxy.credentials:
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(proxy.credentials.encode()).decode()}")
    try:
        plain.sendall("\r\n".join([*lines, "", ""]).encode("ascii", "replace"))
        # The coordinator sends nothing before we do, so none of its bytes can follow the proxy's answer yet.
        answer = http.client.HTTPResponse(plain, method="CONNECT")
        answer.begin()
        if answer.status != http.client.OK:
            said = "".join(letter for letter in answer.reason[:80] if letter.isprintable())
            raise http.client.HTTPException(f"{answer.status} {said}".rstrip())
    except BaseException:
        plain.close()
        raise
    return plain


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
