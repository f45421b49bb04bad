"""The parties: members, the coordinator, retired keys, and the authorities that certify TLS keys."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from typing import Annotated, Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.utils import CryptographyDeprecationWarning
from pydantic import AfterValidator, Field, model_validator

from sordino_platform.canonical import Digest, Document, Key, Name

FIRST_EPOCH: Final = 1


def _organisation(text: str) -> str:
    if not text.isprintable() or text != unicodedata.normalize("NFC", text).strip():
        raise ValueError("must be printable, in Unicode normal form C, without spaces around it")
    return text


def _dns_name(text: str) -> str:
    label = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
    if not re.fullmatch(rf"{label}(\.{label})*", text):
        raise ValueError("must be a DNS name in lower case")
    return text


def _address(text: str) -> str:
    if str(ipaddress.ip_address(text)) != text:  # one spelling per address
        raise ValueError(f"must be written {ipaddress.ip_address(text)}")
    return text


Role = Literal["member", "coordinator"]
Organisation = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_organisation)]
DnsName = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_dns_name)]
Address = Annotated[str, Field(min_length=2, max_length=45), AfterValidator(_address)]


class CharterMember(Document):
    """A party that trains: its name, its organisation, its Ed25519 identity key."""

    name: Name
    organisation: Organisation
    identity_key: Key


class CharterCoordinator(Document):
    """The party that adds up the updates. Its identity key signs releases; its TLS certificate is valid for these hosts
    only."""

    name: Name
    identity_key: Key
    dns_names: tuple[DnsName, ...] = Field(default=(), max_length=16)
    addresses: tuple[Address, ...] = Field(default=(), max_length=16)

    @model_validator(mode="after")
    def _reachable(self) -> CharterCoordinator:
        if not self.dns_names and not self.addresses:
            raise ValueError("the coordinator needs a DNS name or an IP address")
        return self


class RetiredKey(Document):
    """An identity key that must never be accepted again, and the epoch that retired it."""

    name: Name
    identity_key: Key
    epoch: int = Field(ge=FIRST_EPOCH, lt=1 << 32)


class TlsAuthority(Document):
    """The federation's TLS authority; its fingerprint is SHA-256 of the DER certificate, as TLS tools print it."""

    certificate: str = Field(max_length=4096)
    fingerprint: Digest

    @model_validator(mode="after")
    def _matches(self) -> TlsAuthority:
        if self.x509().fingerprint(SHA256()) != self.fingerprint:
            raise ValueError("the certificate does not have this fingerprint")
        return self

    def x509(self) -> x509.Certificate:
        """The parsed certificate. Raises ValueError when it is not a certificate, when its version does not exist, or
        when its serial number is not positive (RFC 5280, section 4.1.2.2), which the library only warns about."""
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.encode("ascii", "replace"))
        except (x509.InvalidVersion, UnsupportedAlgorithm, CryptographyDeprecationWarning) as error:
            raise ValueError("the certificate cannot be read") from error
        if certificate.serial_number < 1:
            raise ValueError("the certificate's serial number is not positive")
        return certificate

    @property
    def pem(self) -> bytes:
        """The certificate as TLS libraries take it."""
        return self.certificate.encode("ascii")


class RenewalTerms(Document):
    """An online authority that only renews certificates of members: same name, same identity key, a new TLS key.

    Its certificates are accepted only with the member's own endorsement of the TLS key (`identity.names`), so its key
    alone is not enough to impersonate a member.
    """

    authority: TlsAuthority
    validity_days: int = Field(default=30, ge=1, le=90)
