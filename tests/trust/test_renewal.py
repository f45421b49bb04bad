"""Certificates over the life of a federation: at any epoch, after missed ones, by itself, for a year of simulated time.

No test here sleeps: every function takes the moment as an argument.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from sordino_platform.charter import RenewalTerms, drafting
from sordino_platform.identity import (
    EnrolmentRequest,
    Identity,
    admit,
    authority,
    create,
    install,
    make_request,
)
from sordino_platform.identity import care as caring
from sordino_platform.identity.care import CertificateCare
from sordino_platform.identity.ceremony import Foundation
from sordino_platform.identity.certificates import authority_certificate, issue
from sordino_platform.identity.renewal import (
    Issued,
    RenewalBox,
    RenewalReply,
    is_due,
    renewal_authority,
    warned_days,
)
from sordino_platform.identity.site import install_certificate, renewal_request
from sordino_platform.keys import load_tls_key
from sordino_privacy.errors import ConfigurationError, LinkError
from sordino_privacy.secagg.refusals import IdentityError

Federation = Callable[..., Foundation]
DAY = timedelta(days=1)


def next_epoch(foundation: Foundation, *, accepted_by: tuple[Path, ...] = (), **terms: Any) -> None:
    """Signs one more epoch, which the parties named take in."""
    authority.begin_epoch(foundation.root, **terms)
    signed = authority.sign_epoch(foundation.root).to_bytes()
    for folder in accepted_by:
        Identity.load(folder).charters.accept(signed)


@pytest.mark.parametrize("epoch", [1, 2, 7])
@pytest.mark.parametrize("party", ["member", "coordinator", "member that missed them"])
def test_a_certificate_is_renewed_at_any_epoch(federation: Federation, epoch: int, party: str) -> None:
    foundation = federation()
    folder = foundation.coordinator if party == "coordinator" else foundation.members["member-1"]
    for _ in range(1, epoch):
        next_epoch(foundation, accepted_by=() if "missed" in party else (folder,))
    for _ in range(2):  # and again, when all epochs are held
        before = Identity.load(folder).tls().certificate
        install(folder, authority.approve(foundation.root, make_request(folder)))
        identity = Identity.load(folder)
        assert identity.charter.epoch == epoch
        assert identity.tls().certificate != before
        assert admit(identity.tls().certificate, identity.charter)[1] == identity.card.name


def test_an_older_letter_is_no_step_back_and_another_history_is_refused(
    federation: Federation, tmp_path: Path
) -> None:
    ours, twin = federation(), federation(twin=1)
    fork = Path(shutil.copytree(ours.root, tmp_path / "fork"))
    site = ours.members["member-1"]
    letter = authority.approve(ours.root, make_request(site))
    next_epoch(ours, accepted_by=(site,))
    install(site, letter)  # holds epoch 1 only
    assert Identity.load(site).charter.epoch == 2

    # The same root signs a second charter of epoch 2: the one thing that must never pass unnoticed.
    authority.begin_epoch(fork, validity=timedelta(days=3))
    forged = authority.sign_epoch(fork).to_bytes()
    with pytest.raises(IdentityError, match="two different charters of epoch 2"):
        Identity.load(site).charters.accept_chain([forged])
    other = authority.charters_of(twin.root).chain()
    with pytest.raises(ConfigurationError, match="another root key"):
        Identity.load(site).charters.accept_chain([signed.to_bytes() for signed in other])


# ----------------------------------------------------------------------------------------------------- by itself


def age(foundation: Foundation, folder: Path, *, by: timedelta, validity: timedelta = 30 * DAY) -> None:
    """Gives a party a certificate that was issued `by` ago."""
    then = datetime.now(UTC) - by
    for newer in (foundation.root / "issued").glob(f"*.{folder.name}.*"):
        newer.unlink()
    install(
        folder,
        authority.approve(
            foundation.root,
            make_request(folder, now=then),
            now=then + timedelta(minutes=1),
            validity=validity,
        ),
        now=datetime.now(UTC),
    )


def test_a_certificate_is_due_at_a_third_of_its_life_and_warns_at_30_7_and_1_days(
    federation: Federation,
) -> None:
    site, now = federation().members["member-0"], datetime.now(UTC)
    tls = Identity.load(site).tls()
    assert [is_due(tls, now + days * DAY) for days in (0, 19, 21, 31)] == [False, False, True, True]
    assert [warned_days(tls, now + days * DAY) for days in (0, 21, 24, 29.5, 31)] == [None, None, 7, 1, 0]
    foundation = federation(members=6)
    yearly = foundation.members["member-0"]
    install(yearly, authority.approve(foundation.root, make_request(yearly), validity=300 * DAY))
    tls = Identity.load(yearly).tls()
    assert [warned_days(tls, now + days * DAY) for days in (269, 271, 294, 299.5)] == [None, 30, 7, 1]


def test_requests_wait_for_the_approver_and_the_certificates_come_back(federation: Federation) -> None:
    foundation, now = federation(), datetime.now(UTC)
    hub, members = foundation.coordinator, foundation.members
    for folder in (hub, *members.values()):
        age(foundation, folder, by=25 * DAY)
    box = RenewalBox(hub)
    for name, folder in members.items():
        assert box.ask(renewal_request(folder, now=now), sender=name, now=now) is None
    for name, folder in members.items():  # an agent asks again and again, and may be restarted
        assert box.ask(renewal_request(folder, now=now), sender=name, now=now) is None
    box.ask_own(now)
    assert [waiting.name for waiting in box.waiting()] == ["coordinator", *members]

    replies, refused = authority.approve_all(foundation.root, box.bundle())
    assert not refused
    served, refused = RenewalBox(hub).deliver(replies, now=now)
    assert (sorted(served), refused) == (["coordinator", *members], [])
    assert not box.waiting()
    assert Identity.load(hub).tls().remaining(now) > 29 * DAY
    for name, folder in members.items():
        certificate = box.ask(renewal_request(folder, now=now), sender=name, now=now)
        assert certificate is not None
        install_certificate(folder, certificate, now=now)
        assert Identity.load(folder).tls().remaining(now) > 29 * DAY
    for path in (hub / "renewals").rglob("*"):
        assert not path.is_file() or b"PRIVATE" not in path.read_bytes()


def test_what_waits_is_one_verified_request_for_each_party_of_the_charter(
    federation: Federation,
) -> None:
    foundation, now = federation(members=6), datetime.now(UTC)
    hub, one, two = foundation.coordinator, foundation.members["member-1"], foundation.members["member-2"]
    box, request = RenewalBox(hub), make_request(one)
    for wrong in (b"", b"{}", request[:-2], bytes(40_000)):
        with pytest.raises(ConfigurationError):
            box.ask(wrong, sender="member-1", now=now)
    with pytest.raises(ConfigurationError, match="asked for the certificate of member-1"):
        box.ask(request, sender="member-2", now=now)
    with pytest.raises(ConfigurationError, match="too far from now"):
        box.ask(make_request(two, now=now - 15 * DAY), sender="member-2", now=now)
    box.ask(make_request(one, now=now + timedelta(seconds=5)), sender="member-1", now=now)
    with pytest.raises(ConfigurationError, match="a newer request"):
        box.ask(request, sender="member-1", now=now)
    assert len(list((hub / "renewals" / "requests").glob("*.json"))) == 1

    authority.retire(foundation.root, "member-1")
    Identity.load(hub).charters.accept(authority.sign_epoch(foundation.root).to_bytes())
    assert not box.waiting()
    with pytest.raises(ConfigurationError, match="no member 'member-1'"):
        box.ask(make_request(one), sender="member-1", now=now)
    box.prune()
    assert not list((hub / "renewals" / "requests").glob("*.json"))


def test_one_bad_request_keeps_no_other_from_its_certificate_and_a_bad_answer_is_not_delivered(
    federation: Federation,
) -> None:
    foundation, now = federation(), datetime.now(UTC)
    box, members = RenewalBox(foundation.coordinator), foundation.members
    for name in ("member-0", "member-1"):
        box.ask(make_request(members[name]), sender=name, now=now)
    # The approver has signed a newer request of member-0 by hand meanwhile.
    authority.approve(foundation.root, make_request(members["member-0"], now=now + timedelta(seconds=3)))
    replies, refused = authority.approve_all(foundation.root, box.bundle())
    assert len(refused) == 1
    assert "member-0: a newer request" in refused[0]

    good = RenewalReply.parse(replies)
    swapped = Issued(role="member", name="member-0", certificate=good.certificates[0].certificate)
    stale = Issued(
        role="member",
        name="member-2",
        certificate=Identity.load(members["member-2"]).tls().certificate.decode(),
    )
    served, refused = box.deliver(
        good.model_copy(update={"certificates": (swapped, stale, *good.certificates)}).to_bytes(), now=now
    )
    assert served == ["member-1"]
    assert "for another party" in refused[0]
    assert "answers another request" in refused[1]


# ------------------------------------------------------------------------- an authority that may only renew, online


def online(foundation: Foundation, **terms: int) -> RenewalBox:
    """Puts an authority for renewals into the coordinator's folder and into the next epoch."""
    box, now = RenewalBox(foundation.coordinator), datetime.now(UTC)
    renewals = RenewalTerms(authority=renewal_authority(box.make_authority(now)), **terms)
    next_epoch(
        foundation,
        accepted_by=(foundation.coordinator, *foundation.members.values()),
        renewals=renewals,
    )
    return box


