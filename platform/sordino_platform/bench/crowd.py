"""A round of many simulated members. The coordinator is a process of its own, and its peak memory is the figure.

`python -m sordino_platform.bench.crowd` is that coordinator. It speaks on standard input and output: each message is
`u8 what | u8 length and name | u32 length and bytes`; it answers with the results of a phase, each as `u32 length |
bytes`.

Both rounds of the comparison belong to the same federation of a hundred members: in one, five are present, in the
other, all. So ring and model are the same, and only the number of members differs.
"""

from __future__ import annotations

import concurrent.futures
import json
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import IO, cast

import numpy as np

from sordino_platform.bench.timing import Row
from sordino_platform.bench.world import FLOORS, BenchWorld, update
from sordino_platform.machine.memory import forget_peak, peak_since, resident
from sordino_platform.uploads import UploadFolder
from sordino_privacy.secagg import (
    CoordinatorSession,
    EnrolledMember,
    Membership,
    Quantised,
    RoundContext,
    Stage,
    UploadReceiver,
)
from sordino_privacy.secagg.encoding import digest
from sordino_privacy.secagg.masks import RingVector
from sordino_privacy.secagg.member import Frame

FEDERATION = 100
WORKERS = 2
HEAD, SIZE = struct.Struct(">BB"), struct.Struct(">I")


class What(IntEnum):
    """Messages to the coordinator's process. FRAME is a piece of an upload; an empty FRAME ends it. MESSAGE asks for
    the message to one member in the present phase."""

    MEMBERSHIP = 0
    ADVERTISEMENT = 1
    SHARES = 2
    FRAME = 3
    ASSENT = 4
    REVEAL = 5
    CLOSE = 6
    MESSAGE = 7


class CoordinatorPipe:
    """The parent's end: one message at a time on the pipe, from any thread."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "sordino_platform.bench.crowd"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._lock = threading.Lock()

    def tell(self, what: What, name: str, data: Frame) -> None:
        with self._lock:
            self._send(what, name, data)

    def ask(self, what: What, name: str = "") -> bytes:
        with self._lock:
            self._send(what, name, b"")
            stream = cast(IO[bytes], self._process.stdout)
            return exactly(stream, SIZE.unpack(exactly(stream, SIZE.size))[0])

    def _send(self, what: What, name: str, data: Frame) -> None:
        stream = cast(IO[bytes], self._process.stdin)
        stream.write(HEAD.pack(what, len(name)) + name.encode() + SIZE.pack(len(data)))
        stream.write(data)
        stream.flush()

    def end(self) -> None:
        """Waits for the process when its work is done; ends it otherwise."""
        cast(IO[bytes], self._process.stdin).close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        cast(IO[bytes], self._process.stdout).close()


def simulated(present: int, parameters: int, size: str) -> Row:
    """Runs one round, and compares the sum bit by bit with the plaintext sum of the members' updates."""
    world, values = BenchWorld(FEDERATION, parameters, present=present), update(parameters)
    members = {name: world.member(name) for name in world.names}
    coordinator, total, adding = (
        CoordinatorPipe(),
        np.zeros(world.quantiser.length, world.quantiser.dtype),
        threading.Lock(),
    )
    phases: dict[str, float] = {}
    sent: dict[str, Quantised] = {}

    def upload(name: str) -> None:
        delivery, quantised = coordinator.ask(What.MESSAGE, name), world.quantise(values)
        sent[name] = quantised
        with adding:
            np.add(total, quantised.vector, out=total)
        for frame in members[name].upload(delivery, quantised):
            coordinator.tell(What.FRAME, name, frame)
        coordinator.tell(What.FRAME, name, b"")

    def unmask(name: str) -> None:
        opening = coordinator.ask(What.MESSAGE, name)
        coordinator.tell(What.REVEAL, name, members[name].unmask(opening, sent[name]))

    def telling(what: What, step: Callable[[str], bytes]) -> Callable[[str], None]:
        return lambda name: coordinator.tell(what, name, step(name))

    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:

        def phase(label: str, step: Callable[[str], None]) -> bytes:
            started = time.perf_counter()
            for _ in pool.map(step, world.names):
                pass
            answer = coordinator.ask(What.CLOSE)
            phases[label] = round(time.perf_counter() - started, 3)
            return answer

        try:
            coordinator.tell(What.MEMBERSHIP, "", charter(world))
            started = time.perf_counter()
            roster = phase("advertise", telling(What.ADVERTISEMENT, lambda name: members[name].advertise()))
            phase("share", telling(What.SHARES, lambda name: members[name].share(roster)))
            claim = phase("quantise and upload", upload)
            phase("survivors", telling(What.ASSENT, lambda name: members[name].survivors(claim)))
            opened = json.loads(phase("unmask and open", unmask))
            took = time.perf_counter() - started
        finally:
            coordinator.end()
    return {
        "by": "sordino",
        "what": "round of simulated members",
        "size": size,
        "members": present,
        "ring_bits": world.quantiser.ring_bits,
        "threads": WORKERS,
        "seconds": round(took, 2),
        "phase_seconds": phases,
        "exact": opened["sum"] == fingerprint(total),
        "coordinator_peak_mb": round(opened["peak"] / 1e6, 1),
        "coordinator_growth_mb": round((opened["peak"] - opened["before"]) / 1e6, 1),
    }


