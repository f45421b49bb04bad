"""A second machine follows the coordinator and takes its place: real processes, real members, a kill within a round."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.coordinator.crew import Crew, Hub, federation
from tests.coordinator.test_faults import completed
from tests.coordinator.test_orders import one_round, running
from tests.federation.inprocess import NAMES
from tests.ports import free_port

from sordino_coordinator.control.audit import Action, read_lines
from sordino_coordinator.control.callers import STANDBY_TOKEN_FILE, TOKEN_FILE, token_of
from sordino_coordinator.control.copying import END, Stand
from sordino_coordinator.rounds import Outcome, RoundStore
from sordino_coordinator.standby.following import Follower
from sordino_coordinator.standby.takeover import OldMachine
from sordino_coordinator.tenancy import SUPERSEDED, Tenancy
from sordino_platform.flower.phases import Phase
from sordino_platform.identity import Identity
from sordino_platform.machine.processes import start_bound
from sordino_platform.release import ReleaseStore
from sordino_platform.tenure import SignedTenure, is_refused, replaces
from sordino_privacy.errors import ConfigurationError, LinkError, SordinoError, StorageError, UsageError
from sordino_privacy.signing import KeySigner

SORDINO = (sys.executable, "-P", "-m", "sordino_platform.cli", "coordinator")
PUBLIC = ("identity.json", "root.pin", "charters", STANDBY_TOKEN_FILE)
KEYS = ("identity.key", "tls.pem")
PEOPLE_ONLY = """
[oidc]
issuer = "https://login.example"
client_id = "sordino-console"
audience = "sordino-api"
operators = ["sordino-operators"]
static_tokens = false
"""


def bring(hub: Path, standby: Path, names: tuple[str, ...]) -> None:
    """What an operator carries to the second machine by hand."""
    standby.mkdir(mode=0o700, exist_ok=True)
    for name in names:
        (shutil.copytree if (hub / name).is_dir() else shutil.copy2)(hub / name, standby / name)


@contextlib.contextmanager
def following(standby: Path, api: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [*SORDINO, "follow", "--folder", str(standby), "--of", api, "--seconds", "1", "--json"]
    with start_bound(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.kill()


def take_over(standby: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SORDINO, "takeover", "--folder", str(standby), "--json", *words],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip


def newest(folder: Path) -> int:
    manifest = ReleaseStore(folder / "releases", Identity.load(folder).charters).look()
    return -1 if manifest is None else manifest.number


def held(standby: Path) -> int:
    path = standby / "following.json"
    return int(json.loads(path.read_text())["release"]) if path.exists() else -1


def test_a_coordinator_killed_within_a_round_is_replaced_and_members_follow_the_new_one_only(
    place: Path, tmp_path: Path
) -> None:
    api, standby = f"127.0.0.1:{free_port()}", tmp_path / "standby"
    old = place / "coordinator"
    token_of(old, STANDBY_TOKEN_FILE)
    bring(old, standby, PUBLIC)
    left = old / ".copy-0123456789ab.sqlite"  # of a process that was killed while it sent one
    left.touch()
    with federation(place, tmp_path / "log", rounds=0, pause_seconds=1.0, api_listen=api) as (hub, crew):
        assert not left.exists()
        with following(standby, api):
            hub.until(lambda: held(standby) >= 2)
            killed = threading.Event()

            def strike(kind: str, _: str) -> None:
                if kind == Phase.UPLOAD.message_type and not killed.is_set():
                    killed.set()
                    hub.kill()

            crew.on_message = strike
            assert killed.wait(120)
        hub.until(lambda: not hub.running)
        crew.on_message = lambda *_: None
        assert not (standby / "identity.key").exists(), "no key travels"

        without = take_over(standby)
        assert without.returncode == 3
        assert "identity.key" in without.stderr
        bring(old, standby, KEYS)
        done = take_over(standby, "--of", api)
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        floor = Identity.load(old).charter.floors.cohort
        assert (facts["generation"], facts["old"]) == (1, OldMachine.UNKNOWN)
        assert facts["members_needed"] == len(NAMES) - floor + 1
        copied = facts["release"]
        assert newest(old) - 1 <= copied <= newest(old)

        second = Hub(standby, tmp_path / "log-of-the-second")
        second.start()
        try:
            if copied < newest(old):  # the last release was made after the last pass: members hold it
                second.until(lambda: not second.running)
                adopted = subprocess.run(
                    [*SORDINO, "adopt", "--folder", str(standby)], check=False, timeout=180
                )
                assert adopted.returncode == 0
                second.start()
            before = newest(standby)
            second.until(lambda: newest(standby) > before)
            second.until(lambda: all(m.newest_release() > before for m in crew.members.values()))
            agree(crew, standby)
            assert Tenancy(folder=standby, charters=Identity.load(standby).charters).settled()
            assert Action.TAKEN_OVER in {line.entry.action for line in read_lines(standby)}
        finally:
            second.kill()

        # The old machine comes back where members look for their coordinator.
        hub.start()
        assert hub.wait() == 3
        assert (old / SUPERSEDED).exists()
        assert open_rounds(old) == 0
        assert subprocess.run([*SORDINO, "up", "-f", str(old)], check=False, timeout=120).returncode == 3
        agree(crew, standby)


def agree(crew: Crew, folder: Path) -> None:
    """Every member's history is the beginning of this coordinator's, and its tenure the same."""
    held = {name: member.releases.chain() for name, member in crew.members.items()}
    # Read after theirs: rounds go on meanwhile.
    chain = ReleaseStore(folder / "releases", Identity.load(folder).charters).verify()
    for name, member in crew.members.items():
        assert held[name] == chain[: len(held[name])]
        assert (member.folder / "tenure.json").read_bytes() == (folder / "tenure.json").read_bytes()


def open_rounds(folder: Path) -> int:
    store = RoundStore(folder / "state.sqlite")
    rows = store.rounds()
    store.close()
    return sum(row.outcome is Outcome.OPEN for row in rows)


def test_a_coordinator_that_answers_hands_over_stops_and_never_runs_again(
    place: Path, tmp_path: Path
) -> None:
    """Where operators come by their company's account only: a machine that follows has a token of its own."""
    api, standby, old = f"127.0.0.1:{free_port()}", tmp_path / "standby", place / "coordinator"
    settings = old / "coordinator.toml"
    settings.write_text(settings.read_text() + PEOPLE_ONLY)
    token_of(old, STANDBY_TOKEN_FILE)
    bring(old, standby, (*PUBLIC, *KEYS))
    with federation(place, tmp_path / "log", rounds=0, pause_seconds=0.5, api_listen=api) as (hub, crew):
        hub.until(lambda: completed(hub.folder) >= 1)
        with following(standby, api):
            hub.until(lambda: held(standby) >= 0)
        assert not (old / TOKEN_FILE).exists(), "nobody comes in with an operator's token"
        done = take_over(standby, "--of", api)
        assert done.returncode == 0, done.stderr
        facts = json.loads(done.stdout)
        assert (facts["old"], facts["members_needed"]) == (OldMachine.HANDED_OVER, 0)
        assert hub.wait() == 0, "it drained and ended by itself"
        done_last = [line.entry.action for line in read_lines(old)][-3:]
        assert done_last[-1] is Action.STOPPED
        assert Action.HANDED_OVER in done_last, "between them at most the end of the round that ran"
        assert facts["release"] <= newest(old)
        again = subprocess.run([*SORDINO, "up", "-f", str(old)], capture_output=True, text=True, check=False)
        assert again.returncode == 3
        assert "another machine took over" in again.stderr
        second = Hub(standby, tmp_path / "log-of-the-second")
        second.start()
        try:
            # A release that was made in the last moment is at the members, and is adopted; else rounds just go on.
            if facts["release"] == newest(old):
                before = newest(standby)
                second.until(lambda: all(m.newest_release() > before for m in crew.members.values()))
                agree(crew, standby)
        finally:
            second.kill()


