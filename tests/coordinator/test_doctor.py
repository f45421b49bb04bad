"""`sordino doctor` finds each thing that is wrong, says what to do, and ends with the code that the thing has."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import time_machine
from typer.testing import CliRunner

from sordino_client.commands import app as client_app
from sordino_client.status import read_agent_status
from sordino_coordinator.control import desk
from sordino_coordinator.control.audit import FILE, FOLDER, Action, AuditLog
from sordino_coordinator.doctor import heldout
from sordino_coordinator.release_gate import require_measurable
from sordino_coordinator.settings import CoordinatorSettings
from sordino_coordinator.settings import load_coordinator_settings as load_coordinator
from sordino_platform.architecture import Architecture, HuggingFaceConfig
from sordino_platform.doctor import checks
from sordino_platform.doctor.command import examine
from sordino_platform.doctor.finding import CheckState, Finding, checked
from sordino_platform.identity import EnrolmentToken, Identity, site
from sordino_platform.identity import authority as root
from sordino_privacy.errors import ConfigurationError


def of(folder: Path, check: str) -> Finding:
    """What one check found."""
    return next(finding for finding in examine(folder) if finding.check == check)


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def member(place: Path) -> Path:
    return place / "members" / "alder"


def test_a_sound_coordinator_and_a_sound_root_have_no_failure(place: Path, hub: Path) -> None:
    for folder in (hub, place / "root"):
        states = {finding.check: (finding.state, finding.said) for finding in examine(folder)}
        assert not [name for name, (state, _) in states.items() if state is CheckState.FAILED], states
    assert of(hub, "held-out code").state is CheckState.WARNING


def test_a_sound_member_only_lacks_a_coordinator_that_runs(place: Path) -> None:
    found = {
        finding.check: finding for finding in examine(member(place)) if finding.state is CheckState.FAILED
    }
    assert set(found) == {"coordinator"}
    assert "nothing listens on 127.0.0.1:1" in found["coordinator"].said


def test_too_few_units_are_said_before_the_start_refuses_them_and_nothing_is_kept(place: Path) -> None:
    assert " of at least 1, from " in of(member(place), "units").said
    edit(member(place) / "member.toml", "minimum_units = 1", "minimum_units = 64")
    finding = of(member(place), "units")
    assert (finding.state, finding.exit_code) == (CheckState.FAILED, 4)
    assert "units of code are too few to be private" in finding.said
    assert "name more repositories" in finding.hint
    assert not list((member(place) / "corpus").glob("*"))


def test_a_member_without_a_release_says_so_in_words(place: Path) -> None:
    (member(place) / "status.json").write_text(json.dumps({"pid": os.getpid(), "release": -1}))
    assert read_agent_status(member(place))["release"] is None
    said = CliRunner().invoke(client_app, ["status", "--folder", str(member(place))], catch_exceptions=False)
    assert "none yet" in next(line for line in said.output.splitlines() if line.startswith("release"))


def break_clock(place: Path) -> tuple[Path, str, str, int]:
    newest = Identity.load(place / "coordinator").charter.issued_at
    finding = checks.clock(Identity.load(place / "coordinator"), [], now=newest - timedelta(days=1))
    assert (finding.state, finding.exit_code) == (CheckState.FAILED, 3)
    return place / "coordinator", "clock", "later than all", 0


def break_settings(place: Path) -> tuple[Path, str, str, int]:
    edit(member(place) / "member.toml", "repositories", "repositoriez")
    return member(place), "settings", "repositories", 3


def break_repository(place: Path) -> tuple[Path, str, str, int]:
    edit(member(place) / "member.toml", str(place.parent), str(place.parent))
    text = (member(place) / "member.toml").read_text().splitlines()
    kept = [line for line in text if not line.startswith("repositories")]
    (member(place) / "member.toml").write_text("\n".join(['repositories = ["/nowhere/at/all"]', *kept]))
    return member(place), "repositories", "/nowhere/at/all", 4


def break_name(place: Path) -> tuple[Path, str, str, int]:
    edit(member(place) / "member.toml", "127.0.0.1:1", "no-such-host.invalid:9443")
    return member(place), "name resolution", "cannot be resolved", 6


def break_key(place: Path) -> tuple[Path, str, str, int]:
    (member(place) / "identity.key").chmod(0o644)
    return member(place), "identity", "other users", 3


def break_plan(place: Path) -> tuple[Path, str, str, int]:
    edit(place / "coordinator" / "coordinator.toml", "clip_norm = 0.5", "clip_norm = 50.0")
    return place / "coordinator", "plan", "clip norm", 9


def break_release(place: Path) -> tuple[Path, str, str, int]:
    weights = place / "coordinator" / "releases" / "000000" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    return place / "coordinator", "releases", "do not match the signed hash", 8


def break_state(place: Path) -> tuple[Path, str, str, int]:
    for path in (place / "coordinator").glob("state.sqlite*"):
        path.unlink()
    (place / "coordinator" / "state.sqlite").write_bytes(b"SQLite format 3\x00" + b"damage" * 500)
    return place / "coordinator", "state", "state.sqlite", 8


def break_audit(place: Path) -> tuple[Path, str, str, int]:
    hub = place / "coordinator"
    AuditLog(hub, key=Identity.load(hub).signing_key).append(Action.PAUSED, "by nobody")
    edit(hub / FOLDER / FILE, "by nobody", "by a body")
    return hub, "audit log", "not signed", 8


def break_schedule(place: Path) -> tuple[Path, str, str, int]:
    edit(place / "coordinator" / "coordinator.toml", "rounds = 1", 'rounds = 1\nschedule = ["at night"]')
    return place / "coordinator", "settings", "not a window", 2


def break_token(place: Path) -> tuple[Path, str, str, int]:
    folder = place / "root"
    root.begin_epoch(folder)
    token = root.invite(folder, role="member", name="fir", organisation="fir ltd")
    request = newcomer(place / "fir", token)
    root.enrol(folder, request)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="was used before"):
            root.enrol(folder, newcomer(place / "thief", token))
        shutil.rmtree(place / "thief")
    return folder, "tokens", "offered again for fir (2 times", 3


def newcomer(folder: Path, token: EnrolmentToken) -> bytes:
    site.create(folder, federation="test", role="member", name="fir", organisation="fir ltd")
    return site.make_request(folder, token=token)


@pytest.mark.parametrize(
    "wound",
    [
        break_clock,
        break_settings,
        break_repository,
        break_name,
        break_key,
        break_plan,
        break_release,
        break_state,
        break_audit,
        break_schedule,
        break_token,
    ],
    ids=lambda wound: wound.__name__.removeprefix("break_"),
)
def test_each_fault_is_found_explained_and_has_its_exit_code(
    place: Path, wound: Callable[[Path], tuple[Path, str, str, int]]
) -> None:
    folder, check, words, code = wound(place)
    finding = of(folder, check)
    assert words in f"{finding.said} {finding.hint}"
    assert finding.exit_code == code
    assert finding.hint or finding.state is CheckState.OK


def test_what_doctor_advises_for_held_out_code_the_coordinator_takes(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each setting and kind of model: doctor fails exactly where `up` refuses, and in the same words."""
    ours, public = Identity.load(hub).charter.model.config(), str(Path(__file__).parent)
    adapted = HuggingFaceConfig(
        base_sha256="00" * 32, vocabulary=300, context=64, end=1, adapter_rank=1, targets=(("q", 16, 16),)
    )
    text = (hub / "coordinator.toml").read_text().splitlines()
    kept = [line for line in text if not line.startswith(("heldout =", "release_without_any"))]
    for config in (ours, adapted):
        for held in ([], [public]):
            for meant in (False, True):
                said = [f"heldout = {json.dumps(held)}"]
                said.append(f"release_without_any_heldout_measurement = {json.dumps(meant)}")
                (hub / "coordinator.toml").write_text("\n".join([*said, *kept]))
                settings, identity = load_coordinator(hub), Identity.load(hub)
                with monkeypatch.context() as patched:
                    patched.setattr(type(identity.charter.model), "config", lambda _, it=config: it)
                    finding = checked("held-out code", partial(heldout, settings, identity))
                refusal = checked("up", partial(started, settings, config))
                assert (finding.state is CheckState.FAILED) is (refusal.state is CheckState.FAILED)
                if refusal.state is CheckState.FAILED:
                    assert (finding.said, finding.hint) == (refusal.said, refusal.hint)
                assert not (config is adapted and "to folders of public code" in finding.hint)


