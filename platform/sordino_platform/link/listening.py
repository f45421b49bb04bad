"""The coordinator's port in gRPC: its options, its TLS, its stream as a wire, and the errors when opening it fails."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any, Final

import grpc
from grpc import aio

from sordino_platform.link.limits import FRAME_BYTES, METADATA_BYTES, WINDOW_BYTES, Limits
from sordino_platform.link.tls import ServerTls, ServerTlsSource
from sordino_platform.machine.sockets import claim
from sordino_privacy.errors import LinkError, PortInUseError, SordinoError

STREAMS_PER_CONNECTION: Final = 1
IDLE_SECONDS: Final = 30


def server_options(limits: Limits) -> list[tuple[str, int]]:
    """gRPC's server options for these limits."""
    keepalive = int(limits.keepalive_seconds * 1000)
    return [
        ("grpc.so_reuseport", 0),  # otherwise a second coordinator would silently get half of the members
        ("grpc.max_receive_message_length", FRAME_BYTES),
        ("grpc.max_send_message_length", FRAME_BYTES),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", limits.connections),
        ("grpc.server_handshake_timeout_ms", int(limits.hello_seconds * 1000)),
        ("grpc.max_connection_idle_ms", IDLE_SECONDS * 1000),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),  # otherwise the window could grow to megabytes per member
        ("grpc.keepalive_time_ms", keepalive),
        ("grpc.keepalive_timeout_ms", keepalive // 3),
        ("grpc.http2.ping_timeout_ms", keepalive // 3),  # else 60 s, despite the line above
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", keepalive // 3),
        ("grpc.http2.max_ping_strikes", 2),
    ]


def server_credentials(source: ServerTlsSource) -> grpc.ServerCredentials:
    """Mutual TLS. A source that is a function is called at each handshake. Raises SordinoError."""
    if isinstance(source, ServerTls):
        return grpc.ssl_server_credentials(
            [(source.key, source.certificate)], root_certificates=source.ca, require_client_auth=True
        )
    served = source()

    def renewed() -> Any:
        """gRPC calls this at each handshake, on its own threads. None means no change.

        A result replaces gRPC's handshake factory, which is not safe while other handshakes start: with a result at
        each handshake, many members at once crashed the process (tests/link/test_storm.py).
        """
        nonlocal served
        try:
            now = source()
        except SordinoError:
            return None  # a renewal in progress
        if now == served:
            return None
        served = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served), renewed, require_client_authentication=True
    )


def _configuration(tls: ServerTls) -> Any:
    """A server's key, certificate and trusted authorities, in gRPC's form."""
    return grpc.ssl_server_certificate_configuration([(tls.key, tls.certificate)], root_certificates=tls.ca)


class GrpcWire:
    """gRPC's context as a Wire."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def certificate(self) -> bytes:
        """The other side's certificate (PEM), verified by TLS; empty if it showed none."""
        return bytes(self._context.auth_context().get("x509_pem_cert", [b""])[0])

    async def read(self) -> bytes | None:
        """The next message, or None when the other side has ended the stream."""
        raw = await self._context.read()
        return raw if isinstance(raw, bytes) else None

    async def write(self, message: bytes) -> None:
        """Raises ConnectionError when the stream has ended."""
        try:
            await self._context.write(message)
        except (aio.BaseError, asyncio.InvalidStateError):
            raise ConnectionError from None


def require_bindable(host: str, port: int) -> None:
    """Raises PortInUseError or LinkError, with the reason that gRPC does not give."""
    try:
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as probe:
            claim(probe)
            probe.bind(where)
            probe.listen(1)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"port {port} on {host} is in use",
                hint="stop the other process (find it with: ss -ltnp), or choose another port",
            ) from None
        raise LinkError(
            f"cannot listen on {host}:{port}: {problem.strerror}",
            hint="the address must be one of this machine's; a port below 1024 needs privileges",
        ) from None
