"""A coordinator restored from an old backup takes its own history back from real members, and believes none of them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, RecordDict
from tests.coordinator.crew import Crew, Hub, federation
from tests.coordinator.test_faults import completed
from tests.federation.inprocess import NAMES

from sordino_client.round.member import Member
from sordino_coordinator.adopting import Told, agreed
from sordino_coordinator.control.audit import Action, read_lines
from sordino_platform.flower import shim
from sordino_platform.flower.codec import decode_message, encode_message
from sordino_platform.flower.phases import Fields, pack
from sordino_platform.history import HISTORY, Question, Want, batch
from sordino_platform.identity import Identity
from sordino_platform.identity import authority as root
from sordino_platform.link import Payload, Request
from sordino_platform.release import ReleaseStore, SignedManifest
from sordino_privacy.errors import ConfigurationError, LinkError

SORDINO = (sys.executable, "-P", "-m", "sordino_platform.cli")


def adopt(hub: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SORDINO, "coordinator", "adopt", "--folder", str(hub), "--seconds", "20", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def rounds_then_an_old_backup(hub: Hub, crew: Crew, backup: Path, place: Path, *, rounds: int) -> None:
    """Rounds complete, an epoch among them; then the folder is what it was before them, settings apart."""
    hub.until(lambda: completed(hub.folder) >= 1)
    root.begin_epoch(place / "root")
    Identity.load(hub.folder).charters.accept(root.sign_epoch(place / "root").to_bytes())
    hub.until(lambda: completed(hub.folder) >= rounds)
    hub.until(lambda: all(m.identity.charter.epoch == 2 for m in crew.members.values()))
    hub.send(signal.SIGTERM)
    hub.wait()
    settings = (hub.folder / "coordinator.toml").read_bytes()
    hub.folder.rename(hub.folder.with_name("lost"))
    shutil.copytree(backup, hub.folder)
    (hub.folder / "coordinator.toml").write_bytes(settings)


def chain(folder: Path) -> tuple[SignedManifest, ...]:
    return ReleaseStore(folder / "releases", Identity.load(folder).charters).verify(weights=True)


def test_a_restored_coordinator_adopts_what_its_members_hold_and_rounds_go_on(
    place: Path, tmp_path: Path
) -> None:
    backup = Path(shutil.copytree(place / "coordinator", tmp_path / "backup"))
    with federation(place, tmp_path / "log", rounds=0, pause_seconds=0.5) as (hub, crew):
        rounds_then_an_old_backup(hub, crew, backup, place, rounds=3)
        held = max(len(chain(place / "members" / name)) for name in NAMES)
        assert len(chain(hub.folder)) == 1

        done = adopt(hub.folder, "--json")
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        assert facts == {
            "members": sorted(NAMES),
            "refused": [],
            "epochs": 1,
            "releases": held - 1,
            "newest": held - 1,
        }
        now, lost = chain(hub.folder), chain(hub.folder.with_name("lost"))
        assert now[:held] == lost[:held]
        assert (now[held].manifest.restores, now[held].manifest.round) == (held - 1, None)
        assert Identity.load(hub.folder).charter.epoch == 2
        assert [line.entry.action for line in read_lines(hub.folder)][-1] is Action.ADOPTED
        again = json.loads(adopt(hub.folder, "--json").stdout)
        assert (again["releases"], again["newest"]) == (0, held)

        hub.start()
        hub.until(lambda: completed(hub.folder) >= 1)
        hub.until(lambda: all(member.newest_release() > held for member in crew.members.values()))
        assert chain(hub.folder)[: held + 1] == now


class Liars(Crew):
    """Members with true certificates, of whom all but elm lie when they are asked for history."""

    def _handler(self, member: Member) -> Callable[[Request], Payload | None]:
        honest = super()._handler(member)

        def answer(request: Request) -> Payload | None:
            message = decode_message(request.payload)
            if member.name == "elm" or message.metadata.message_type != HISTORY:
                return honest(request)
            return encode_message(Message(lie(member, Question.parse(Fields(message))), reply_to=message))

        return answer


def lie(member: Member, question: Question) -> RecordDict:
    """An answer of the right shape with a wrong content, another one from each."""
    held = _manifests(member, question.first)
    if question.want is Want.CHARTERS:
        charter = {"alder": [b"{}"], "birch": ["text"], "cedar": 5}.get(member.name, [])
        return pack({"items": charter})  # type: ignore[dict-item]
    newest = SignedManifest.parse(member.releases.manifest_bytes(member.newest_release()))
    if question.want is Want.WEIGHTS:
        return pack({}, {"weights": np.zeros(newest.manifest.dimension, np.float32)})
    if member.name == "alder":  # one more release, which it signed itself
        number, parent = newest.manifest.number + 1, newest.manifest.hash()
        more = newest.manifest.model_copy(update={"number": number, "parent": parent})
        held.append(SignedManifest.sign(more, member.identity.signing_key).to_bytes())
    if member.name == "birch":  # a gap
        held = held[-1:]
    if member.name == "cedar":
        held = [bytes(1000)]
    return pack({"items": held})  # dogwood's manifests are true, and its model is not


def _manifests(member: Member, first: int) -> list[bytes]:
    return [member.releases.manifest_bytes(n) for n in range(first, member.newest_release() + 1)]


def test_members_that_lie_about_history_change_nothing_of_what_is_adopted(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = Path(shutil.copytree(place / "coordinator", tmp_path / "backup"))
    monkeypatch.setattr("tests.coordinator.crew.Crew", Liars)
    with federation(place, tmp_path / "log", rounds=0, pause_seconds=0.5) as (hub, crew):
        rounds_then_an_old_backup(hub, crew, backup, place, rounds=2)
        truth = chain(hub.folder.with_name("lost"))
        done = adopt(hub.folder, "--json")
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        adopted = chain(hub.folder)
        assert adopted[:-1] == truth[: len(adopted) - 1]
        assert len(adopted) - 2 == facts["newest"] == crew.members["elm"].newest_release()
        assert adopted[-1].manifest.restores == facts["newest"]
        assert {line.split(":")[0] for line in facts["refused"]} >= {"alder", "birch", "cedar"}
        for words in ("the signature of release", "is next", "cannot be used"):
            assert any(words in line for line in facts["refused"]), (words, facts["refused"])


def test_two_histories_are_for_a_person_to_judge(place: Path) -> None:
    key = Identity.load(place / "coordinator").signing_key
    (base,) = chain(place / "coordinator")
    other = SignedManifest.sign(base.manifest.model_copy(update={"run": "other"}), key)
    assert agreed([base], {"alder": Told(chain=[base]), "birch": Told(chain=[])}) == [base]
    with pytest.raises(
        ConfigurationError, match="two different releases 0: one at this coordinator, another"
    ):
        agreed([base], {"alder": Told(chain=[other])})
    with pytest.raises(ConfigurationError, match="one at alder, another at birch"):
        agreed([], {"alder": Told(chain=[base]), "birch": Told(chain=[other])})


def test_nobody_connected_and_a_running_coordinator_are_said(place: Path, tmp_path: Path) -> None:
    hub = Hub(place / "coordinator", tmp_path / "log")
    done = subprocess.run(
        [*SORDINO, "coordinator", "adopt", "--folder", str(hub.folder), "--seconds", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 6
    assert "no member is connected" in done.stderr
    hub.start()
    assert "another coordinator runs" in (done := adopt(hub.folder)).stderr
    assert done.returncode == 8
    hub.kill()


@pytest.mark.parametrize("fields", [{"want": "keys", "first": 0}, {"want": "weights", "first": -1}])
def test_a_question_that_is_none_is_refused(fields: dict[str, str | int]) -> None:
    shim.identify(run=1, node=shim.COORDINATOR_NODE)
    message = Message(pack(fields), dst_node_id=5, message_type=HISTORY)
    with pytest.raises(LinkError, match="a history that this version does not know"):
        Question.parse(Fields(message))
    assert [len(one) for one in batch([bytes(9 << 20)] * 3)] == [9 << 20]
    assert len(batch([bytes(20 << 20), b""])) == 1
