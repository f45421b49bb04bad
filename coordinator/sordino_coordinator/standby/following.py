"""What a second machine keeps of the coordinator: everything but keys, verified, each pass whole or not at all.

The standby's folder is a coordinator's folder. It begins with what the operator puts there: `identity.json`,
`root.pin`, `charters/` and `standby.token`. Every file that arrives has a name and a size of a closed list. Charters
count with the root's signature, releases with the coordinator's and with the hashes that they sign, each in its place
in the chain. The database is put in its place last, so that it never names a release that is not there.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import ssl
import tarfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from sordino_coordinator.control.audit import FILE as AUDIT_FILE
from sordino_coordinator.control.audit import FOLDER as AUDIT_FOLDER
from sordino_coordinator.control.callers import STANDBY_TOKEN_FILE, TOKEN_FILE
from sordino_coordinator.control.copying import END, STATE, TAIL, Stand
from sordino_platform.charter.document import MAX_CHARTER_BYTES
from sordino_platform.durable import (
    make_folder,
    read_file,
    read_secret,
    sha256_of_file,
    write_file,
)
from sordino_platform.identity import open_charters
from sordino_platform.link.address import parse_address
from sordino_platform.machine import files
from sordino_platform.release import ReleaseStore
from sordino_privacy.errors import ConfigurationError, LinkError, StorageError

FILE: Final = "following.json"
ARRIVING: Final = ".arriving"
SECONDS: Final = 30.0
"""If no byte comes for this long the coordinator counts as gone, and the next pass begins from the start."""
ALLOWED: Final = (
    (re.compile(r"state\.sqlite"), 1 << 33),
    (re.compile(r"(orders|tenure)\.json|coordinator\.toml"), 1 << 20),
    (re.compile(r"audit\.tail"), 1 << 33),
    (re.compile(r"charters/charter-\d{6}\.json"), MAX_CHARTER_BYTES),
    (re.compile(r"transcript/\d{6}\.bin"), 256 << 20),
    (re.compile(r"proofs/\d{6}-[a-z0-9-]{1,63}\.bin"), 64 << 20),
    (re.compile(r"releases/\d{6}/(manifest\.json|shared-memory\.bin)"), 1 << 28),
    (re.compile(r"releases/\d{6}/(weights|moment-[01])\.safetensors"), 5 << 30),
    (re.compile(r"releases/\d{6}/opened/[a-z0-9.-]{1,80}"), 5 << 30),
)
"""The names that a copy may hold, and the most bytes of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowPass:
    """One pass: when it ended (Unix time), the newest release held, and how many files it brought."""

    at: float
    release: int
    epoch: int
    files: int


