"""A member's gRPC channel to the coordinator, with its limits and its TLS."""

from __future__ import annotations

import grpc

from sordino_platform.link.address import parse_address
from sordino_platform.link.limits import FRAME_BYTES, METADATA_BYTES, WINDOW_BYTES, Limits
from sordino_platform.link.proxy import is_loopback
from sordino_platform.link.tls import ClientTls


def credentials_of(tls: ClientTls) -> grpc.ChannelCredentials:
    """The certificate that a member shows in the handshake, and the authorities that it trusts."""
    return grpc.ssl_channel_credentials(
        root_certificates=tls.ca, private_key=tls.key, certificate_chain=tls.certificate
    )


def channel_options(
    target: str, limits: Limits, *, server_name: str | None = None
) -> list[tuple[str, int | str]]:
    """gRPC's options of a member's channel: its sizes, its keepalive, no connection shared with another member."""
    keepalive = int(limits.keepalive_seconds * 1000)
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", FRAME_BYTES),
        ("grpc.max_send_message_length", FRAME_BYTES),
        ("grpc.max_metadata_size", METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", METADATA_BYTES),
        ("grpc.http2.lookahead_bytes", WINDOW_BYTES),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.keepalive_time_ms", keepalive),
        ("grpc.keepalive_timeout_ms", keepalive // 3),
        ("grpc.http2.ping_timeout_ms", keepalive // 3),  # else 60 s, despite the line above
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.min_reconnect_backoff_ms", int(limits.hello_seconds * 1000)),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
        # gRPC would send even 127.0.0.1 through a proxy that the environment names.
        ("grpc.enable_http_proxy", int(not is_loopback(parse_address(target)[0]))),
    ]
    if server_name is not None:
        options.append(("grpc.ssl_target_name_override", server_name))
    return options