def test_a_member_takes_part_in_nothing_under_an_older_tenure_and_shows_the_one_it_holds(place: Path) -> None:
    with running(place) as (hub, strategy, grid):
        key, name = hub.identity.signing_key, hub.charter.federation
        assert one_round(hub, strategy, grid, 0.001)
        hub.tenancy.begin(SignedTenure.begin(federation=name, after=0, key=key), settled=False)
        assert hub.quorum() == max(
            hub.membership.floors.cohort, len(NAMES) - hub.membership.floors.cohort + 1
        )
        assert one_round(hub, strategy, grid, 0.001), "every member takes the later one"
        assert hub.tenancy.settled()
        kept = (place / "members" / "elm" / "tenure.json").read_bytes()
        (hub.folder / "tenure.json").unlink()  # the machine that was there before
        with pytest.raises(ConfigurationError, match="another machine took over"):
            one_round(hub, strategy, grid, 0.001)
        assert hub.releases.head().number == 2
        assert (hub.folder / SUPERSEDED).read_bytes() == kept
        rival = SignedTenure.begin(federation=name, after=0, key=key)
        hub.tenancy.begin(rival, settled=True)  # a third machine that took the same number
        with pytest.raises(ConfigurationError, match="another machine took over"):
            one_round(hub, strategy, grid, 0.001)
        assert (place / "members" / "elm" / "tenure.json").read_bytes() == kept


def test_a_tenure_counts_only_with_the_coordinators_signature(place: Path) -> None:
    hub = Identity.load(place / "coordinator")
    tenancy = Tenancy(folder=place / "coordinator", charters=hub.charters)
    stranger = Identity.load(place / "members" / "elm").signing_key
    forged = SignedTenure.begin(federation=hub.charter.federation, after=7, key=stranger)
    assert not tenancy.note(forged.to_bytes())
    assert not tenancy.note(b"{}")
    tenancy.require_current()
    foreign = SignedTenure.begin(federation="another", after=7, key=hub.signing_key)
    with pytest.raises(ConfigurationError, match="of another federation"):
        tenancy.parse(foreign.to_bytes())