def test_the_authority_that_is_online_renews_members_at_once_and_nothing_else(
    federation: Federation,
) -> None:
    foundation, now = federation(), datetime.now(UTC)
    folder = foundation.members["member-1"]
    box = online(foundation, validity_days=10)
    certificate = box.ask(renewal_request(folder, now=now), sender="member-1", now=now)
    assert certificate is not None
    install_certificate(folder, certificate, now=now)
    identity = Identity.load(folder)
    assert admit(identity.tls().certificate, identity.charter) == ("member", "member-1")
    assert 9 * DAY < identity.tls().remaining(now) <= 10 * DAY
    hub = Identity.load(foundation.coordinator)
    assert identity.tls().issuers.count(b"BEGIN") == 2
    assert identity.tls().authority.count(b"BEGIN") == 1, "a member trusts no coordinator of that authority"
    assert hub.tls().authority.count(b"BEGIN") == 2
    assert hub.tls().issuers.count(b"BEGIN") == 1
    age(foundation, foundation.coordinator, by=25 * DAY)
    box.ask_own(now)
    assert [waiting.name for waiting in box.waiting()] == ["coordinator"]


def test_whoever_has_the_online_authoritys_key_can_speak_for_nobody(federation: Federation) -> None:
    foundation, now = federation(), datetime.now(UTC)
    online(foundation)
    charter = Identity.load(foundation.coordinator).charter
    assert charter.renewals is not None
    key = load_tls_key(foundation.coordinator / "renewals" / "authority.key")
    theirs = charter.renewals.authority.x509()
    victim = foundation.members["member-1"]
    genuine = EnrolmentRequest.parse(make_request(victim))
    own = genuine.model_copy(
        update={
            "body": genuine.body.model_copy(
                update={
                    "tls_request": EnrolmentRequest.parse(
                        make_request(foundation.members["member-2"])
                    ).body.tls_request
                }
            )
        }
    )
    stolen = issue(key, charter, own, now=now, authority=theirs).public_bytes(Encoding.PEM)
    with pytest.raises(LinkError, match="was not endorsed by the identity key of 'member-1'"):
        admit(stolen, charter)
    hub = EnrolmentRequest.parse(make_request(foundation.coordinator))
    for_hub = issue(key, charter, hub, now=now, authority=theirs).public_bytes(Encoding.PEM)
    with pytest.raises(LinkError, match="not endorsed"):
        admit(for_hub, charter)
    with pytest.raises(ConfigurationError, match="not issued by the federation's TLS authority"):
        install_certificate(foundation.coordinator, for_hub.decode(), now=now)


