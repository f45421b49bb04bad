"""Why a connection cannot be made, found with a plain TLS handshake on gRPC's way: through the same proxy.

gRPC reports each of these as `UNAVAILABLE ... Socket closed`. A person needs to know which one it is and what to do.

Only what is certain is permanent. A connection that ends in the middle of the handshake is not: a coordinator that is
full or starting ends one like that, and so does every firewall. gRPC's servers send no TLS alert when they refuse a
certificate, so what can be wrong with the own one is looked at here, before anything is sent; an alert, from whoever
ends TLS before the coordinator, is the one refusal that is believed.
"""

from __future__ import annotations

import contextlib
import datetime
import enum
import http.client
import secrets
import socket
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from sordino_platform.issued import issued_by
from sordino_platform.link.address import parse_address
from sordino_platform.link.proxy import Proxy, proxy_of, through
from sordino_platform.link.tls import ClientTls, ClientTlsSource, certificate_of
from sordino_privacy.errors import LinkError


class Cause(enum.StrEnum):
    """What stands between a member and its coordinator."""

    REACHABLE = "reachable"  # TLS works both ways: the coordinator was busy, or is starting
    BROKEN = "broken"  # a connection that worked has broken
    ENDED = "ended"  # the coordinator said Goodbye
    OFFENDED = "offended"  # the coordinator broke the link's protocol
    FILES = "files"  # own key, certificate or CA cannot be used
    OWN_EXPIRED = "own_expired"
    OWN_NOT_YET_VALID = "own_not_yet_valid"
    OWN_OTHER_CA = "own_other_ca"  # the own certificate is not from the federation's CA
    OWN_REFUSED = "own_refused"  # a TLS alert about the own certificate
    PROXY = "proxy"  # the proxy that the environment names does not let us through
    NAME_RESOLUTION = "name_resolution"
    CONNECTION_REFUSED = "connection_refused"
    UNREACHABLE = "unreachable"
    CLOSED = "closed"  # the connection ended in the handshake, and nobody said why
    NOT_TLS = "not_tls"
    NOT_A_COORDINATOR = "not_a_coordinator"
    OTHER_CA = "other_ca"  # the coordinator's certificate is from another CA
    WRONG_NAME = "wrong_name"
    SERVER_EXPIRED = "server_expired"
    SERVER_NOT_YET_VALID = "server_not_yet_valid"


TEMPORARY: Final = frozenset(
    {
        Cause.REACHABLE,
        Cause.BROKEN,
        Cause.ENDED,
        Cause.OFFENDED,
        Cause.NAME_RESOLUTION,
        Cause.CONNECTION_REFUSED,
        Cause.UNREACHABLE,
        Cause.CLOSED,
        Cause.PROXY,
        Cause.SERVER_EXPIRED,
        Cause.SERVER_NOT_YET_VALID,
    }
)

# OpenSSL's X509_V_ERR_* numbers.
NOT_YET_VALID, EXPIRED = 9, 10
UNTRUSTED: Final = frozenset({2, 18, 19, 20, 21})
NAME_MISMATCH: Final = frozenset({62, 64})

