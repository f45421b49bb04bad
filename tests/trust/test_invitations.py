"""An invitation lets in whom it names, once and in time; a certificate goes to whom the charter names, for a request of
now. Both are decided without a disk."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sordino_platform.identity import EnrolmentRequest, EnrolmentToken, Identity, make_request
from sordino_platform.identity.ceremony import Foundation
from sordino_platform.identity.certificates import CLOCK_TOLERANCE
from sordino_platform.identity.enrolment import Card
from sordino_platform.identity.invitations import Invitation
from sordino_platform.identity.issuing import require_issuable
from sordino_platform.identity.renewal import REQUEST_AGE
from sordino_platform.keys import public_bytes
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.signing import KeySigner

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TOKEN = EnrolmentToken.fresh()


def request(name: str = "acme", token: EnrolmentToken | None = TOKEN) -> EnrolmentRequest:
    key = Ed25519PrivateKey.generate()
    card = Card(
        federation="demo",
        role="member",
        name=name,
        organisation="Acme",
        identity_key=public_bytes(key),
    )
    tls = ec.generate_private_key(ec.SECP256R1())
    return EnrolmentRequest.make(card, KeySigner.of(key.private_bytes_raw()), tls, token=token, now=NOW)


def invitation() -> Invitation:
    return Invitation(
        role="member",
        name="acme",
        organisation="Acme",
        verifier=TOKEN.verifier(),
        expires_at=NOW + timedelta(days=1),
    )


def test_the_token_of_an_invitation_is_good_in_time_and_for_its_party() -> None:
    invitation().require_proof(request(), now=NOW)


@pytest.mark.parametrize(
    ("name", "token", "after", "said"),
    [
        ("acme", EnrolmentToken.fresh(), timedelta(0), "the enrolment token is wrong"),
        ("acme", None, timedelta(0), "the enrolment token is wrong"),
        ("other", TOKEN, timedelta(0), "the token was made for the member 'acme' of 'Acme'"),
        ("acme", TOKEN, timedelta(days=1), "the token of 'acme' expired on 2026-03-02"),
    ],
)
def test_another_token_another_party_and_a_time_that_is_over_are_refused(
    name: str, token: EnrolmentToken | None, after: timedelta, said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        invitation().require_proof(request(name, token), now=NOW + after)


@pytest.mark.parametrize(
    ("age", "fine"),
    [
        (timedelta(0), True),
        (REQUEST_AGE, True),
        (-CLOCK_TOLERANCE, True),
        (REQUEST_AGE + timedelta(seconds=2), False),
        (-CLOCK_TOLERANCE - timedelta(seconds=2), False),
    ],
)
def test_a_certificate_is_for_a_request_of_about_now(founded: Foundation, age: timedelta, fine: bool) -> None:
    site = founded.members["member-0"]
    charter, now = Identity.load(site).charter, datetime.now(UTC).replace(microsecond=0)
    verified = EnrolmentRequest.parse(make_request(site, now=now - age))
    if fine:
        require_issuable(verified, charter, now=now)
        return
    with pytest.raises(ConfigurationError, match="too far from now"):
        require_issuable(verified, charter, now=now)


def test_a_stranger_and_another_federations_party_get_no_certificate(founded: Foundation) -> None:
    charter, now = Identity.load(founded.coordinator).charter, datetime.now(UTC)
    with pytest.raises(ConfigurationError, match="has no member 'acme' with this identity key"):
        require_issuable(request(token=None), charter, now=now)
    other = charter.model_copy(update={"federation": "other"})
    with pytest.raises(ConfigurationError, match="for the federation 'demo', not 'other'"):
        require_issuable(request(token=None), other, now=now)