class Follower:
    """Follows the coordinator whose API is at `address` (HOST:PORT). Raises ConfigurationError."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self._host, self._port = parse_address(address)
        self._charters = open_charters(folder)
        self._charters.head()
        # A folder that was prepared before standby.token existed holds the operator's token, which serves for this too.
        names = (STANDBY_TOKEN_FILE, TOKEN_FILE)
        name = next((name for name in names if (folder / name).exists()), STANDBY_TOKEN_FILE)
        self._token = read_secret(folder / name, limit=256).decode("ascii", "replace").strip()

    def stand(self) -> Stand:
        """Where this folder stands. Raises StorageError, ConfigurationError."""
        newest = self._releases().look()
        log, state = self.folder / AUDIT_FOLDER / AUDIT_FILE, self.folder / STATE
        return Stand(
            release=-1 if newest is None else newest.number,
            epoch=self._charters.head().charter.epoch,
            audit=log.stat().st_size if log.exists() else 0,
            state=sha256_of_file(state).hex() if state.exists() else "",
        )

    def once(self) -> FollowPass:
        """One pass. Raises LinkError when the coordinator does not answer, ConfigurationError and StorageError for
        files that cannot be taken over: of this pass only files that were verified before are kept."""
        arriving = self.folder / ARRIVING
        shutil.rmtree(arriving, ignore_errors=True)  # of a pass that was cut short
        make_folder(arriving)
        try:
            count = self._receive(arriving)
            self._keep(arriving)
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
        stand = self.stand()
        done = FollowPass(at=time.time(), release=stand.release, epoch=stand.epoch, files=count)
        write_file(self.folder / FILE, json.dumps(asdict(done)).encode())
        return done

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """A small answer of the coordinator's API. Raises LinkError."""
        with self._answered(method, path, body) as response:
            return response.read(1 << 20)

    @contextlib.contextmanager
    def _answered(
        self, method: str, path: str, body: bytes | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        trust = ssl.create_default_context(cadata=self._charters.head().charter.tls_authority.pem.decode())
        trust.minimum_version = ssl.TLSVersion.TLSv1_3
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=SECONDS, context=trust)
        headers = {"Authorization": f"Bearer {self._token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            if response.status != 200:
                said = response.read(4096).decode("utf-8", "replace").strip()
                raise LinkError(
                    f"the coordinator refused: {response.status} {said}",
                    hint="standby.token must be the coordinator's, and its version no older than this one",
                )
            yield response
        except (OSError, http.client.HTTPException, tarfile.TarError) as error:
            raise LinkError(
                f"the coordinator's API at {self._host}:{self._port} does not answer: {type(error).__name__}",
                hint="it needs api_listen in coordinator.toml; if the machine is gone: sordino coordinator takeover",
            ) from error
        finally:
            connection.close()

    def _receive(self, arriving: Path) -> int:
        """Puts what the coordinator sends into a folder, by names of the closed list. Returns how many files."""
        count, last = 0, ""
        with (
            self._answered("GET", f"/v1/copy?{self.stand().query()}") as response,
            tarfile.open(fileobj=response, mode="r|") as tar,
        ):
            for entry in tar:
                last = entry.name
                if last == END:
                    continue
                content = tar.extractfile(entry) if entry.isreg() else None
                if content is None or not any(
                    name.fullmatch(entry.name) and entry.size <= most for name, most in ALLOWED
                ):
                    raise StorageError(
                        "the copy holds a file that this version does not know", hint="update this one"
                    )
                path = arriving / entry.name
                make_folder(path.parent)
                with path.open("xb") as file:
                    shutil.copyfileobj(content, file, 1 << 20)
                path.chmod(0o600)
                if path.stat().st_size != entry.size:
                    raise LinkError("the copy was cut short")
                count += 1
        if last != END:
            raise LinkError("the copy was cut short")
        return count

    def _keep(self, arriving: Path) -> None:
        for path in sorted(arriving.glob("charters/*.json")):
            self._charters.accept(read_file(path, limit=MAX_CHARTER_BYTES))
        releases = self._releases()
        for place in sorted(arriving.glob("releases/*")):
            releases.take(place)
            self._move(arriving / "transcript" / f"{place.name}.bin", Path("transcript"))
        releases.prune()
        for path in sorted(arriving.glob("proofs/*.bin")):
            self._move(path, Path("proofs"))
        self._append(arriving / TAIL)
        if (self.folder / "coordinator.toml").exists():  # this machine's own addresses and folders
            (arriving / "coordinator.toml").unlink(missing_ok=True)
        for name in ("orders.json", "coordinator.toml", "tenure.json"):
            self._move(arriving / name, Path())
        self._move(arriving / STATE, Path())

    def _append(self, tail: Path) -> None:
        if not tail.exists():
            return
        path = self.folder / AUDIT_FOLDER / AUDIT_FILE
        make_folder(path.parent)
        held = path.read_bytes() if path.exists() else b""
        write_file(path, held, tail.read_bytes(), secret=True)

    def _move(self, path: Path, to: Path) -> None:
        if not path.exists():
            return
        make_folder(self.folder / to)
        with path.open("rb+") as file:
            files.sync(file.fileno())
        path.replace(self.folder / to / path.name)
        files.sync_folder(self.folder / to)

    def _releases(self) -> ReleaseStore:
        return ReleaseStore(self.folder / "releases", self._charters)


def read_followed(folder: Path) -> FollowPass | None:
    """The newest pass; None where there was none. Raises ConfigurationError, StorageError."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        return FollowPass(**json.loads(read_file(path, limit=4096)))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{path} is damaged", hint="follow once more") from error