# The alerts of RFC 8446, section 6.2, that speak of the certificate that was shown, as OpenSSL names them. Any other
# alert says that something else went wrong.
CERTIFICATE_ALERTS: Final = (
    "ALERT_BAD_CERTIFICATE",
    "ALERT_UNSUPPORTED_CERTIFICATE",
    "ALERT_CERTIFICATE_REVOKED",
    "ALERT_CERTIFICATE_EXPIRED",
    "ALERT_CERTIFICATE_UNKNOWN",
    "ALERT_UNKNOWN_CA",
    "ALERT_ACCESS_DENIED",
    "ALERT_CERTIFICATE_REQUIRED",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One line about what is wrong, and what to do."""

    cause: Cause
    message: str
    hint: str = ""

    @property
    def permanent(self) -> bool:
        """Whether trying again cannot help before somebody changes something on this machine."""
        return self.cause not in TEMPORARY

    @classmethod
    def broken(cls) -> Self:
        """A stream that had been welcomed broke off."""
        return cls(cause=Cause.BROKEN, message="the connection to the coordinator broke")

    @classmethod
    def ended(cls, reason: str, detail: str) -> Self:
        """The coordinator said Goodbye for a reason that does not last."""
        text = f" ({detail})" if detail else ""
        return cls(cause=Cause.ENDED, message=f"the coordinator ended the connection: {reason}{text}")

    @classmethod
    def offended(cls, how: str) -> Self:
        """The coordinator sent what the protocol does not allow."""
        return cls(
            cause=Cause.OFFENDED,
            message=f"the coordinator broke the link's protocol: {how}",
            hint="compare the releases of sordino on both sides; if they agree, report it",
        )


class _Found(Exception):  # noqa: N818 - it carries the answer out of the probe
    def __init__(self, cause: Cause, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.diagnosis = Diagnosis(cause=cause, message=message, hint=hint)


def diagnose(
    target: str, *, tls: ClientTlsSource, server_name: str | None = None, seconds: float = 10.0
) -> Diagnosis:
    """Connects once, as a member would, and says what happened. `seconds` bounds each step. Raises nothing for a
    connection that fails; that is the answer."""
    try:
        material = tls if isinstance(tls, ClientTls) else tls()
        host, port = parse_address(target)
        proxy = proxy_of(target)
    except LinkError as problem:
        return Diagnosis(cause=Cause.FILES, message=problem.message, hint=problem.hint)

    def connect() -> socket.socket:
        return _connected(host, port, seconds) if proxy is None else _tunnelled(proxy, host, port, seconds)

    try:
        _check_own(material)
        _handshake(connect, target, server_name or host, material)
    except _Found as found:
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


def _check_own(tls: ClientTls) -> None:
    own = certificate_of(tls.certificate, "the own certificate")
    now = datetime.datetime.now(datetime.UTC)
    if now >= own.not_valid_after_utc:
        raise _Found(
            Cause.OWN_EXPIRED,
            f"this member's certificate expired on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            "renew it: sordino identity renew; if that date lies ahead, set this machine's clock",
        )
    if now < own.not_valid_before_utc:
        raise _Found(
            Cause.OWN_NOT_YET_VALID,
            f"this member's certificate is valid only from {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on",
            "check this machine's clock",
        )
    issuers = x509.load_pem_x509_certificates(tls.issuers or tls.ca)
    if not any(issued_by(own, issuer) for issuer in issuers):
        raise _Found(
            Cause.OWN_OTHER_CA,
            f"this member's certificate was issued by another CA ({own.issuer.rfc4514_string()}) than the federation's "
            f"({issuers[0].subject.rfc4514_string()})",
            "renew it: sordino identity renew; or ask the operator for a certificate of this federation",
        )


def _connected(host: str, port: int, seconds: float) -> socket.socket:
    try:
        return socket.create_connection((host, port), timeout=seconds)
    except socket.gaierror:
        raise _Found(
            Cause.NAME_RESOLUTION,
            f"the name {host} cannot be resolved",
            "check the coordinator's address in the settings, and this machine's DNS",
        ) from None
    except ConnectionRefusedError:
        raise _Found(
            Cause.CONNECTION_REFUSED,
            f"nothing listens on {host}:{port}",
            "is the coordinator running, and is this its port?",
        ) from None
    except OSError as problem:
        raise _Found(
            Cause.UNREACHABLE,
            f"{host}:{port} cannot be reached ({problem.strerror or 'no answer'})",
            f"a firewall must let this machine connect out to port {port}",
        ) from None


def _tunnelled(proxy: Proxy, host: str, port: int, seconds: float) -> socket.socket:
    """A connection through the proxy. Its address stays out of what is said: it may hold a password."""
    name = f"the proxy in ${proxy.variable}"
    hint = (
        f"let it pass CONNECT to {host}:{port}; or go round it with no_grpc_proxy={host} (the link reads "
        "grpc_proxy, https_proxy, http_proxy, no_grpc_proxy and no_proxy in lower case only, and knows no *)"
    )
    try:
        return through(proxy, host, port, seconds=seconds)
    except http.client.HTTPException as problem:
        said = f" ({problem})" if str(problem) else ""
        raise _Found(Cause.PROXY, f"{name} does not connect to {host}:{port}{said}", hint) from None
    except OSError as problem:
        why = problem.strerror or "no answer"
        raise _Found(
            Cause.PROXY, f"{name} cannot be reached ({why})", f"check the variable; {hint}"
        ) from None


def _handshake(connect: Callable[[], socket.socket], target: str, name: str, tls: ClientTls) -> None:
    """Raises _Found for all that goes wrong; returns when both sides accept each other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(cadata=tls.ca.decode("ascii", "replace"))
    _load_own(context, tls)
    try:
        with connect() as plain, context.wrap_socket(plain, server_hostname=name) as secure:
            if secure.selected_alpn_protocol() != "h2":
                raise _Found(
                    Cause.NOT_A_COORDINATOR,
                    f"{target} speaks TLS but not gRPC",
                    "check the port; a proxy that ends TLS cannot stand before a coordinator",
                )
            # In TLS 1.3 the verdict on our certificate comes after the handshake. An accepted one is followed by
            # HTTP/2's SETTINGS at once.
            if not secure.recv(9):
                raise _closed(target)
    except ssl.SSLCertVerificationError as problem:
        raise _verification(problem, connect, target, name) from None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionResetError, BrokenPipeError):
        raise _closed(target) from None
    except ssl.SSLError as problem:
        reason = problem.reason or ""
        if reason.endswith(CERTIFICATE_ALERTS):
            alert = reason.rpartition("ALERT_")[2].lower().replace("_", " ")
            raise _Found(
                Cause.OWN_REFUSED,
                f"{target} refuses this member's certificate ({alert})",
                "ask the federation's operator whether the CA was replaced, then renew: sordino identity renew",
            ) from None
        if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE"):
            raise _Found(
                Cause.NOT_TLS,
                f"{target} does not speak TLS",
                "check the port; a coordinator never listens without TLS",
            ) from None
        raise _closed(target, f" ({reason.lower().replace('_', ' ')})") from None