def fingerprint(vector: RingVector) -> str:
    return digest("sum", vector.tobytes()).hex()


def charter(world: BenchWorld) -> bytes:
    """The parameters of the world that the other process needs, as JSON."""
    keys = {member.name: member.public_key.hex() for member in world.membership.members}
    return json.dumps({"members": keys, "context": world.context.encode().hex()}).encode()


class CoordinatorProcess:
    """The coordinator's process: a real session behind the pipe."""

    def __init__(self, charter: bytes) -> None:
        said = json.loads(charter)
        context = RoundContext.decode(bytes.fromhex(said["context"]))
        membership = Membership(
            federation=context.federation,
            epoch=context.epoch,
            charter_hash=context.charter_hash,
            members=tuple(
                EnrolledMember(name=name, organisation=f"{name} ltd", public_key=bytes.fromhex(key))
                for name, key in said["members"].items()
            ),
            floors=FLOORS,
        )
        self._folder = tempfile.TemporaryDirectory(prefix="sordino-bench-")  # removed with the process
        keeper = UploadFolder(Path(self._folder.name) / "uploads")
        self.session = CoordinatorSession(membership, context, staging=WORKERS, keeper=keeper)
        self.receivers: dict[str, UploadReceiver] = {}
        self.messages: Mapping[str, bytes] = {}
        forget_peak()
        self.before = resident()

    def take(self, what: What, name: str, data: bytes) -> bytes | None:
        """Handles one message; returns the answer, if there is one."""
        session = self.session
        match what:
            case What.ADVERTISEMENT:
                session.accept_advertisement(name, data)
            case What.SHARES:
                session.accept_shares(name, data)
            case What.FRAME if data:
                if name not in self.receivers:
                    self.receivers[name] = session.begin_upload(name)
                self.receivers[name].feed(data)
            case What.FRAME:
                self.receivers.pop(name).finish()
            case What.ASSENT:
                session.accept_survivors(name, data)
            case What.REVEAL:
                session.accept_reveal(name, data)
            case What.MESSAGE:
                return self.messages[name]
            case What.CLOSE:
                return self.close()
        return None

    def close(self) -> bytes:
        """Ends the phase; returns the message to all members, and keeps the messages to single members."""
        session = self.session
        match session.stage:
            case Stage.ADVERTISEMENTS:
                return session.close_advertisements()
            case Stage.SHARES:
                self.messages = session.close_shares()
            case Stage.UPLOADS:
                return session.close_uploads()
            case Stage.SURVIVORS:
                self.messages = session.close_survivors()
            case _:
                vector = session.open(threads=WORKERS).vector
                figures = {"sum": fingerprint(vector), "before": self.before, "peak": peak_since()}
                return json.dumps(figures).encode()
        return b""


def coordinate(requests: IO[bytes], answers: IO[bytes]) -> None:
    """The coordinator's process, from the charter to the opened sum."""
    desk: CoordinatorProcess | None = None
    while head := requests.read(HEAD.size):
        what, length = HEAD.unpack(head)
        name = exactly(requests, length).decode()
        data = exactly(requests, SIZE.unpack(exactly(requests, SIZE.size))[0])
        if desk is None:
            desk = CoordinatorProcess(data)
            continue
        answer = desk.take(What(what), name, data)
        if answer is not None:
            answers.write(SIZE.pack(len(answer)) + answer)
            answers.flush()


def exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("the other process ended early")
    return data


if __name__ == "__main__":
    coordinate(sys.stdin.buffer, sys.stdout.buffer)
