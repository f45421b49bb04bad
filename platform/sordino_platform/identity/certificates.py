"""The X.509 certificates of a federation: its authorities, and the short-lived ones that they issue.

TLS keys are ECDSA P-256, because gRPC's TLS refuses Ed25519 certificates. Certificates live 30 days unless the approver
says otherwise, because Python's gRPC has no hook for revocation lists. A certificate that is not renewed expires by
itself, and a retired party is refused at its next message (`names.admit`). Profile: RFC 5280, one purpose per
certificate, names from the charter only.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sordino_platform.charter import Charter
from sordino_platform.identity.enrolment import EnrolmentRequest
from sordino_platform.identity.names import endorsement_uri, identity_uri, peer_uri

AUTHORITY_VALIDITY = timedelta(days=3653)
CERTIFICATE_VALIDITY = timedelta(days=30)
CLOCK_TOLERANCE = timedelta(minutes=10)


def authority_certificate(
    federation: str, key: ec.EllipticCurvePrivateKey, now: datetime, *, what: str = "authority"
) -> x509.Certificate:
    """A new self-signed authority that may issue end certificates only. `what` distinguishes two authorities of one
    federation."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{federation[:40]} sordino {what}")])
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + AUTHORITY_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )


def issue(
    key: ec.EllipticCurvePrivateKey,
    charter: Charter,
    request: EnrolmentRequest,
    *,
    now: datetime,
    validity: timedelta = CERTIFICATE_VALIDITY,
    authority: x509.Certificate | None = None,
) -> x509.Certificate:
    """A certificate for the party of a verified request. `key` is the key of `authority`, by default the charter's own
    authority.

    The caller has already checked the party.
    """
    card = request.body.card
    authority = authority or charter.tls_authority.x509()
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(peer_uri(charter.federation, card.role, card.name)),
        x509.UniformResourceIdentifier(identity_uri(card.identity_key)),
        x509.UniformResourceIdentifier(endorsement_uri(request.body.endorsement)),
    ]
    # One purpose each, so that a member's certificate can never be used as the coordinator's server certificate.
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH
    if card.role == "coordinator":
        purpose = ExtendedKeyUsageOID.SERVER_AUTH
        names += [x509.DNSName(host) for host in charter.coordinator.dns_names]
        names += [x509.IPAddress(ipaddress.ip_address(host)) for host in charter.coordinator.addresses]
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, card.name)]))
        .issuer_name(authority.subject)
        .public_key(request.tls_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(min(now + validity, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(request.tls_key()), critical=False)
        .sign(key, SHA256())
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