def test_a_wrong_endorsement_is_refused_from_the_offline_authority_too(federation: Federation) -> None:
    foundation, now = federation(), datetime.now(UTC)
    charter = Identity.load(foundation.coordinator).charter
    genuine = EnrolmentRequest.parse(make_request(foundation.members["member-1"]))
    forged = genuine.model_copy(update={"body": genuine.body.model_copy(update={"endorsement": bytes(64)})})
    with pytest.raises(ConfigurationError, match="signature of the request is wrong"):
        EnrolmentRequest.parse(forged.to_bytes())
    key = load_tls_key(foundation.root / "tls-authority.key")
    pem = issue(key, charter, forged, now=now).public_bytes(Encoding.PEM)
    with pytest.raises(LinkError, match="not endorsed"):
        admit(pem, charter)


def test_a_charter_without_an_online_authority_has_the_bytes_it_always_had(founded: Foundation) -> None:
    assert b"renewals" not in authority.charters_of(founded.root).head().to_bytes()
    key = ec.generate_private_key(ec.SECP256R1())
    same = authority_certificate("demo", key, datetime.now(UTC)).public_bytes(Encoding.PEM)
    with pytest.raises(ConfigurationError, match="another name than the TLS authority"):
        drafting.revised(
            drafting.next_draft(authority.charters_of(founded.root).head().charter),
            renewals=RenewalTerms(authority=renewal_authority(same)),
        )


