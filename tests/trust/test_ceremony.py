"""Enrolment from the first key to a renewed certificate, and each way in which it must not work."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from sordino_platform.canonical import encode, sign
from sordino_platform.charter import ModelTerms
from sordino_platform.identity import (
    EnrolmentReply,
    EnrolmentRequest,
    EnrolmentToken,
    Identity,
    admit,
    authority,
    create,
    install,
    make_request,
)
from sordino_platform.identity.ceremony import Foundation
from sordino_platform.identity.certificates import issue
from sordino_platform.keys import load_identity_key, load_tls_key
from sordino_privacy.errors import ConfigurationError, LinkError, UsageError

Federation = Callable[..., Foundation]


def test_a_founded_federation_has_one_charter_and_every_party_can_act(founded: Foundation) -> None:
    hub = Identity.load(founded.coordinator)
    assert hub.charter == founded.charter
    assert admit(hub.tls().certificate, founded.charter) == ("coordinator", "coordinator")
    for name, folder in founded.members.items():
        identity = Identity.load(folder)
        assert identity.charter.hash() == founded.charter.hash()
        assert identity.signing_key.public_key == founded.charter.member(name).identity_key
        assert admit(identity.tls().certificate, identity.charter) == ("member", name)


def test_every_secret_file_is_private_and_every_folder_too(founded: Foundation) -> None:
    places = [founded.root, founded.coordinator, *founded.members.values()]
    for place in places:
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        for path in (p for p in place.rglob("*") if p.is_file()):
            private = b"PRIVATE KEY" in path.read_bytes() or "invitations" in path.parts
            assert not private or stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_no_private_key_and_no_token_travels(federation: Federation, tmp_path: Path) -> None:
    root = federation().root
    token = open_invitation(root)
    create(tmp_path / "new", federation="demo", role="member", name="new", organisation="New")
    request = make_request(tmp_path / "new", token=token)
    authority.enrol(root, request)
    authority.sign_epoch(root)
    reply = authority.approve(root, request)
    for message in (request, reply):
        assert b"PRIVATE" not in message
        assert token.text().encode() not in message
        assert token.text()[9:].replace("-", "").encode() not in message
    assert token.text()[9:] not in repr(token)


def open_invitation(
    root: Path, name: str = "new", organisation: str = "New", **options: object
) -> EnrolmentToken:
    if not (root / "draft.json").exists():
        authority.begin_epoch(root)
    return authority.invite(root, role="member", name=name, organisation=organisation, **options)  # type: ignore[arg-type]


@pytest.fixture
def newcomer(federation: Federation, tmp_path: Path) -> tuple[Path, Path]:
    """`(root folder with an open draft, identity folder of somebody who is not in it)`."""
    root = federation().root
    authority.begin_epoch(root)
    create(tmp_path / "new", federation="demo", role="member", name="new", organisation="New")
    return root, tmp_path / "new"


def test_a_token_works_once(newcomer: tuple[Path, Path], tmp_path: Path) -> None:
    root, site = newcomer
    token = open_invitation(root)
    authority.enrol(root, make_request(site, token=token))
    with pytest.raises(ConfigurationError, match="used before"):
        authority.enrol(root, make_request(site, token=token))
    thief = tmp_path / "thief"
    create(thief, federation="demo", role="member", name="new", organisation="New")
    with pytest.raises(ConfigurationError, match="used before"):
        authority.enrol(root, make_request(thief, token=token))


def test_a_token_is_spent_only_when_the_draft_takes_its_bearer(newcomer: tuple[Path, Path]) -> None:
    root, site = newcomer
    token = authority.invite(root, role="member", name="member-0", organisation="Organisation 0")
    create(site / "twin", federation="demo", role="member", name="member-0", organisation="Organisation 0")
    request = make_request(site / "twin", token=token)
    with pytest.raises(ConfigurationError, match="each name may occur once"):
        authority.enrol(root, request)
    authority.retire(root, "member-0")
    authority.enrol(root, request)


def test_a_token_of_another_an_unknown_and_an_expired_token_are_refused(newcomer: tuple[Path, Path]) -> None:
    root, site = newcomer
    with pytest.raises(ConfigurationError, match="was made for the member 'other'"):
        authority.enrol(root, make_request(site, token=open_invitation(root, name="other")))
    with pytest.raises(ConfigurationError, match="not known"):
        authority.enrol(root, make_request(site, token=EnrolmentToken.fresh()))
    with pytest.raises(ConfigurationError, match="carries no enrolment token"):
        authority.enrol(root, make_request(site))
    token = open_invitation(root)
    forged = EnrolmentToken.parse(token.text()[:-4] + ("aaaa" if token.text()[-4:] != "aaaa" else "bbbb"))
    with pytest.raises(ConfigurationError, match="token is wrong"):
        authority.enrol(root, make_request(site, token=forged))
    with pytest.raises(ConfigurationError, match="expired"):
        authority.enrol(root, make_request(site, token=token), now=datetime.now(UTC) + timedelta(days=15))
    authority.enrol(root, make_request(site, token=token))


def test_a_token_survives_being_typed_by_a_person() -> None:
    token = EnrolmentToken.fresh()
    again = EnrolmentToken.parse("  " + token.text().upper().replace("-", "-\n") + " ")
    assert again.text() == token.text()
    with pytest.raises(UsageError) as refused:
        EnrolmentToken.parse("not-a-token")
    assert "not-a-token" not in refused.value.message


def test_only_a_party_of_the_signed_charter_gets_a_certificate(newcomer: tuple[Path, Path]) -> None:
    root, site = newcomer
    request = make_request(site, token=open_invitation(root))
    authority.enrol(root, request)
    with pytest.raises(ConfigurationError, match="has no member 'new'"):
        authority.approve(root, request)
    authority.sign_epoch(root)
    install(site, authority.approve(root, request), root=authority.charters_of(root).root)
    assert Identity.load(site).charter.epoch == 2


def test_a_request_for_another_federation_is_refused(newcomer: tuple[Path, Path], tmp_path: Path) -> None:
    root, _ = newcomer
    create(tmp_path / "lost", federation="other", role="member", name="new", organisation="New")
    with pytest.raises(ConfigurationError, match="'other', not 'demo'"):
        authority.enrol(root, make_request(tmp_path / "lost", token=open_invitation(root)))


def test_renewing_keeps_the_old_certificate_in_use_until_the_new_one_is_installed(
    federation: Federation,
) -> None:
    foundation = federation()
    site = foundation.members["member-1"]
    before = Identity.load(site).tls()
    request = make_request(site)
    assert Identity.load(site).tls().certificate == before.certificate
    install(site, authority.approve(foundation.root, request))
    after = Identity.load(site).tls()
    assert after.certificate != before.certificate
    assert after.private_key != before.private_key
    assert admit(after.certificate, foundation.charter) == ("member", "member-1")


def test_approving_one_request_twice_issues_one_certificate(federation: Federation) -> None:
    foundation = federation()
    request = make_request(foundation.members["member-1"])
    assert authority.approve(foundation.root, request) == authority.approve(foundation.root, request)


def test_a_replayed_request_is_refused(federation: Federation) -> None:
    foundation, now = federation(), datetime.now(UTC)
    site = foundation.members["member-1"]
    old = make_request(site, now=now + timedelta(minutes=1))
    authority.approve(foundation.root, make_request(site, now=now + timedelta(minutes=2)))
    with pytest.raises(ConfigurationError, match="newer request"):
        authority.approve(foundation.root, old)
    with pytest.raises(ConfigurationError, match="too far from now"):
        authority.approve(foundation.root, old, now=now + timedelta(days=15))
    with pytest.raises(ConfigurationError, match="too far from now"):
        authority.approve(foundation.root, make_request(site, now=now + timedelta(hours=1)))


def test_a_reply_to_an_older_request_is_refused_and_changes_nothing(federation: Federation) -> None:
    foundation = federation()
    site = foundation.members["member-1"]
    reply = authority.approve(foundation.root, make_request(site))
    make_request(site)
    before = Identity.load(site).tls().certificate
    with pytest.raises(ConfigurationError, match="for another TLS key"):
        install(site, reply)
    assert Identity.load(site).tls().certificate == before


def test_a_reply_from_another_root_is_refused(federation: Federation) -> None:
    ours, theirs = federation(), federation(twin=1)
    site = ours.members["member-1"]
    make_request(site)
    reply = authority.approve(theirs.root, make_request(theirs.members["member-1"]))
    with pytest.raises(ConfigurationError, match="another root key"):
        install(site, reply)
    with pytest.raises(ConfigurationError, match="differs from the pinned one"):
        install(site, reply, root=theirs.root_fingerprint)


def test_a_certificate_from_another_authority_is_refused(federation: Federation) -> None:
    foundation = federation()
    site, charter = foundation.members["member-1"], foundation.charter
    request = make_request(site)
    genuine = EnrolmentReply.parse(authority.approve(foundation.root, request))
    forged = issue(
        ec.generate_private_key(ec.SECP256R1()),
        charter,
        EnrolmentRequest.parse(request),
        now=datetime.now(UTC),
    )
    reply = genuine.model_copy(update={"certificate": forged.public_bytes(Encoding.PEM).decode()})
    with pytest.raises(ConfigurationError, match="not issued by the federation's TLS authority"):
        install(site, reply.to_bytes())


def test_a_site_notices_that_somebody_else_was_enrolled_under_its_name(
    newcomer: tuple[Path, Path], tmp_path: Path
) -> None:
    root, site = newcomer
    make_request(site)
    thief = create(tmp_path / "thief", federation="demo", role="member", name="new", organisation="New")
    request = EnrolmentRequest.make(
        thief,
        load_identity_key(tmp_path / "thief" / "identity.key"),
        load_tls_key(site / "tls-pending.key"),  # at worst, the thief has a certificate over *our* TLS key
        token=open_invitation(root),
    ).to_bytes()
    authority.enrol(root, request)
    authority.sign_epoch(root)
    with pytest.raises(ConfigurationError, match="names another key for 'new'"):
        install(site, authority.approve(root, request), root=authority.charters_of(root).root)


def resigned(site: Path, tls_request: str) -> bytes:
    """A request whose TLS part is `tls_request`, under a good identity signature."""
    body = EnrolmentRequest.parse(make_request(site)).body.model_copy(update={"tls_request": tls_request})
    signature = sign(load_identity_key(site / "identity.key"), "sordino-enrolment/2", encode(body))
    return EnrolmentRequest(body=body, signature=signature).to_bytes()


def test_a_request_proves_possession_of_a_p256_key(federation: Federation) -> None:
    site = federation().members["member-1"]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    der = bytearray(
        builder.sign(ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(Encoding.DER)
    )
    der[-1] ^= 1
    broken = x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()
    with pytest.raises(ConfigurationError, match="possession"):
        EnrolmentRequest.parse(resigned(site, broken))
    larger = (
        builder.sign(ec.generate_private_key(ec.SECP384R1()), SHA256()).public_bytes(Encoding.PEM).decode()
    )
    with pytest.raises(ConfigurationError, match="not ECDSA P-256"):
        EnrolmentRequest.parse(resigned(site, larger))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        EnrolmentRequest.parse(resigned(site, "nothing"))


@given(data=st.binary(max_size=300))
def test_no_random_bytes_are_a_request_or_a_reply(data: bytes) -> None:
    for kind in (EnrolmentRequest, EnrolmentReply):
        with pytest.raises(ConfigurationError):
            kind.parse(data)


def test_every_field_of_a_request_is_under_its_signature(federation: Federation) -> None:
    request = EnrolmentRequest.parse(make_request(federation().members["member-1"]))
    body, card = request.body, request.body.card
    changed = [
        *(
            body.model_copy(update={"card": card.model_copy(update={field: value})})
            for field, value in {
                "federation": "demo2",
                "role": "coordinator",
                "name": "member-2",
                "organisation": "Another",
                "identity_key": b"x" * 32,
                "dns_names": ("evil.example",),
                "addresses": ("192.0.2.1",),
            }.items()
        ),
        body.model_copy(update={"invitation": "aaaaaaaa"}),
        body.model_copy(update={"made_at": body.made_at + timedelta(seconds=1)}),
        body.model_copy(update={"tls_request": body.tls_request.replace("M", "N", 1)}),
    ]
    for other in changed:
        with pytest.raises(ConfigurationError, match="signature of the request is wrong"):
            EnrolmentRequest.parse(request.model_copy(update={"body": other}).to_bytes())


def test_the_first_reply_needs_the_fingerprint_of_the_root(newcomer: tuple[Path, Path]) -> None:
    root, site = newcomer
    request = make_request(site, token=open_invitation(root))
    authority.enrol(root, request)
    authority.sign_epoch(root)
    reply = authority.approve(root, request)
    with pytest.raises(ConfigurationError, match="needed once"):
        install(site, reply)
    with pytest.raises(UsageError, match="not a fingerprint"):
        install(site, reply, root="abcd")
    with pytest.raises(ConfigurationError, match="another root key"):
        install(site, reply, root="-".join(["aaaa"] * 13))
    install(site, reply, root=authority.charters_of(root).root.upper().replace("-", " "))


def test_a_retired_member_is_refused_at_its_next_message_and_can_come_back_only_with_a_new_key(
    federation: Federation,
    tmp_path: Path,
) -> None:
    foundation = federation(members=6)
    certificate = Identity.load(foundation.members["member-5"]).tls().certificate
    hub = Identity.load(foundation.coordinator)
    assert admit(certificate, hub.charter) == ("member", "member-5")
    authority.retire(foundation.root, "member-5")
    signed = authority.sign_epoch(foundation.root)
    hub.charters.accept(signed.to_bytes())
    with pytest.raises(LinkError, match="not a member of demo in epoch 2"):
        admit(certificate, hub.charter)

    authority.begin_epoch(foundation.root)
    old = make_request(
        foundation.members["member-5"], token=open_invitation(foundation.root, "member-5", "Organisation 5")
    )
    with pytest.raises(ConfigurationError, match="retired"):
        authority.enrol(foundation.root, old)
    back = tmp_path / "back"
    create(back, federation="demo", role="member", name="member-5", organisation="Organisation 5")
    request = make_request(back, token=open_invitation(foundation.root, "member-5", "Organisation 5"))
    authority.enrol(foundation.root, request)
    hub.charters.accept(authority.sign_epoch(foundation.root).to_bytes())
    install(back, authority.approve(foundation.root, request), root=foundation.root_fingerprint)
    assert admit(Identity.load(back).tls().certificate, hub.charter) == ("member", "member-5")
    with pytest.raises(LinkError, match="another identity key"):
        admit(certificate, hub.charter)


def test_an_identity_and_a_root_are_never_overwritten(founded: Foundation, terms: ModelTerms) -> None:
    with pytest.raises(ConfigurationError, match="exists already"):
        create(founded.coordinator, federation="demo", role="member", name="x", organisation="X")
    with pytest.raises(ConfigurationError, match="exists already"):
        authority.found_root(founded.root, federation="demo", model=terms)


def test_a_root_key_with_a_passphrase_opens_only_with_it(terms: ModelTerms, tmp_path: Path) -> None:
    authority.found_root(tmp_path / "root", federation="demo", model=terms, passphrase="correct horse")
    assert b"ENCRYPTED" in (tmp_path / "root" / "root.key").read_bytes()
    with pytest.raises(ConfigurationError, match="passphrase is wrong"):
        authority.sign_epoch(tmp_path / "root", passphrase=lambda: "wrong")
    with pytest.raises(ConfigurationError, match="protected by a passphrase"):
        authority.sign_epoch(tmp_path / "root")
    with pytest.raises(ConfigurationError, match="no coordinator yet"):
        authority.sign_epoch(tmp_path / "root", passphrase=lambda: "correct horse")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622])
@pytest.mark.parametrize("name", ["identity.key", "tls.pem"])
def test_a_key_that_others_can_reach_is_refused_with_what_to_do(
    federation: Federation, mode: int, name: str
) -> None:
    site = federation().members["member-0"]
    (site / name).chmod(mode)
    with pytest.raises(ConfigurationError, match="other users") as refused:
        Identity.load(site).tls()
    assert "chmod 600" in refused.value.hint
