"""The ceremony as people type it, on stdout and stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from tests.trust.commanded import commanded

from sordino_platform.charter import ModelTerms
from sordino_platform.charter import commands as charter_commands
from sordino_platform.cli import as_command
from sordino_platform.identity import Identity, admit
from sordino_platform.identity import commands as identity_commands
from sordino_platform.identity.ceremony import Foundation
from sordino_platform.identity.renewal import RenewalBox
from sordino_platform.identity.site import install_certificate, renewal_request
from sordino_platform.terms import chosen
from sordino_privacy.errors import ConfigurationError, LinkError, UsageError

Federation = Callable[..., Foundation]
APPS = {"charter": charter_commands.app, "identity": identity_commands.app}


def run(line: str, *more: str, fed: str = "") -> Result:
    """Runs `sordino LINE` in this process; an error of ours is raised."""
    group, *arguments = line.split()
    return commanded(group, APPS[group], *arguments, *more, fed=fed)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terms: ModelTerms) -> Path:
    monkeypatch.chdir(tmp_path)
    # The shipped base would load torch; the ceremony does not depend on which model is trained.
    monkeypatch.setattr(chosen, "shipped_model", lambda **_: terms)
    return tmp_path


def joined(place: Path) -> str:
    """A federation of three and a coordinator, by commands only; returns the root's fingerprint."""
    new = "charter new root --federation demo --cohort 3 --organisations 2 --json"
    fingerprint = str(json.loads(run(new).stdout)["root"])
    for name in ("hub", "a", "b", "c"):
        flags = ["--coordinator"] if name == "hub" else []
        run(f"identity invite root --name {name} --organisation Org-{name} --out {name}.token", *flags)
        hosts = ["--host", "localhost", "--host", "127.0.0.1"] if flags else []
        run(f"identity new {name} --federation demo --name {name} --organisation Org-{name}", *flags, *hosts)
        run(f"identity request {name} --token-file {name}.token --out {name}.request")
    run("charter add root hub.request a.request b.request c.request")
    run("charter sign root --out charter.json")
    for name in ("hub", "a", "b", "c"):
        run(f"identity approve root {name}.request --out {name}.reply")
        run(f"identity install {name} {name}.reply --root {fingerprint}")
    return fingerprint


def test_the_whole_ceremony_by_commands(place: Path) -> None:
    fingerprint = joined(place)
    assert Identity.load(place / "a").charter.hash() == Identity.load(place / "hub").charter.hash()
    assert (place / "a.token").stat().st_mode & 0o777 == 0o600
    for path in place.glob("*.re*"):
        assert b"PRIVATE" not in path.read_bytes()

    shown = json.loads(run("charter show charter.json --json").stdout)
    assert shown["root"] == fingerprint
    assert shown["floors"]["cohort"] == 3
    assert "Org-b" in run("charter show root").stdout
    assert "good: demo, epoch 1" in run(f"charter verify charter.json --root {fingerprint}").stdout
    about = json.loads(run("identity show a --json").stdout)
    assert about["problem"] is None
    assert 29 < about["certificate_days_left"] <= 30
    assert "certificate days left" in run("identity show hub").stdout

    run("identity renew a --out a.renewal")
    run("identity approve root a.renewal --out a.renewed")
    run("identity install a a.renewed")


def test_all_renewals_are_approved_in_one_command_or_carried_as_one_file(place: Path) -> None:
    joined(place)
    assert "nobody waits" in run("identity pending hub").stdout
    now, box = datetime.now(UTC), RenewalBox(place / "hub")
    for name in ("a", "b"):
        box.ask(renewal_request(place / name, now=now), sender=name, now=now)
    assert [row["name"] for row in json.loads(run("identity pending hub --json").stdout)] == ["a", "b"]
    run("identity pending hub --out renewals.json")
    run("identity approve root renewals.json --out renewed.json --validity 90")
    assert "2 certificate(s) delivered: a, b" in run("identity deliver hub renewed.json").stdout
    certificate = box.ask(renewal_request(place / "a", now=now), sender="a", now=now)
    assert certificate is not None
    install_certificate(place / "a", certificate)
    assert 89 < json.loads(run("identity show a --json").stdout)["certificate_days_left"] <= 90

    box.ask(renewal_request(place / "c", now=now), sender="c", now=now)
    assert "1 certificate(s) delivered: c" in run("identity approve root --at hub").stdout
    with pytest.raises(UsageError, match="nothing to approve"):
        run("identity approve root")
    with pytest.raises(UsageError, match="--at takes its requests"):
        run("identity approve root renewals.json --at hub")


