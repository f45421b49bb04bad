"""Real certificates for tests: ECDSA P-256, made in place."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any, TypedDict

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sordino_privacy.errors import LinkError


class Material(TypedDict):
    """Keyword arguments of ClientTls and ServerTls."""

    key: bytes
    certificate: bytes
    ca: bytes


def key_pem(key: Any) -> bytes:
    """An unencrypted PEM private key."""
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


class Authority:
    """A certificate authority."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(self._name, self._key.public_key(), -400, 400)
        certificate = certificate.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.pem = certificate.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(
        self, name: str, *, names: tuple[str, ...] = ("localhost",), days: tuple[float, float] = (-1, 30)
    ) -> Material:
        """A fresh key and a certificate for it, valid for `days` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternatives = x509.SubjectAlternativeName(
            [
                *(x509.DNSName(dns) for dns in names),
                x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                x509.UniformResourceIdentifier(f"sordino://test/member/{name}"),
            ]
        )
        builder = self._builder(subject, key.public_key(), *days).add_extension(alternatives, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)
        return Material(key=key_pem(key), certificate=certificate, ca=self.pem)

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey, since: float, until: float
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=since))
            .not_valid_after(now + datetime.timedelta(days=until))
        )


def name_in(pem: bytes) -> str:
    """The member that a certificate of `Authority` names."""
    uris = x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    (uri,) = uris.value.get_values_for_type(x509.UniformResourceIdentifier)
    name = uri.rpartition("/")[2]
    if name == "stranger":
        raise LinkError("stranger is not a member of this federation")
    return name
