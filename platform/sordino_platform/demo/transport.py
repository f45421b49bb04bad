"""Tests the transport by connecting: what the coordinator's port answers to a stranger and to a member."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

TIMEOUT_SECONDS = 5.0
# A gRPC server sends first: an HTTP/2 SETTINGS frame (RFC 9113, section 3.4). Its type, 4, is in the fourth byte.
SETTINGS_TYPE_OFFSET, SETTINGS_TYPE = 3, 4
CLIENT_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def probe(host: str, port: int, *, authority: bytes, certificate: Path, key: Path) -> str:
    """`grpc+mtls` when a TLS client with a member's certificate gets HTTP/2 and one without gets nothing.

    Otherwise what was found: `grpc+tls` (a stranger was let in), `plaintext` or `none`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.decode())
    context.check_hostname = False  # the link checks the name; this checks only who is let in
    context.set_alpn_protocols(["h2"])
    stranger = speaks_http2(host, port, context)
    context.load_cert_chain(certificate, key)
    member = speaks_http2(host, port, context)
    if member and not stranger:
        return "grpc+mtls"
    if member:
        return "grpc+tls"
    return "plaintext" if speaks_http2(host, port, None) else "none"


def speaks_http2(host: str, port: int, context: ssl.SSLContext | None) -> bool:
    """Whether the server sends an HTTP/2 SETTINGS frame to this client."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as raw:
            stream = raw if context is None else context.wrap_socket(raw, server_hostname=host)
            with stream:
                stream.sendall(CLIENT_PREFACE)
                head = stream.recv(9)
    except (OSError, ssl.SSLError):
        return False
    return len(head) == 9 and head[SETTINGS_TYPE_OFFSET] == SETTINGS_TYPE
