"""Tries a connection as a member would: a plain TLS handshake, through the same proxy as gRPC.

gRPC reports every failure as `UNAVAILABLE ... Socket closed`. `diagnosis` tells a person which failure it is and what
to do.
"""

from __future__ import annotations

import contextlib
import datetime
import http.client
import secrets
import socket
import ssl
import tempfile
from collections.abc import Callable
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from sordino_platform.link.address import parse_address
from sordino_platform.link.diagnosis import (
    Cause,
    Diagnosed,
    Diagnosis,
    certificate_unverified,
    handshake_closed,
    handshake_refused,
    require_own_certificate,
)
from sordino_platform.link.proxy import Proxy, proxy_of, through
from sordino_platform.link.tls import ClientTls, ClientTlsSource
from sordino_privacy.errors import LinkError


def diagnose(
    target: str, *, tls: ClientTlsSource, server_name: str | None = None, seconds: float = 10.0
) -> Diagnosis:
    """Connects once, as a member would, and says what happened.

    `seconds` limits each step. A failed connection raises nothing; it is the result.
    """
    try:
        material = tls if isinstance(tls, ClientTls) else tls()
        host, port = parse_address(target)
        proxy = proxy_of(target)
    except LinkError as problem:
        return Diagnosis(cause=Cause.FILES, message=problem.message, hint=problem.hint)

    def connect() -> socket.socket:
        return _connected(host, port, seconds) if proxy is None else _tunnelled(proxy, host, port, seconds)

    try:
        require_own_certificate(material, now=datetime.datetime.now(datetime.UTC))
        _handshake(connect, target, server_name or host, material)
    except Diagnosed as found:
        return found.diagnosis
    except OSError as problem:
        return Diagnosis(
            cause=Cause.UNREACHABLE,
            message=f"the connection to {target} broke off during the TLS handshake ({type(problem).__name__})",
            hint="a firewall or proxy between here and the coordinator may intercept TLS: it must let it through as is",
        )
    way = f" through the proxy in ${proxy.variable}" if proxy is not None else ""
    return Diagnosis(
        cause=Cause.REACHABLE,
        message=f"{target} answers{way}, and both sides accept each other's certificate",
        hint="if no stream opens all the same, the coordinator is starting or full: look at its log",
    )


def _connected(host: str, port: int, seconds: float) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=seconds)
    except socket.gaierror:
        raise Diagnosed(
            Cause.NAME_RESOLUTION,
            f"the name {host} cannot be resolved",
            "check the coordinator's address in the settings, and this machine's DNS",
        ) from None
    except ConnectionRefusedError:
        raise Diagnosed(
            Cause.CONNECTION_REFUSED,
            f"nothing listens on {host}:{port}",
            "is the coordinator running, and is this its port?",
        ) from None
    except OSError as problem:
        raise Diagnosed(
            Cause.UNREACHABLE,
            f"{host}:{port} cannot be reached ({problem.strerror or 'no answer'})",
            f"a firewall must let this machine connect out to port {port}",
        ) from None


def _tunnelled(proxy: Proxy, host: str, port: int, seconds: float) -> socket.socket:
    """A connection through the proxy. Messages never show the proxy's address, which may contain a password."""
    name = f"the proxy in ${proxy.variable}"
    hint = (
        f"let it pass CONNECT to {host}:{port}; or go round it with no_grpc_proxy={host} (the link reads "
        "grpc_proxy, https_proxy, http_proxy, no_grpc_proxy and no_proxy in lower case only, and knows no *)"
    )
    try:
        return through(proxy, host, port, seconds=seconds)
    except http.client.HTTPException as problem:
        said = f" ({problem})" if str(problem) else ""
        raise Diagnosed(Cause.PROXY, f"{name} does not connect to {host}:{port}{said}", hint) from None
    except OSError as problem:
        why = problem.strerror or "no answer"
        raise Diagnosed(
            Cause.PROXY, f"{name} cannot be reached ({why})", f"check the variable; {hint}"
        ) from None


def _handshake(connect: Callable[[], socket.socket], target: str, name: str, tls: ClientTls) -> None:
    """Raises Diagnosed for every failure; returns when both sides accept each other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=tls.ca.decode("ascii", "replace"))
    _load_own(context, tls)
    try:
        with connect() as plain, context.wrap_socket(plain, server_hostname=name) as secure:
            if secure.selected_alpn_protocol() != "h2":
                raise Diagnosed(
                    Cause.NOT_A_COORDINATOR,
                    f"{target} speaks TLS but not gRPC",
                    "check the port; a proxy that ends TLS cannot stand before a coordinator",
                )
            # In TLS 1.3 the server accepts or refuses our certificate after the handshake. If it accepts, HTTP/2's
            # SETTINGS follow at once.
            if not secure.recv(9):
                raise handshake_closed(target)
    except ssl.SSLCertVerificationError as problem:
        raise certificate_unverified(
            problem.verify_code,
            problem.verify_message,
            target=target,
            name=name,
            names=partial(_names, connect),
        ) from None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError):
        raise handshake_closed(target) from None
    except ssl.SSLError as problem:
        raise handshake_refused(problem.reason or "", target) from None


def _names(connect: Callable[[], socket.socket]) -> str:
    """The names in the certificate of a peer that was refused, read in a second handshake without verification."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(Diagnosed, OSError, ValueError, x509.ExtensionNotFound):
        with connect() as plain, context.wrap_socket(plain) as secure:
            der = secure.getpeercert(binary_form=True) or b""
        names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        dns = names.value.get_values_for_type(x509.DNSName)
        addresses = [str(a) for a in names.value.get_values_for_type(x509.IPAddress)]
        found = [name for name in [*dns, *addresses] if name.isprintable()]
        return ", ".join(found[:5]) or "no name at all"
    return "another name"


def _load_own(context: ssl.SSLContext, tls: ClientTls) -> None:
    """`ssl` reads keys only from files, so the key is written encrypted, with a password that only this call knows."""
    password = secrets.token_hex(16).encode()
    key = load_pem_private_key(tls.key, password=None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
    )
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:  # mode 0600
        file.write(key + tls.certificate)
        file.flush()
        context.load_cert_chain(file.name, password=password)
