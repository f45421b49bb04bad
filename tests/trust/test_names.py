"""Who a certificate speaks for, and what only looks like one."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from sordino_platform.identity import Identity, admit, peer_name
from sordino_platform.identity.ceremony import Foundation
from sordino_privacy.errors import LinkError


def certificate(*uris: str, days: int = 1) -> bytes:
    """A self-signed certificate with these URIs: the reading of names does not depend on the chain, TLS does that."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=3))
        .not_valid_after(now + timedelta(days=days))
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


def test_a_certificate_names_its_party(founded: Foundation) -> None:
    pem = Identity.load(founded.members["member-2"]).tls().certificate
    assert peer_name(pem, "demo") == ("member", "member-2")
    assert peer_name(pem.decode(), "demo") == ("member", "member-2")


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("https://demo/member/a",),
        ("sordino://demo/member/",),
        ("sordino://demo/member/a/b",),
        ("sordino://demo/admin/a",),
        ("sordino://demo/member/A",),
        ("sordino://demo/member/a\n",),
        ("sordino://demo/member/../a",),
        ("sordino://demo/member/a", "sordino://demo/member/b"),
        ("sordino://demo/member/a", "sordino://demo/coordinator/a"),
    ],
)
def test_a_certificate_that_does_not_name_exactly_one_party_is_refused(uris: tuple[str, ...]) -> None:
    with pytest.raises(LinkError, match="does not name one party"):
        peer_name(certificate(*uris), "demo")


def test_a_certificate_of_another_federation_is_refused() -> None:
    with pytest.raises(LinkError, match="'other', not 'demo'"):
        peer_name(certificate("sordino://other/member/a"), "demo")


@given(data=st.binary(max_size=200))
def test_what_is_not_a_certificate_is_a_link_error(data: bytes) -> None:
    with pytest.raises(LinkError):
        peer_name(data, "demo")
    with pytest.raises(LinkError):
        peer_name(
            b"-----BEGIN CERTIFICATE-----\n" + data.hex().encode() + b"\n-----END CERTIFICATE-----\n", "demo"
        )


def test_an_oversized_certificate_is_refused_unparsed() -> None:
    with pytest.raises(LinkError, match="too large"):
        peer_name(b"x" * 20_000, "demo")


def test_a_certificate_with_the_name_but_not_the_key_of_a_member_is_refused(founded: Foundation) -> None:
    pem = certificate("sordino://demo/member/member-1", "sordino-identity:" + "0" * 64)
    assert peer_name(pem, "demo") == ("member", "member-1")
    with pytest.raises(LinkError, match="another identity key"):
        admit(pem, founded.charter)
    with pytest.raises(LinkError, match="another identity key"):
        admit(certificate("sordino://demo/member/member-1"), founded.charter)


def test_a_member_is_no_coordinator_and_the_other_way_round(founded: Foundation) -> None:
    with pytest.raises(LinkError, match="is not a coordinator"):
        admit(certificate("sordino://demo/coordinator/member-1"), founded.charter)
    with pytest.raises(LinkError, match="is not a member"):
        admit(certificate("sordino://demo/member/coordinator"), founded.charter)


def test_an_expired_certificate_is_refused_on_an_open_link_too(founded: Foundation) -> None:
    tls = Identity.load(founded.members["member-0"]).tls()
    admit(tls.certificate, founded.charter, now=tls.expires_at - timedelta(seconds=1))
    for moment in (tls.expires_at + timedelta(seconds=1), datetime.now(UTC) - timedelta(days=1)):
        with pytest.raises(LinkError, match="not valid now"):
            admit(tls.certificate, founded.charter, now=moment)
    assert timedelta(days=29) < tls.remaining() < timedelta(days=30)


def test_certificates_are_short_lived_and_good_for_one_side_only(founded: Foundation) -> None:
    for folder, purpose in (
        (founded.coordinator, ExtendedKeyUsageOID.SERVER_AUTH),
        (founded.members["member-0"], ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        leaf = x509.load_pem_x509_certificate(Identity.load(folder).tls().certificate)
        leaf.verify_directly_issued_by(founded.charter.tls_authority.x509())
        extensions = leaf.extensions
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert leaf.not_valid_after_utc - datetime.now(UTC) < timedelta(days=30)
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = names.get_values_for_type(x509.DNSName), names.get_values_for_type(x509.IPAddress)
        is_hub = folder == founded.coordinator
        assert hosts == ((["localhost"], [ipaddress.ip_address("127.0.0.1")]) if is_hub else ([], []))


def test_secrets_do_not_show_in_a_repr(founded: Foundation) -> None:
    identity = Identity.load(founded.coordinator)
    tls = identity.tls()
    assert "PRIVATE" in tls.private_key.decode()
    for text in (repr(identity), repr(tls)):
        assert "PRIVATE" not in text
        assert "BEGIN" not in text


def test_what_is_remembered_of_a_certificate_lets_nobody_in_whom_charter_or_date_refuse(
    founded: Foundation,
) -> None:
    identity = Identity.load(founded.members["member-2"])
    pem, charter = identity.tls().certificate, identity.charter
    assert admit(pem, charter) == admit(pem, charter) == ("member", "member-2")
    with pytest.raises(LinkError, match="not valid now"):
        admit(pem, charter, now=datetime.now(UTC) + timedelta(days=4000))
    others = tuple(member for member in charter.members if member.name != "member-2")
    with pytest.raises(LinkError, match="is not a member"):
        admit(pem, charter.model_copy(update={"members": others}))
    swapped = charter.members[0].model_copy(update={"name": "member-2"})
    with pytest.raises(LinkError, match="another identity key"):
        admit(pem, charter.model_copy(update={"members": (swapped,)}))
    assert admit(pem, charter) == ("member", "member-2")