def test_an_authority_for_renewals_comes_and_goes_with_an_epoch(place: Path) -> None:
    joined(place)
    run("identity authority hub --out renewals.pem")
    assert b"PRIVATE" not in (place / "renewals.pem").read_bytes()
    with pytest.raises(ConfigurationError, match="exists already"):
        run("identity authority hub --out again.pem")
    with pytest.raises(UsageError, match="no authority for renewals"):
        run("charter new root --renewal-days 20")
    run("charter new root --renewal-authority renewals.pem --renewal-days 20")
    assert "members only, for 20 days" in run("charter show root --draft").stdout
    run("charter sign root --out second.json")
    assert "renewals.authority" in (diff := run("charter diff charter.json second.json").stdout)
    assert diff.count("protects less") == 1
    run("charter accept hub second.json")
    run("charter accept a second.json")
    now = datetime.now(UTC)
    assert RenewalBox(place / "hub").ask(renewal_request(place / "a", now=now), sender="a", now=now)
    run("charter new root --renewal-days 0")
    assert "renews online" not in run("charter show root --draft").stdout


def test_the_next_epoch_its_comparison_and_a_retirement(place: Path) -> None:
    fingerprint = joined(place)
    run("identity retire root c")
    with pytest.raises(ConfigurationError, match="2 members are fewer than the smallest cohort, 3"):
        run("charter sign root")
    run("charter new root --replace --epsilon 9 --smallest-noise 0.9")
    run("identity invite root --name d --organisation Org-d --out d.token")
    run("identity new d --federation demo --name d --organisation Org-d")
    run("identity request d --out d.request", fed=(place / "d.token").read_text())
    run("charter add root d.request --json")
    assert "retired in epoch 2" in run("charter show root --draft").stdout
    run("charter sign root --out second.json")

    found = {
        change["field"]: change
        for change in json.loads(run("charter diff charter.json second.json --json").stdout)
    }
    assert found["privacy.largest_epsilon"]["weaker"]
    assert not found["privacy.smallest_noise_multiplier"]["weaker"]
    assert found["members.c"]["after"] == ""
    assert found["members.d"]["before"] == ""
    assert "protects less" in run("charter diff charter.json root").stdout
    run(f"charter verify second.json --root {fingerprint} --after charter.json")

    hub = Identity.load(place / "hub")
    certificate = Identity.load(place / "c").tls().certificate
    assert admit(certificate, hub.charter) == ("member", "c")
    assert "protects less" in run("charter accept hub second.json").stdout
    with pytest.raises(LinkError, match="not a member of demo in epoch 2"):
        admit(certificate, hub.charter)  # the same object, nothing restarted
    run("charter accept c second.json --json")
    assert "it was retired" in json.loads(run("identity show c --json").stdout)["problem"]
    run("identity renew c --out c.renewal")
    with pytest.raises(ConfigurationError, match="no member 'c' with this identity key"):
        run("identity approve root c.renewal")


def test_an_identity_that_has_not_joined_yet_says_what_is_missing(place: Path) -> None:
    run("identity new a --federation demo --name a --organisation A")
    assert "no pinned root yet" in run("identity show a").stdout
    with pytest.raises(ConfigurationError, match="no pinned root yet"):
        run("identity renew a")