# ----------------------------------------------------------------------------------------------------- a year of it


@pytest.mark.parametrize("authority_is_online", [False, True], ids=["approver weekly", "authority online"])
def test_a_year_of_epochs_and_renewals(
    federation: Federation, tmp_path: Path, authority_is_online: bool
) -> None:
    """Every day each party does what its process does; once a week the approver does what one command does; every month
    an epoch is signed, in which somebody joins or leaves; one member sleeps through two epochs. Nobody ever expires."""
    foundation = federation(members=6)
    if authority_is_online:
        online(foundation)
    start = datetime.now(UTC)
    folders, retired = dict(foundation.members), set[str]()
    hub, box = Identity.load(foundation.coordinator), RenewalBox(foundation.coordinator)
    members = {name: Identity.load(folder) for name, folder in folders.items()}
    renewals = 0
    for day in range(366):
        now = start + day * DAY
        asleep = {"member-2"} if 27 <= day < 36 else set()
        for name, identity in members.items():
            if name not in asleep:
                for signed in hub.charters.chain()[identity.charter.epoch :]:
                    identity.charters.accept(signed.to_bytes())
            assert identity.tls().remaining(now) > timedelta(0), f"{name} expired on day {day}"
            if name in asleep or not is_due(identity.tls(), now):
                continue
            certificate = box.ask(renewal_request(folders[name], now=now), sender=name, now=now)
            if certificate is not None:
                install_certificate(folders[name], certificate, now=now)
                renewals += 1
        box.ask_own(now)
        assert hub.tls().remaining(now) > timedelta(0), f"the coordinator expired on day {day}"
        if day % 7 == 0 and box.waiting():
            replies, refused = authority.approve_all(foundation.root, box.bundle(), now=now)
            assert not refused
            _, refused = box.deliver(replies, now=now)
            assert not refused
        if day % 30 == 29:
            authority.begin_epoch(foundation.root, now=now)
            if day % 60 == 29:
                name = f"late-{day}"
                token = authority.invite(
                    foundation.root, role="member", name=name, organisation=f"Org {name}", now=now
                )
                folders[name] = tmp_path / name
                create(folders[name], federation="demo", role="member", name=name, organisation=f"Org {name}")
                request = make_request(folders[name], token=token, now=now)
                authority.enrol(foundation.root, request, now=now)
            else:
                name = sorted(members)[0]
                authority.retire(foundation.root, name, now=now)
                retired.add(name)
                del members[name]
            hub.charters.accept(authority.sign_epoch(foundation.root).to_bytes())
            if day % 60 == 29:
                reply = authority.approve(foundation.root, request, now=now)
                install(folders[name], reply, root=foundation.root_fingerprint, now=now)
                members[name] = Identity.load(folders[name])
            box.prune()
    assert hub.charter.epoch == (14 if authority_is_online else 13)
    assert renewals > 80
    for name, identity in members.items():
        assert admit(identity.tls().certificate, hub.charter, now=now) == ("member", name)
    assert len(retired) == 6
    kept = {path.stem for path in (hub.folder / "renewals" / "requests").glob("*.json")}
    assert kept <= {f"member.{name}" for name in members} | {"coordinator.coordinator"}


def test_a_look_that_fails_as_nobody_foresaw_is_followed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(caring, "LOOK_SECONDS", 0.001)
    looks, again = count(), Event()

    def look(now: datetime) -> None:
        if next(looks) == 0:
            raise RuntimeError("what an exception says may be about anything")
        again.set()

    care = CertificateCare(look, thread="care", hint="look")
    care.start()
    try:
        assert again.wait(60)
    finally:
        care.stop()
    assert "may be about anything" not in caplog.text
