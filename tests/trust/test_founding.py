"""Founding in one command a party: the plan, the code, a join that can be broken off, one approval."""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from tests.trust.commanded import commanded

from sordino_platform.charter import ModelTerms
from sordino_platform.founding import commands
from sordino_platform.founding.code import PREFIX, JoinCode
from sordino_platform.founding.joining import Joining
from sordino_platform.identity import EnrolmentToken, Identity, admit, authority, install
from sordino_platform.identity.renewal import RenewalReply
from sordino_platform.terms import chosen
from sordino_privacy.errors import ConfigurationError, DataError, UsageError

PLAN = """
federation = "orchard"
[coordinator]
name = "hub"
organisation = "Orchard Ltd"
address = "localhost:9443"
hosts = ["127.0.0.1"]
[[members]]
name = "alder"
organisation = "Alder Ltd"
[[members]]
name = "birch"
organisation = "Birch Ltd"
[[members]]
name = "cedar"
organisation = "Cedar Ltd"
[floors]
cohort = 3
[privacy]
largest_epsilon = 4.0
update_check = "norm"
"""
NAMES = ("hub", "alder", "birch", "cedar")


def run(line: str, fed: str = "") -> Result:
    """Runs `sordino LINE` in this process; an error of ours is raised."""
    group, *arguments = line.split()
    target = {"federation": commands.app, "join": commands.join}[group]
    return commanded(group, target, *arguments, fed=fed)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terms: ModelTerms) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(chosen, "shipped_model", lambda **_: terms)
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "code").mkdir()
    return tmp_path


def codes(place: Path) -> dict[str, str]:
    return dict(json.loads(run("federation plan plan.toml --json").stdout)["codes"])


def requested(place: Path, name: str, text: str) -> Joining:
    """What `sordino join` does before it waits."""
    joining = Joining(folder=place / name, code=JoinCode.parse(text))
    (place / f"{name}.json").write_bytes(joining.request(datetime.now(UTC)))
    return joining


def test_one_plan_one_code_a_party_one_approval(place: Path) -> None:
    parties = {name: requested(place, name, text) for name, text in codes(place).items()}
    said = run("federation approve root " + " ".join(f"{name}.json" for name in NAMES)).stdout
    assert "signed epoch 1 of orchard" in said
    approval = (place / "enrolled.json").read_bytes()
    assert b"PRIVATE" not in approval
    for name, joining in parties.items():
        joining.install(approval)
        identity = Identity.load(place / name)
        assert admit(identity.tls().certificate, identity.charter)[1] == name
        assert identity.charters.root == joining.code.root == authority.charters_of(place / "root").root
    charter = Identity.load(place / "hub").charter
    assert (charter.floors.cohort, charter.privacy.largest_epsilon) == (3, 4.0)
    assert charter.privacy.update_check == "norm"
    assert charter.coordinator.dns_names == ("localhost",)
    assert charter.coordinator.addresses == ("127.0.0.1",)
    # The approval can be made again, and gives the same certificates.
    run("federation approve root hub.json alder.json birch.json cedar.json --out again.json")
    assert RenewalReply.parse((place / "again.json").read_bytes()) == RenewalReply.parse(approval)


def test_a_join_waits_for_the_approval_and_goes_on_where_it_was_broken_off(place: Path) -> None:
    held = codes(place)
    for name in ("hub", "birch", "cedar"):
        requested(place, name, held[name])
    first = requested(place, "alder", held["alder"])
    assert (
        first.request(datetime.now(UTC)) == (place / "alder.json").read_bytes()
    )  # begun again: the same keys
    with pytest.raises(UsageError, match="alder may still come"):
        run("federation approve root hub.json birch.json cedar.json")
    run("federation approve root " + " ".join(f"{name}.json" for name in NAMES))
    old = time.time() - 60
    os.utime("enrolled.json", (old, old))
    (place / "alder.code").write_text(held["alder"] + "\n")
    (place / "alder.code").chmod(0o600)
    line = "join --code-file alder.code --repo code --folder alder --approval enrolled.json --no-up"
    said = run(line).stdout
    assert "alder has joined orchard" in said
    assert "next: sordino client up --folder alder" in said
    settings = (place / "alder" / "member.toml").read_text()
    assert 'coordinator = "localhost:9443"' in settings
    assert "alder has joined orchard" in run(line).stdout  # once more changes nothing
    run("join --folder hub --approval enrolled.json --no-up", fed=held["hub"] + "\n")
    assert 'listen = "0.0.0.0:9443"' in (place / "hub" / "coordinator.toml").read_text()