def test_the_terms_of_adapters_stand_in_the_charter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run("charter new root --federation demo --adapter-rank 4 --embedding-rank 8 --adapter-scale 6")
    assert "of rank 4 and 8 on the embedding, scale 6" in run("charter show root --draft").stdout
    run("charter new root --replace --adapter-rank 2")
    assert "of rank 2 and 8 on the embedding, scale 6" in run("charter show root --draft").stdout
    run("charter new root --replace --adapter-rank 0")
    assert "trains full\n" in run("charter show root --draft").stdout
    run("charter new root --replace --adapter-rank 3")
    assert "of rank 3, scale 6" in run("charter show root --draft").stdout
    run("charter new root --replace --adapter-scale 2")
    assert "of rank 3, scale 2" in run("charter show root --draft").stdout
    with pytest.raises(UsageError, match="--embedding-rank is for the base that ships"):
        run(f"charter new other --federation demo --base {tmp_path} --embedding-rank 8")
    with pytest.raises(ConfigurationError, match="need an adapter_rank above 0"):
        run("charter new other --federation demo --embedding-rank 8")


def test_wrong_terms_and_wrong_uses_are_usage_errors(place: Path) -> None:
    with pytest.raises(UsageError, match="needs a name"):
        run("charter new root")
    with pytest.raises(UsageError, match="cohort"):
        run("charter new root --federation demo --cohort 2")
    assert not (place / "root").exists()
    run("charter new root --federation demo")
    with pytest.raises(UsageError, match="is a root already"):
        run("charter new root --federation demo")
    with pytest.raises(ConfigurationError, match="holds no charter"):
        run("charter new root")
    run("identity new a --federation demo --name a --organisation A")
    with pytest.raises(UsageError, match="not an enrolment token"):
        run("identity request a", fed="guess\n")


def test_a_passphrase_protects_the_root_key(place: Path) -> None:
    run("charter new root --federation demo --passphrase", fed="horse\nhorse\n")
    assert b"ENCRYPTED" in (place / "root" / "root.key").read_bytes()
    with pytest.raises(ConfigurationError, match="passphrase is wrong"):
        run("charter sign root", fed="cow\n")


def test_a_passphrase_comes_from_a_file_a_descriptor_or_a_variable(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = place / "secret"
    secret.write_text("correct horse\n")
    new = "charter new {} --federation demo --passphrase-file secret"
    with pytest.raises(ConfigurationError, match="can be read or changed by other users"):
        run(new.format("root"))
    secret.chmod(0o600)
    run(new.format("root"))
    assert b"ENCRYPTED" in (place / "root" / "root.key").read_bytes()
    complete = pytest.raises(ConfigurationError, match="has no coordinator yet")  # the key opened
    wrong = pytest.raises(ConfigurationError, match="passphrase is wrong")
    with complete:
        run("charter sign root --passphrase-file secret")
    monkeypatch.setenv("ROOT_PASSPHRASE", "correct horse")
    with complete:
        run("charter sign root --passphrase-env ROOT_PASSPHRASE")
    for text, expected in ((b"correct horse", complete), (b"cow\n", wrong)):
        read, write = os.pipe()
        os.write(write, text)
        os.close(write)
        with expected:
            run(f"charter sign root --passphrase-fd {read}")
        os.close(read)
    for words, said in (
        ("--passphrase-env NO_SUCH_VARIABLE", "no environment variable"),
        ("--passphrase-fd 999", "cannot be read"),
        ("--passphrase-env ROOT_PASSPHRASE --passphrase-file secret", "more than one source"),
    ):
        with pytest.raises(UsageError, match=said):
            run(f"charter sign root {words}")
    for wrong_text in ("", "\n", "two\nlines", "x" * 1025):
        monkeypatch.setenv("ROOT_PASSPHRASE", wrong_text)
        with pytest.raises(UsageError, match="one line of at most 1024 bytes") as refused:
            run("charter sign root --passphrase-env ROOT_PASSPHRASE")
        assert "xxx" not in refused.value.message


@pytest.mark.parametrize("name", sorted(APPS))
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    group = as_command(name, APPS[name])
    commands = group.commands  # type: ignore[attr-defined]
    for command in commands.values():
        assert f"Example: sordino {name} " in (command.help or ""), command.name
