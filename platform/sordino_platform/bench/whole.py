"""A whole client and a whole server in a round of five members. One member drops out before it uploads. Ours runs with
every check, hash and signature, and Flower's with every step of its own functions, on the same update.

`python -m sordino_platform.bench.whole PEER PARAMETERS` runs one client in a process of its own and prints by how many
bytes its resident memory rose.
"""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Protocol

import numpy as np

from sordino_platform.bench.timing import Labels, Row, interleaved, row
from sordino_platform.bench.world import BenchWorld, update
from sordino_platform.flower.secaggplus import SecAggPlusPeer, SecAggPlusSettings, added, unmasked
from sordino_platform.machine.memory import forget_peak, peak_since, resident
from sordino_privacy.secagg import MemberSession
from sordino_privacy.secagg.rounding import FloatVector

MEMBERS, DROPPED = 5, 1
EXAMPLES = 1000


class ComparedRound(Protocol):
    """One side of the comparison. `ready_*` is not timed; `client` returns the bytes that it sends."""

    def ready_client(self) -> None: ...
    def client(self, threads: int) -> int: ...
    def ready_server(self) -> None: ...
    def server(self, threads: int) -> FloatVector: ...


class OurRound:
    """Five sessions that have exchanged keys."""

    def __init__(self, values: FloatVector) -> None:
        self.values, self.world = values, BenchWorld(MEMBERS, len(values))
        self.coordinator = self.world.coordinator()
        self.members = {name: self.world.member(name) for name in self.world.names}
        for name, member in self.members.items():
            self.coordinator.accept_advertisement(name, member.advertise())
        roster = self.coordinator.close_advertisements()
        for name, member in self.members.items():
            self.coordinator.accept_shares(name, member.share(roster))
        self.deliveries = self.coordinator.close_shares()

    def ready_client(self) -> None:
        self.one: MemberSession = copy.deepcopy(self.members[self.world.names[0]])

    def client(self, threads: int) -> int:
        delivery = self.deliveries[self.world.names[0]]
        return sum(
            len(frame)
            for frame in self.one.upload(delivery, self.world.quantise(self.values), threads=threads)
        )

    def ready_server(self) -> None:
        """The answers of four members, from a separate run. The fifth shared its secrets and then dropped out."""
        rehearsal, self.server_side = copy.deepcopy(self.coordinator), copy.deepcopy(self.coordinator)
        present = {name: copy.deepcopy(self.members[name]) for name in self.world.names[DROPPED:]}
        updates = {name: self.world.quantise(self.values) for name in present}
        self.uploads = {
            name: list(member.upload(self.deliveries[name], updates[name]))
            for name, member in present.items()
        }
        for name, frames in self.uploads.items():
            rehearsal.accept_upload(name, frames)
        claim = rehearsal.close_uploads()
        self.assents = {name: member.survivors(claim) for name, member in present.items()}
        for name, assent in self.assents.items():
            rehearsal.accept_survivors(name, assent)
        openings = rehearsal.close_survivors()
        self.reveals = {
            name: member.unmask(openings[name], updates[name]) for name, member in present.items()
        }

    def server(self, threads: int) -> FloatVector:
        server = self.server_side
        for name, frames in self.uploads.items():
            server.accept_upload(name, frames, threads=threads)
        server.close_uploads()
        for name, assent in self.assents.items():
            server.accept_survivors(name, assent)
        server.close_survivors()
        for name, reveal in self.reveals.items():
            server.accept_reveal(name, reveal)
        return server.open(threads=threads).totals.mean()


