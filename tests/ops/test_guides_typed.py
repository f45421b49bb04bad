"""The lines of the guides, typed: a federation is founded step by step, its coordinator and a member run by them.

Each line is taken from its guide and given to bash on a machine of its own (a folder and a home). What a test cannot
have is put in place beforehand: `sudo` and `systemctl` are small scripts, and the guides' folders and names stand for
others here. What is not typed stands below with the test that runs it, or with the reason why none does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.federation.typed import repository

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
GUIDES = ("start.md", *sorted(f"guides/{path.name}" for path in (DOCS / "guides").glob("*.md")))
OPERATOR, MEMBER, BACKUP, REVIEW = (
    f"guides/{name}.md" for name in ("operator", "member", "backup", "security-review")
)
MEMBERS = ("alder", "birch", "cedar")
SECONDS = 300.0

# Which line of which guide (its beginning) is typed on whose machine, in this order.
FOUNDING = [
    ("root", OPERATOR, "sordino charter new root --federation"),
    ("root", OPERATOR, "sordino identity invite root --coordinator"),
    ("root", OPERATOR, "sordino identity invite root --name alder"),
    ("hub", OPERATOR, "sudo -u sordino sordino identity new"),
    ("hub", OPERATOR, "sudo -u sordino sordino identity request"),
    ("members", MEMBER, "sordino identity new"),
    ("members", MEMBER, "sordino identity request"),
    ("root", OPERATOR, "sordino charter add root"),
    ("root", OPERATOR, "sordino charter show root --draft"),
    ("root", OPERATOR, "sordino charter sign root"),
    ("root", OPERATOR, "sordino identity approve root hub.request.json"),
    ("root", OPERATOR, "sordino identity approve root alder.request.json"),
    ("hub", OPERATOR, "sudo -u sordino sordino identity install"),
    ("hub", OPERATOR, "sudo -u sordino sordino identity show"),
    ("members", MEMBER, "sordino identity install"),
    ("members", MEMBER, "sordino charter show"),
    ("root", REVIEW, "sordino charter verify"),
]
RUNNING = [
    ("hub", OPERATOR, "sudo -u sordino sordino coordinator new"),
    ("hub", OPERATOR, "sudo cp deploy/systemd/sordino-coordinator.service"),
    ("hub", OPERATOR, "sudo systemctl daemon-reload"),
    ("hub", OPERATOR, "sudo -u sordino sordino doctor"),
    ("hub", OPERATOR, "sudo systemctl enable --now sordino-coordinator"),
    ("hub", OPERATOR, "sudo -u sordino sordino coordinator status"),
    ("alder", MEMBER, "sordino client corpus"),
    ("alder", MEMBER, "sordino client join"),
    ("alder", MEMBER, "mkdir -p ~/.config/systemd/user"),
    ("alder", MEMBER, "cp deploy/systemd/sordino-member.service"),
    ("alder", MEMBER, "sordino doctor"),
    ("alder", MEMBER, "systemctl --user enable --now sordino-member"),
]
# What is not typed here: the test that runs it, or the reason why none does.
INSTALLING = "installs a program on a machine"
ELSEWHERE = {
    ("start.md", "python3 -m venv"): INSTALLING,
    ("start.md", "~/.local/share/sordino-venv/bin/pip"): INSTALLING,
    ("start.md", "export"): INSTALLING,
    ("start.md", "sordino serve"): "tests/completion/test_serve.py",
    ("start.md", "sordino complete"): "tests/completion/test_complete_command.py",
    ("start.md", "sordino train"): "tests/training/test_standalone.py",
    ("start.md", "sordino demo"): "tests/federation/test_demo.py",
    ("start.md", "sordino federation"): "tests/federation/test_founding_script.py",
    ("start.md", "sordino join --help"): "tests/ops/test_release_artifacts.py",
    (BACKUP, "sudo"): "tests/coordinator/test_backup_and_upgrade.py",
    (BACKUP, "sordino client ledger recover"): "tests/ledger/test_heads.py",
    (BACKUP, "sordino coordinator"): "tests/secagg/test_transcript.py",
    ("guides/enterprise.md", "pip install"): INSTALLING,
    ("guides/enterprise.md", "install -m 600"): INSTALLING,
    ("guides/enterprise.md", "sordino join"): "tests/trust/test_pkcs11.py",
    ("guides/enterprise.md", "curl"): "tests/coordinator/test_oidc_api.py",
    (MEMBER, "python3 -m venv"): INSTALLING,
    (MEMBER, "~/.local/share/sordino-venv/bin/pip"): INSTALLING,
    (MEMBER, "mkdir -p ~/.local/bin"): INSTALLING,
    (MEMBER, "ln -s"): INSTALLING,
    (MEMBER, "sordino join"): "tests/federation/test_founding_script.py",
    (MEMBER, "sordino client status"): "tests/federation/test_agent_lives_on.py",
    (MEMBER, "sordino complete"): "tests/completion/test_complete_command.py",
    (MEMBER, "sordino client ledger"): "tests/ledger/test_ledger.py",
    (MEMBER, "sordino client adapt"): "tests/training/test_personal_adapter.py",
    (MEMBER, "sordino client taken"): "tests/federation/test_taking.py",
    (OPERATOR, "python3 -m venv"): INSTALLING,
    (OPERATOR, "/opt/sordino/bin/pip"): INSTALLING,
    (OPERATOR, "useradd"): INSTALLING,
    (OPERATOR, "install -d"): INSTALLING,
    (OPERATOR, "ln -s"): INSTALLING,
    (OPERATOR, "sordino federation"): "tests/federation/test_founding_script.py",
    (OPERATOR, "sudo -u sordino sordino join"): "tests/federation/test_founding_script.py",
    (OPERATOR, "sordino join"): "tests/federation/test_founding_script.py",
    (OPERATOR, "sudoedit"): "a person edits",
    (OPERATOR, "sudo apt-get"): INSTALLING,
    (OPERATOR, "sudo install"): INSTALLING,
    (OPERATOR, "sudo cp deploy/prometheus"): "tests/ops/test_promtool.py",
    (OPERATOR, "sudo systemctl restart"): INSTALLING,
    (OPERATOR, "ssh"): "needs a second machine",
    (OPERATOR, "sudo -u sordino cat"): "tests/console/test_access.py",
    (OPERATOR, "sudo -u sordino sordino coordinator pause"): "tests/coordinator/test_orders.py",
    (OPERATOR, "sudo -u sordino sordino coordinator resume"): "tests/coordinator/test_orders.py",
    (OPERATOR, "sudo -u sordino sordino coordinator pace"): "tests/coordinator/test_orders.py",
    (OPERATOR, "sudo -u sordino sordino coordinator rollback"): "tests/coordinator/test_orders.py",
    (OPERATOR, "sudo -u sordino sordino coordinator audit"): "tests/coordinator/test_audit_log.py",
    (OPERATOR, "sudo -u sordino sordino identity pending"): "tests/trust/test_renewal.py",
    (OPERATOR, "sordino identity approve root renewals.json"): "tests/trust/test_renewal.py",
    (OPERATOR, "sudo -u sordino sordino identity deliver"): "tests/trust/test_renewal.py",
    (OPERATOR, "sudo -u sordino sordino identity authority"): "tests/trust/test_renewal.py",
    (OPERATOR, "sordino charter new root --renewal"): "tests/trust/test_renewal.py",
    (OPERATOR, "sudo -u sordino sordino charter accept"): "tests/federation/test_life_of_a_federation.py",
    (REVIEW, "sordino coordinator transcript verify"): "tests/secagg/test_transcript.py",
    ("guides/standby.md", ""): "tests/coordinator/test_standby.py",
    ("guides/upgrade.md", ""): "tests/coordinator/test_backup_and_upgrade.py",
}


def lines_of(guide: str) -> list[str]:
    """What a guide has a person type: continued lines joined, comments left out."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", (DOCS / guide).read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    bare = (" ".join(re.sub(r"(^|\s)#\s.*", "", line).split()) for line in lines)
    return [line for line in bare if line]