@given(st.data())
def test_two_machines_never_both_hold_a_round(data: st.DataObject) -> None:
    """Whatever each reaches, and in whatever order: once one has held a round under a tenure, no other machine holds
    one under an older or a rival one."""
    total = data.draw(st.integers(3, 9), label="members")
    floor = data.draw(st.integers(2, total), label="floor")
    machines: list[tuple[int, int]] = [(0, 0), (1, 1), (1, 2), (2, 3)]  # generation, identity
    holds = [(0, 0)] * total
    settled, held_by = {(0, 0)}, (0, 0)
    for _ in range(data.draw(st.integers(1, 12))):
        machine = data.draw(st.sampled_from(machines))
        reached = data.draw(st.sets(st.integers(0, total - 1)))
        ready = []
        for member in reached:
            if machine[0] > holds[member][0]:
                holds[member] = machine
            if holds[member] == machine:
                ready.append(member)
        fewest = floor if machine in settled else max(floor, total - floor + 1)
        if len(ready) >= fewest:
            assert machine[0] > held_by[0] or machine == held_by
            settled.add(machine)
            held_by = machine


def test_the_order_of_tenures_is_that_of_the_law_above(place: Path) -> None:
    hub = Identity.load(place / "coordinator")
    first, rival, later = (
        SignedTenure.begin(federation=hub.charter.federation, after=after, key=hub.signing_key)
        for after in (0, 0, 1)
    )
    assert [replaces(first, None), replaces(rival, first), replaces(later, first)] == [True, False, True]
    assert [is_refused(None, first), is_refused(rival, first), is_refused(first, first), is_refused(later, first)] == [
        True, True, False, False,
    ]  # fmt: skip


class Cut(Follower):
    """A follower whose coordinator sends these bytes."""

    sent = b""

    @contextlib.contextmanager
    def _answered(self, method: str, path: str, body: bytes | None = None) -> Iterator[io.BytesIO]:  # type: ignore[override]
        yield io.BytesIO(self.sent)


def tar_of(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"state.sqlite": b"new"}, LinkError),  # cut between two files
        ({"state.sqlite": b"new", "identity.key": b"x", END: b""}, StorageError),
        ({"state.sqlite": b"new", "../state.sqlite": b"x", END: b""}, StorageError),
        ({"state.sqlite": b"new", "releases/000001/manifest.json": b"{}", END: b""}, ConfigurationError),
        ({"state.sqlite": b"new", "charters/charter-000009.json": b"{}", END: b""}, SordinoError),
    ],
    ids=["cut", "key", "path", "release", "charter"],
)
def test_a_copy_that_is_cut_or_holds_what_nobody_signed_changes_nothing(
    place: Path, files: dict[str, bytes], error: type[SordinoError]
) -> None:
    standby = place / "coordinator"
    token_of(standby, STANDBY_TOKEN_FILE)
    before = (standby / "state.sqlite").read_bytes()
    follower = Cut(standby, "127.0.0.1:1")
    follower.sent = tar_of(files)
    with pytest.raises(error):
        follower.once()
    assert (standby / "state.sqlite").read_bytes() == before
    assert not (standby / ".arriving").exists()


@pytest.mark.parametrize(
    "query", ["", "release=1", "release=1&epoch=1&audit=1&state=../x", "release=x&epoch=1&audit=1&state="]
)
def test_a_stand_is_asked_in_one_form_only(query: str) -> None:
    with pytest.raises(UsageError):
        Stand.parse(query)
    stand = Stand(release=3, epoch=1, audit=77, state="ab" * 32)
    assert Stand.parse(stand.query()) == stand


def test_a_key_that_an_epoch_replaced_ends_no_machine(place: Path) -> None:
    old, today = KeySigner.generate(), KeySigner.generate()

    def signed(key: KeySigner) -> Any:
        named = SimpleNamespace(identity_key=key.public_key)
        return SimpleNamespace(charter=SimpleNamespace(federation="test", coordinator=named))

    charters: Any = SimpleNamespace(chain=lambda: [signed(old), signed(today)], head=lambda: signed(today))
    tenancy = Tenancy(folder=place, charters=charters)
    stolen = SignedTenure.begin(federation="test", after=9, key=old).to_bytes()
    assert tenancy.parse(stolen), "what was kept before the key was replaced is still read"
    assert not tenancy.note(stolen)
    assert not (place / SUPERSEDED).exists()
    assert tenancy.note(SignedTenure.begin(federation="test", after=0, key=today).to_bytes())
    assert (place / SUPERSEDED).exists()
