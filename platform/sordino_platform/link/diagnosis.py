"""Explains in one sentence why a connection fails, and what to do. Pure: `probe` does the network tests.

A cause counts as permanent only if it is certain. A connection that ends during the handshake is not: a full or
starting coordinator ends it like that, and so does every firewall. gRPC's servers send no TLS alert when they refuse a
certificate, so the own certificate is checked here before anything is sent. The only refusal that counts as certain is
a TLS alert, which comes from a machine that ends TLS in front of the coordinator.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

from cryptography import x509

from sordino_platform.issued import issued_by
from sordino_platform.link.tls import ClientTls, certificate_of


class Cause(enum.StrEnum):
    """Why a member cannot reach its coordinator."""

    REACHABLE = "reachable"  # TLS works in both directions: the coordinator was busy, or is starting
    BROKEN = "broken"  # a working connection broke
    ENDED = "ended"  # the coordinator said Goodbye
    OFFENDED = "offended"  # the coordinator broke the link's protocol
    FILES = "files"  # the own key, certificate or CA cannot be used
    OWN_EXPIRED = "own_expired"
    OWN_NOT_YET_VALID = "own_not_yet_valid"
    OWN_OTHER_CA = "own_other_ca"  # the own certificate is not from the federation's CA
    OWN_REFUSED = "own_refused"  # a TLS alert about the own certificate
    PROXY = "proxy"  # the proxy that the environment names does not let us through
    NAME_RESOLUTION = "name_resolution"
    CONNECTION_REFUSED = "connection_refused"
    UNREACHABLE = "unreachable"
    CLOSED = "closed"  # the connection ended in the handshake without a reason
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

# The alerts of RFC 8446, section 6.2, about the certificate that was shown, with OpenSSL's names. Any other alert means
# that something else went wrong.
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
    """One line that says what is wrong, and a hint what to do."""

    cause: Cause
    message: str
    hint: str = ""

    @property
    def permanent(self) -> bool:
        """Whether a retry cannot help until somebody changes something on this machine."""
        return self.cause not in TEMPORARY

    @classmethod
    def broken(cls) -> Self:
        """A stream broke after its Welcome."""
        return cls(cause=Cause.BROKEN, message="the connection to the coordinator broke")

    @classmethod
    def ended(cls, reason: str, detail: str) -> Self:
        """The coordinator said Goodbye for a temporary reason."""
        text = f" ({detail})" if detail else ""
        return cls(cause=Cause.ENDED, message=f"the coordinator ended the connection: {reason}{text}")

    @classmethod
    def offended(cls, how: str) -> Self:
        """The coordinator broke the protocol."""
        return cls(
            cause=Cause.OFFENDED,
            message=f"the coordinator broke the link's protocol: {how}",
            hint="compare the releases of sordino on both sides; if they agree, report it",
        )


class Diagnosed(Exception):  # noqa: N818 - it carries the answer out of the probe
    """The cause was found: see `diagnosis`."""

    def __init__(self, cause: Cause, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.diagnosis = Diagnosis(cause=cause, message=message, hint=hint)


def require_own_certificate(tls: ClientTls, *, now: datetime.datetime) -> None:
    """Raises Diagnosed for a certificate of this member that the coordinator would refuse at the time `now`."""
    own = certificate_of(tls.certificate, "the own certificate")
    if now >= own.not_valid_after_utc:
        raise Diagnosed(
            Cause.OWN_EXPIRED,
            f"this member's certificate expired on {own.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            "renew it: sordino identity renew; if that date lies ahead, set this machine's clock",
        )
    if now < own.not_valid_before_utc:
        raise Diagnosed(
            Cause.OWN_NOT_YET_VALID,
            f"this member's certificate is valid only from {own.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on",
            "check this machine's clock",
        )
    issuers = x509.load_pem_x509_certificates(tls.issuers or tls.ca)
    if not any(issued_by(own, issuer) for issuer in issuers):
        raise Diagnosed(
            Cause.OWN_OTHER_CA,
            f"this member's certificate was issued by another CA ({own.issuer.rfc4514_string()}) than the federation's "
            f"({issuers[0].subject.rfc4514_string()})",
            "renew it: sordino identity renew; or ask the operator for a certificate of this federation",
        )


def handshake_refused(reason: str, target: str) -> Diagnosed:
    """The cause of a handshake that failed. `reason` is OpenSSL's name for the failure."""
    if reason.endswith(CERTIFICATE_ALERTS):
        alert = reason.rpartition("ALERT_")[2].lower().replace("_", " ")
        return Diagnosed(
            Cause.OWN_REFUSED,
            f"{target} refuses this member's certificate ({alert})",
            "ask the federation's operator whether the CA was replaced, then renew: sordino identity renew",
        )
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE"):
        return Diagnosed(
            Cause.NOT_TLS,
            f"{target} does not speak TLS",
            "check the port; a coordinator never listens without TLS",
        )
    return handshake_closed(target, f" ({reason.lower().replace('_', ' ')})")


def handshake_closed(target: str, why: str = "") -> Diagnosed:
    """The other side ended the handshake; `why` is the reason that it gave."""
    return Diagnosed(
        Cause.CLOSED,
        f"{target} ended the connection during the TLS handshake{why or ' and did not say why'}",
        "the coordinator may be full or starting, or a firewall or proxy intercepts TLS; if it lasts, ask the operator "
        "whether the coordinator's clock and CA agree with this member's",
    )


def certificate_unverified(
    code: int, said: str, *, target: str, name: str, names: Callable[[], str]
) -> Diagnosed:
    """The cause when the coordinator's certificate cannot be verified.

    `code` is OpenSSL's X509_V_ERR_* number and `said` its text. The certificate must be for `name`, and `names` finds
    the names in it.
    """
    if code == EXPIRED:
        return Diagnosed(
            Cause.SERVER_EXPIRED,
            f"the coordinator's certificate at {target} has expired",
            "its operator must renew it; if that cannot be, set this machine's clock",
        )
    if code == NOT_YET_VALID:
        return Diagnosed(
            Cause.SERVER_NOT_YET_VALID,
            f"the coordinator's certificate at {target} is not valid yet",
            "check this machine's clock, then the coordinator's",
        )
    if code in NAME_MISMATCH:
        return Diagnosed(
            Cause.WRONG_NAME,
            f"the certificate at {target} is not for {name}, but for {names()}",
            "use one of these names as the coordinator's address; otherwise this may be another server",
        )
    if code in UNTRUSTED:
        return Diagnosed(
            Cause.OTHER_CA,
            f"the certificate at {target} is not from this federation's CA",
            "check address and CA file: this is another federation, or somebody who intercepts the connection",
        )
    return Diagnosed(
        Cause.OTHER_CA,
        f"the certificate at {target} cannot be verified ({said})",
        "check the address and the CA file; do not go on before this is explained",
    )
