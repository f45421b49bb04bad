"""How much of everything the benchmark does. One screen; the figures of a report name their profile."""

from __future__ import annotations

from dataclasses import dataclass

MEMBERS = (
    ("bouncycastle", "Bouncy Castle"),
    ("derby", "Apache Derby"),
    ("libpdfbox2-java", "Apache PDFBox"),
    ("libspring-java", "Spring"),
    ("lucene8", "Apache Lucene"),
    ("netty", "Netty"),
    ("openchemlib", "OpenChemLib"),
    ("zookeeper", "Apache ZooKeeper"),
)
EPSILONS = (8.0, 2.0)
# Of the budget, this share is planned for; the rest is the accountant's rounding.
PLANNED_SHARE = 0.98


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Sizes and settings of one run of the benchmark.

    files              of each member, whole directories; a member's training cost grows with it
    heldout_share      of each member's text, in whole directories, that nobody trains on
    heldout_tokens     measured per member, heldout_lines cursors per member
    sampling_rate …    the federation's plan, the same at every epsilon; its noise follows from the budget
    central_tokens     what training on the union reads; a member alone reads its eighth of it
    own_tokens         what a member's own adapter reads of its own code
    repeats            federations at the first epsilon, each with its own randomness, for the spread
    """

    name: str
    members: int = len(MEMBERS)
    files: int = 1200
    heldout_share: float = 0.1
    heldout_tokens: int = 3000
    heldout_lines: int = 20
    adapter_rank: int = 2
    adapter_scale: float = 8.0
    window: int = 128
    windows_per_unit: int = 1
    windows_kept: int = 32
    sampling_rate: float = 0.05
    rounds: int = 5
    steps: int = 2
    clip_norm: float = 0.2
    learning_rate: float = 0.5
    optimiser: str = "sgd"
    expected_units: int = 50
    central_tokens: int = 400_000
    central_window: int = 256
    own_tokens: int = 60_000
    repeats: int = 2

    @property
    def parties(self) -> tuple[tuple[str, str], ...]:
        """(member, organisation) of everybody who takes part."""
        return MEMBERS[: self.members]


FULL = Profile(name="full")
# A part of each member and a sixth of the training: about ten minutes of one core.
SHORT = Profile(
    name="short",
    files=150,
    heldout_tokens=1000,
    heldout_lines=4,
    adapter_rank=2,
    adapter_scale=8.0,
    learning_rate=0.5,
    sampling_rate=0.2,
    rounds=3,
    steps=2,
    expected_units=27,
    central_tokens=60_000,
    own_tokens=8_000,
    repeats=1,
)
# A few minutes: that every stage works and the figures hang together, not what they say.
QUICK = Profile(
    name="quick",
    members=5,
    files=150,
    heldout_tokens=600,
    heldout_lines=4,
    adapter_rank=1,
    sampling_rate=0.2,
    rounds=2,
    steps=1,
    expected_units=20,
    central_tokens=20_000,
    own_tokens=4_000,
    repeats=1,
)
PROFILES = {profile.name: profile for profile in (FULL, SHORT, QUICK)}