def test_an_approval_that_lacks_a_party_or_is_of_another_root_is_refused(place: Path) -> None:
    held = codes(place)
    parties = {name: requested(place, name, text) for name, text in held.items()}
    run("federation approve root " + " ".join(f"{name}.json" for name in NAMES))
    approval = RenewalReply.parse((place / "enrolled.json").read_bytes())
    without = approval.model_copy(
        update={"certificates": tuple(one for one in approval.certificates if one.name != "alder")}
    )
    with pytest.raises(ConfigurationError, match="holds nothing for 'alder'"):
        parties["alder"].install(without.to_bytes())
    with pytest.raises(ConfigurationError, match="another root key"):
        install(place / "birch", _as_reply(approval, "birch"), root="-".join(["aaaa"] * 13))
    swapped = [
        one.model_copy(update={"name": "cedar"}) for one in approval.certificates if one.name == "birch"
    ]
    with pytest.raises(ConfigurationError, match="for another TLS key"):
        parties["cedar"].install(approval.model_copy(update={"certificates": tuple(swapped)}).to_bytes())
    assert not (place / "cedar" / "tls.pem").exists()


def _as_reply(approval: RenewalReply, name: str) -> bytes:
    from sordino_platform.identity import EnrolmentReply

    (one,) = [one for one in approval.certificates if one.name == name]
    return EnrolmentReply(certificate=one.certificate, charters=approval.charters).to_bytes()


def test_a_code_works_once_for_one_name_and_for_a_short_time(place: Path, tmp_path: Path) -> None:
    held = codes(place)
    code = JoinCode.parse(held["alder"])
    assert code.expires_at - datetime.now(UTC) < timedelta(days=3, minutes=1)
    assert code.token not in repr(code)
    late = Joining(folder=place / "late", code=code)
    with pytest.raises(ConfigurationError, match="expired on"):
        late.request(datetime.now(UTC) + timedelta(days=4))
    assert not (place / "late").exists()
    requested(place, "alder", held["alder"])
    thief = Joining(folder=place / "thief", code=code)
    (place / "thief.json").write_bytes(thief.request(datetime.now(UTC)))
    with pytest.raises(UsageError, match="may still come"):
        run("federation approve root alder.json")  # spends the token
    with pytest.raises(ConfigurationError, match="was used before"):
        run("federation approve root thief.json")
    other = Joining(folder=place / "alder", code=JoinCode.parse(held["birch"]))
    with pytest.raises(ConfigurationError, match="belongs to the member 'alder'"):
        other.request(datetime.now(UTC))


def test_what_is_wrong_with_a_code_is_said_without_repeating_it(place: Path) -> None:
    text = codes(place)["alder"]
    assert JoinCode.parse(f" {text[:40]}\n{text[40:]} ").name == "alder"
    letter = "B" if text[60] != "B" else "C"
    for wrong in ("", "guess", PREFIX, text[:-1], text[:60] + letter + text[61:], text * 40):
        with pytest.raises(UsageError) as refused:
            JoinCode.parse(wrong)
        assert text[20:60] not in refused.value.message + refused.value.hint
    with pytest.raises(UsageError, match="for a member"):
        run(f"join {text}")
    with pytest.raises(DataError, match="is not a folder"):
        run(f"join {text} --repo nowhere")
    assert EnrolmentToken.parse(JoinCode.parse(text).token).invitation


@given(text=st.text(max_size=200))
def test_no_text_is_a_code(text: str) -> None:
    with pytest.raises(UsageError):
        JoinCode.parse(PREFIX + text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('name = "birch"', 'name = "alder"'), "names two parties"),
        (("cohort = 3", "cohorts = 3"), "cohorts"),
        (("[floors]", "[flours]"), "flours"),
        (("largest_epsilon = 4.0", "largest_epsilon = -1"), "largest_epsilon"),
        (("[floors]", "[model]\nrank = 3\n[floors]"), "no 'rank'"),
        (('federation = "orchard"', "federation = 3"), "federation"),
        (('update_check = "norm"', 'update_check = "none"'), "update_check"),
        (("largest_epsilon = 4.0", 'largest_epsilon = "norm"'), "largest_epsilon"),
        (("cohort = 3", "cohort = 4"), "3 members are fewer than the smallest cohort, 4"),
        (('organisation = "Birch Ltd"', 'organisation = "Alder Ltd"'), "as few as 2 of 2 organisations"),
        (("[privacy]", "[training]\nlargest_move = 3\n[privacy]"), "largest_move"),
    ],
)
def test_a_plan_that_cannot_be_makes_nothing(place: Path, change: tuple[str, str], said: str) -> None:
    (place / "plan.toml").write_text(PLAN.replace(*change, 1))
    with pytest.raises(ConfigurationError, match=said):
        run("federation plan plan.toml")
    assert not (place / "root" / "root.key").exists()
