"""The proof, run as a separate process: is each opened sum exactly the sum of its members' updates?

    python -m sordino_platform.demo.prove DEMO_FOLDER

It reads data that neither side could invent for the other: the quantised updates that members kept, the ring sums that
the coordinator opened, and the signed releases, which name the members of each sum. It adds with Python's own integers,
modulo the ring, and compares every element.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from sordino_platform.durable import read_file
from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore
from sordino_privacy.secagg import Quantised

MAX_BYTES = 5 << 30


def prove(folder: Path) -> dict[str, object]:
    """`sum_exact`, and for each round the members, the number of elements compared and the number that differ."""
    coordinator = folder / "coordinator"
    chain = ReleaseStore(coordinator / "releases", Identity.load(coordinator).charters).verify()
    rounds = []
    for manifest in (signed.manifest for signed in chain if signed.manifest.round is not None):
        updates = [
            Quantised.decode(
                read_file(folder / "proofs" / f"{manifest.round:06d}-{name}.bin", limit=MAX_BYTES)
            )
            for name in manifest.members
        ]
        total = np.zeros(len(updates[0].vector), dtype=np.uint64)
        for update in updates:
            total += update.vector.astype(np.uint64)
        kind = updates[0].vector.dtype
        expected = (total % np.uint64(1 << (8 * kind.itemsize))).astype(kind)
        opened = np.frombuffer(
            read_file(coordinator / "sums" / f"{manifest.round:06d}.bin", limit=MAX_BYTES), kind
        )
        differ = int((expected != opened).sum()) if opened.shape == expected.shape else expected.size
        facts = {"round": manifest.round, "members": list(manifest.members), "elements": expected.size}
        rounds.append({**facts, "elements_that_differ": differ})
    return {
        "sum_exact": bool(rounds) and all(one["elements_that_differ"] == 0 for one in rounds),
        "rounds": rounds,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(prove(Path(sys.argv[1]))) + "\n")
