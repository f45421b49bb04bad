"""The same two apps on Flower's deployment engine: a SuperLink and five SuperNodes, TLS, node authentication, and one
node that is killed in the middle of the round."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.ports import free_port

from sordino_coordinator.rounds import Outcome, RoundStore
from sordino_platform.demo.virtual import found_virtual
from sordino_platform.identity import Identity
from sordino_platform.machine.processes import end_at_once, processes_marked
from sordino_platform.release import ReleaseStore
from sordino_platform.telemetry import follow_log

APP = Path(__file__).parents[2] / "deploy" / "flower"
MEMBERS = 5
KILLED = "member-002"


@dataclass(slots=True, kw_only=True)
class Deployment:
    """Flower's own processes over one founded federation. Everything lies in `folder`."""

    folder: Path
    environment: dict[str, str]
    port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def coordinator(self) -> Path:
        return self.folder / "federation" / "coordinator"

    def start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def kill(self, name: str) -> None:
        """The whole group of a process: what it started dies with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes[name].wait(10)

    def run(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["flwr", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def told(self) -> str:
        """The ends of all logs, for a failure's message."""
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}"
            for path in sorted(self.folder.glob("*.log"))
        )


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def node_key(folder: Path, name: str) -> tuple[Path, Path]:
    """A SuperNode's own key pair: Flower's, which knows nothing of the member's identity key."""
    key = ec.generate_private_key(ec.SECP384R1())
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    private.chmod(0o600)
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    return private, public


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployment]:
    """A SuperLink with the coordinator's own certificate, and a registered SuperNode for each member."""
    found_virtual(tmp_path / "federation", members=MEMBERS, exchange_seconds=120.0)
    home = tmp_path / "flower-home"
    home.mkdir()
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = Deployment(
        folder=tmp_path,
        environment={**os.environ, **quiet, "FLWR_HOME": str(home), "PATH": path, "OMP_NUM_THREADS": "1"},
        port=free_port(),
    )
    own = Identity.load(made.coordinator).tls()
    files = {"ca.pem": own.authority, "server.key": own.private_key, "server.pem": own.certificate}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    (home / "config.toml").write_text(
        '[superlink]\ndefault = "link"\n\n[superlink.link]\n'
        f'address = "127.0.0.1:{made.port}"\nroot-certificates = "{tmp_path / "ca.pem"}"\n'
    )
    try:
        made.start(
            "superlink", "flower-superlink", "--enable-supernode-auth", "--disable-runtime-dependency-installation",
            "--host", "127.0.0.1", "--port", str(made.port),
            "--ssl-ca-certfile", str(tmp_path / "ca.pem"),
            "--ssl-certfile", str(tmp_path / "server.pem"), "--ssl-keyfile", str(tmp_path / "server.key"),
        )  # fmt: skip
        wait(lambda: listening(made.port), 120, made)
        for number in range(MEMBERS):
            name = f"member-{number:03d}"
            private, public = node_key(tmp_path, name)
            registered = made.run("supernode", "register", str(public), "link")
            assert registered.returncode == 0, registered.stdout + registered.stderr + made.told()
            member = tmp_path / "federation" / "members" / name
            made.start(
                name, "flower-supernode", "--superlink", f"127.0.0.1:{made.port}",
                "--root-certificates", str(tmp_path / "ca.pem"), "--auth-supernode-private-key", str(private),
                "--node-config", f'member-folder="{member}"', "--port", str(free_port()),
            )  # fmt: skip
        yield made
    finally:
        for name in made.processes:
            made.kill(name)
        for number in processes_marked("FLWR_HOME", str(home)):
            end_at_once(number)  # what a SuperLink starts leads a session of its own


def wait(until: object, seconds: float, made: Deployment) -> None:
    assert callable(until)
    ends = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < ends, made.told()
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_five_supernodes_complete_a_round_although_one_is_killed_in_it(deployed: Deployment) -> None:
    asked = deployed.run(
        "run", str(APP), "link", "--run-config", f'federation-folder="{deployed.folder / "federation"}"'
    )
    assert asked.returncode == 0, asked.stdout + asked.stderr + deployed.told()
    log = deployed.coordinator / "events.jsonl"

    def phases() -> set[str]:
        return {event["phase"] for event in follow_log(log)[0] if event["event"] == "phase_finished"}

    wait(lambda: "train" in phases(), 1200, deployed)
    deployed.kill(KILLED)
    wait(lambda: any(event["event"] == "round_finished" for event in follow_log(log)[0]), 1200, deployed)
    store = RoundStore(deployed.coordinator / "state.sqlite")
    row = store.rounds()[-1]
    store.close()
    assert row.outcome is Outcome.COMPLETED, deployed.told()
    assert KILLED not in row.members
    assert row.dropped == {KILLED: "disconnect"}, (
        "the SuperLink says so, some time after the node's last sign of life"
    )
    head = ReleaseStore(
        deployed.coordinator / "releases", Identity.load(deployed.coordinator).charters
    ).head()
    assert len(head.members) == MEMBERS - 1