def started(settings: CoordinatorSettings, config: Architecture) -> str:
    """As far as `up` goes before it reads any file."""
    require_measurable(settings, config)
    return "it starts"


def test_a_certificate_warns_a_week_ahead_and_fails_when_it_has_ended(hub: Path) -> None:
    ends = Identity.load(hub).tls().expires_at
    for days, state in (
        (-20, CheckState.OK),
        (-8, CheckState.OK),
        (-6, CheckState.WARNING),
        (1, CheckState.FAILED),
    ):
        with time_machine.travel(ends + timedelta(days=days), tick=False):
            found = checks.certificate(Identity.load(hub), now=datetime.now(UTC))
        assert found.state is state
        assert ("renew" in found.hint) is (state is not CheckState.OK)


def test_a_port_that_another_process_has_is_found(hub: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        found = checks.port("listen", taken, own=False, setting="listen")
        assert (found.state, found.exit_code) == (CheckState.FAILED, 7)
        assert checks.port("listen", taken, own=True, setting="listen").state is CheckState.OK
    assert checks.port("listen", taken, own=False, setting="listen").state is CheckState.OK


def test_the_command_prints_every_check_and_ends_with_the_first_failures_code(place: Path) -> None:
    command = [sys.executable, "-m", "sordino_platform.cli", "doctor", str(member(place))]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert (done.returncode, report["state"]) == (6, "failed")
    assert [row["check"] for row in report["checks"]][:3] == ["versions", "identity", "clock"]
    plain = subprocess.run(command, capture_output=True, text=True)
    assert plain.returncode == 6
    assert "what to do: is the coordinator running" in plain.stdout


def test_a_pace_that_was_ordered_is_part_of_what_is_checked(hub: Path) -> None:
    from sordino_coordinator.settings import load_coordinator_settings

    desk.set_pace(hub, load_coordinator_settings(hub), {"schedule": ("mon 08:00-09:00",)})
    assert of(hub, "settings").state is CheckState.OK