def line_of(guide: str, beginning: str) -> str:
    """The line of a guide that begins so: an exact one first."""
    found = [line for line in lines_of(guide) if line.startswith(beginning)]
    assert found, f"{guide} has no line {beginning!r}: change the list of what is typed with it"
    return min(found, key=len)


@pytest.mark.parametrize("guide", GUIDES)
def test_every_line_of_a_guide_is_typed_by_a_test_or_says_why_not(guide: str) -> None:
    typed = {line_of(one, beginning) for _, one, beginning in (*FOUNDING, *RUNNING) if one == guide}
    known = [beginning for one, beginning in ELSEWHERE if one == guide]
    left = [line for line in lines_of(guide) if line not in typed and not line.startswith(tuple(known))]
    assert not left, f"typed by no test: {left}"
    unused = [one for one in known if not any(line.startswith(one) for line in lines_of(guide))]
    assert not unused, f"{guide} has no such line any more: {unused}"


def test_every_test_that_runs_a_guides_line_exists() -> None:
    for where in ELSEWHERE.values():
        assert not where.startswith("tests/") or (ROOT / where).exists(), where


SUDO = '#!/bin/sh\n[ "$1" = -u ] && shift 2\nexec "$@"\n'
SYSTEMCTL = """#!/bin/bash
# One unit a machine; it is started and stopped as systemd would, with its folder's own program.
[ "$1" = --user ] && shift
unit=${!#}
case "$1" in
daemon-reload) ;;
start | enable)
    if [ "$unit" = sordino-coordinator ]; then
        set -- coordinator up --folder /var/lib/sordino/coordinator
        sign=/var/lib/sordino/coordinator/address
    else
        set -- client up
        sign=~/.local/share/sordino/status.json
    fi
    rm -f "$sign"
    nohup sordino "$@" >>unit.log 2>&1 &
    echo $! >unit.pid
    # A person goes on when it has started.
    until [ -e "$sign" ]; do
        kill -0 $! || exit 1
        sleep 0.2
    done ;;
*) echo "no such verb: $1" >&2; exit 1 ;;
esac
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """A machine for each party: a home, from which its lines are typed."""

    place: Path
    port: int

    def home(self, machine: str) -> Path:
        return self.place / machine

    def here(self, text: str, machine: str) -> str:
        """A line as it is typed here."""
        stands_for = {
            "/var/lib/sordino": str(self.place / "hub" / "var"),
            "/srv/public-code": str(self.place / "public"),
            "/etc/systemd/system/": f"{self.place}/hub/",
            "/tmp/hub.request.json": "hub.request.json",
            "deploy/systemd": str(ROOT / "deploy" / "systemd"),
            "fl.example.org:9443": f"localhost:{self.port}",
            "0.0.0.0:9443": f"localhost:{self.port}",
            "fl.example.org": "localhost",
            "FINGERPRINT": self.fingerprint() if "FINGERPRINT" in text else "",
            "--passphrase": "--passphrase-env ROOT_PASSPHRASE",  # as the guide says a program gives it
            "charter sign root": "charter sign root --passphrase-env ROOT_PASSPHRASE",
        }
        for theirs, ours in stands_for.items():
            text = text.replace(theirs, ours)
        return (
            text.replace("alder", machine).replace("Alder", machine.capitalize())
            if machine in MEMBERS
            else text
        )

    def fingerprint(self) -> str:
        """The root's, as its holder would read it out."""
        shown = self.bash("root", "sordino charter show root --json")
        return str(json.loads(shown)["root"])

    def token(self, party: str) -> str:
        """The enrolment token, which the root's holder handed over privately."""
        return (self.place / "root" / f"{party}.token").read_text()

    def type(self, machine: str, guide: str, beginning: str) -> None:
        """Types one line of a guide, on all members' machines where `machine` is "members"."""
        for one in MEMBERS if machine == "members" else (machine,):
            asked = self.token(one) if "identity request" in beginning else ""
            self.bash(one, self.here(line_of(guide, beginning), one), asked)

    def bash(self, machine: str, line: str, typed: str = "") -> str:
        """What a line prints; `typed` is what it asks for, where there is no terminal to ask at."""
        environment = {
            **os.environ,
            "HOME": str(self.home(machine)),
            "PATH": f"{self.place / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ROOT_PASSPHRASE": "four words for nobody",
            "OMP_NUM_THREADS": "1",
            "XDG_DATA_HOME": "",
        }
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.home(machine), env=environment, start_new_session=True, input=typed,
            capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
        log = self.home(machine) / "unit.log"
        unit = log.read_text()[-2000:] if log.exists() else ""
        assert done.returncode == 0, f"{machine}$ {line}\n{done.stdout}{done.stderr}{unit}"
        return done.stdout


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Machines(place=tmp_path, port=port)
    for name in ("root", "hub", *MEMBERS, "bin", "hub/var"):
        (tmp_path / name).mkdir(mode=0o700)
    for name, text in (("sudo", SUDO), ("systemctl", SYSTEMCTL)):
        path = tmp_path / "bin" / name
        path.write_text(made.here(text, "hub"))
        path.chmod(0o700)
    repository(tmp_path / "public", 0)
    for number, name in enumerate(MEMBERS):
        for folder in ("billing", "ledger"):
            repository(tmp_path / name / "work" / folder, 1 + 2 * number + (folder == "ledger"))
    yield made
    for pid in tmp_path.glob("*/unit.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_federation_is_founded_and_begins_to_run_by_the_guides_own_lines(machines: Machines) -> None:
    place = machines.place
    for machine, guide, beginning in FOUNDING:
        if beginning.startswith("sordino charter add"):  # public files, carried by any channel
            for one in ("hub", *MEMBERS):
                shutil.copy(place / one / f"{one}.request.json", place / "root")
        if beginning.endswith("identity install"):
            for one in ("hub",) if machine == "hub" else MEMBERS:
                shutil.copy(place / "root" / f"{one}.reply.json", place / one)
        machines.type(machine, guide, beginning)
        if "alder" in beginning:  # the guide shows one member's line
            for other in MEMBERS[1:]:
                machines.bash("root", machines.here(line_of(guide, beginning), other))
    for machine, guide, beginning in RUNNING:
        machines.type(machine, guide, beginning)