def _closed(target: str, why: str = "") -> _Found:
    return _Found(
        Cause.CLOSED,
        f"{target} ended the connection during the TLS handshake{why or ' and did not say why'}",
        "the coordinator may be full or starting, or a firewall or proxy intercepts TLS; if it lasts, ask the operator "
        "whether the coordinator's clock and CA agree with this member's",
    )


def _verification(
    problem: ssl.SSLCertVerificationError, connect: Callable[[], socket.socket], target: str, name: str
) -> _Found:
    code = problem.verify_code
    if code == EXPIRED:
        return _Found(
            Cause.SERVER_EXPIRED,
            f"the coordinator's certificate at {target} has expired",
            "its operator must renew it; if that cannot be, set this machine's clock",
        )
    if code == NOT_YET_VALID:
        return _Found(
            Cause.SERVER_NOT_YET_VALID,
            f"the coordinator's certificate at {target} is not valid yet",
            "check this machine's clock, then the coordinator's",
        )
    if code in NAME_MISMATCH:
        return _Found(
            Cause.WRONG_NAME,
            f"the certificate at {target} is not for {name}, but for {_names(connect)}",
            "use one of these names as the coordinator's address; otherwise this may be another server",
        )
    if code in UNTRUSTED:
        return _Found(
            Cause.OTHER_CA,
            f"the certificate at {target} is not from this federation's CA",
            "check address and CA file: this is another federation, or somebody who intercepts the connection",
        )
    return _Found(
        Cause.OTHER_CA,
        f"the certificate at {target} cannot be verified ({problem.verify_message})",
        "check the address and the CA file; do not go on before this is explained",
    )


def _names(connect: Callable[[], socket.socket]) -> str:
    """The names in the certificate of a peer that was refused, read in a second, unverified handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(_Found, OSError, ValueError, x509.ExtensionNotFound):
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
    """`ssl` reads keys from files only: the key goes there encrypted, under a password that never leaves this call."""
    password = secrets.token_hex(16).encode()
    key = load_pem_private_key(tls.key, password=None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
    )
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:  # mode 0600
        file.write(key + tls.certificate)
        file.flush()
        context.load_cert_chain(file.name, password=password)