class FlowerRound:
    """Five of Flower's clients that have exchanged keys."""

    def __init__(self, values: FloatVector) -> None:
        self.values, self.settings = values, SecAggPlusSettings(members=MEMBERS, threshold=MEMBERS - DROPPED)
        self.peers = {node: SecAggPlusPeer(node) for node in range(1, MEMBERS + 1)}
        self.keys = {node: peer.setup(self.settings) for node, peer in self.peers.items()}
        sealed = {node: peer.share(self.keys) for node, peer in self.peers.items()}
        self.sealed = {
            node: {other: sealed[other][node] for other in self.peers if other != node} for node in self.peers
        }

    def ready_client(self) -> None:
        self.one = copy.deepcopy(self.peers[1])

    def client(self, threads: int) -> int:
        return sum(len(data) for data in self.one.upload(self.sealed[1], EXAMPLES, self.values))

    def ready_server(self) -> None:
        self.present = {node: copy.deepcopy(self.peers[node]) for node in list(self.peers)[DROPPED:]}
        self.uploads = [
            peer.upload(self.sealed[node], EXAMPLES, self.values) for node, peer in self.present.items()
        ]

    def server(self, threads: int) -> FloatVector:
        active, dead = list(self.present), [node for node in self.peers if node not in self.present]
        total = added(self.uploads, self.settings)
        shares: dict[int, list[bytes]] = {node: [] for node in self.peers}
        for peer in self.present.values():
            for owner, share in peer.unmask(active, dead):
                shares[owner].append(share)
        return unmasked(total, shares, active, self.keys, self.settings).astype(np.float32)


PEERS: dict[str, tuple[Callable[[FloatVector], ComparedRound], tuple[int, ...]]] = {
    "sordino": (OurRound, (1, 2)),
    "flower": (FlowerRound, (1,)),
}


def compared(size: str, parameters: int, repeats: int) -> list[Row]:
    """Rows for client and server of both peers. Both means are checked against the update before any row is used."""
    values = update(parameters)
    rounds = {name: make(values) for name, (make, _) in PEERS.items()}
    sent, error = dict[str, int](), dict[str, float]()
    cells, before = dict[str, Callable[[], object]](), dict[str, Callable[[], object]]()

    def client(name: str, threads: int) -> Callable[[], None]:
        def run() -> None:
            sent[name] = rounds[name].client(threads)

        return run

    def server(name: str, threads: int) -> Callable[[], None]:
        def run() -> None:
            mean = rounds[name].server(threads)
            error[name] = float(np.abs(mean - values).max())

        return run

    for name, (_, threads) in PEERS.items():
        for count in threads:
            cells[f"{name} client {count}"] = client(name, count)
            before[f"{name} client {count}"] = rounds[name].ready_client
            cells[f"{name} server {count}"] = server(name, count)
            before[f"{name} server {count}"] = rounds[name].ready_server
    seconds = interleaved(cells, repeats=repeats, before=before)
    rows = []
    for name, (_, threads) in PEERS.items():
        for count in threads:
            labels: Labels = {"size": size, "members": MEMBERS, "threads": count}
            rows.append(
                row(
                    name,
                    "whole client",
                    seconds[f"{name} client {count}"],
                    **labels,
                    bytes_up=sent[name],
                    bytes_up_per_parameter=round(sent[name] / parameters, 4),
                )
            )
            rows.append(
                row(
                    name,
                    "whole server",
                    seconds[f"{name} server {count}"],
                    **labels,
                    dropped=DROPPED,
                    largest_error=error[name],
                )
            )
    return rows


def memory(size: str, parameters: int, peers: tuple[str, ...]) -> list[Row]:
    """How much a client's memory rises while it quantises and uploads. Each client is a process of its own."""
    rows: list[Row] = []
    for name in peers:
        command = [sys.executable, "-m", "sordino_platform.bench.whole", name, str(parameters)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(
            {
                "by": name,
                "what": "client memory",
                "size": size,
                "members": MEMBERS,
                "peak_growth_mb": round(int(done.stdout.split()[-1]) / 1e6, 1),
            }
        )
    return rows


def one_client(name: str, parameters: int) -> int:
    """Bytes."""
    made = PEERS[name][0](update(parameters))
    made.ready_client()
    forget_peak()
    before = resident()
    made.client(1)
    return peak_since() - before


if __name__ == "__main__":
    sys.stdout.write(f"{one_client(sys.argv[1], int(sys.argv[2]))}\n")
