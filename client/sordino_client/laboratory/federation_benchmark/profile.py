"""The sizes of the benchmark, all on one screen. Every report names its profile."""

from __future__ import annotations

from dataclasses import dataclass

from sordino_client.laboratory.pretrain.sources import Role
from sordino_platform.charter import ModelTerms, shipped_model
from sordino_platform.release.optimiser import ServerOptimiser

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


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSchedule:
    """The length of a private run and the rate of the server optimiser (FedAvgM: small member steps, large server
    steps).
    """

    rounds: int
    server_rate: float
    server_momentum: float = 0.8

    @property
    def optimiser(self) -> ServerOptimiser:
        """How the next model is computed from a mean."""
        return ServerOptimiser(name="fedavgm", learning_rate=self.server_rate, beta1=self.server_momentum)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedProfile:
    """What the contenders of a benchmark train, and how.

    sampling_rate …    of every private plan; its noise follows from the budget and the schedule
    ample, scarce      the schedules of the federation at the first and at the second epsilon; at the second, more and
                       longer steps would gain less than their noise costs
    central_tokens     tokens read by training on all members' code without privacy
    averaging_rounds   rounds of the federation without privacy, which reads `central_tokens` tokens in total
    own_tokens         tokens of its own code that a party's own adapter reads
    """

    adapter_rank: int = 4
    embedding_rank: int = 8
    adapter_scale: float = 6.0
    window: int = 128
    windows_per_unit: int = 1
    windows_kept: int = 32
    sampling_rate: float = 0.1
    steps: int = 1
    clip_norm: float = 0.2
    learning_rate: float = 0.25
    expected_units: int = 190
    ample: PlanSchedule = PlanSchedule(rounds=30, server_rate=1.6)
    scarce: PlanSchedule = PlanSchedule(rounds=10, server_rate=0.8)
    central_tokens: int = 400_000
    averaging_rounds: int = 5
    central_window: int = 256
    own_tokens: int = 60_000

    def schedule(self, epsilon: float) -> PlanSchedule:
        """The schedule of the federation at a budget."""
        return self.ample if epsilon == EPSILONS[0] else self.scarce

    @property
    def model(self) -> ModelTerms:
        """What the federation trains."""
        return shipped_model(
            adapter_rank=self.adapter_rank,
            embedding_rank=self.embedding_rank,
            adapter_scale=self.adapter_scale,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile(TrainedProfile):
    """Sizes and settings of one run of the benchmark.

    files              files of each member, in whole directories; a member's training cost grows with it
    heldout_share      share of each member's text, in whole directories, that is in no training
    heldout_tokens     tokens measured per member
    heldout_lines      cursors measured per member
    repeats            federations at the first epsilon, each with its own randomness, to estimate the spread

    A member alone trains with the scarce schedule. Without privacy it reads an eighth of `central_tokens`.
    """

    name: str
    role: Role = "members"
    language: str = "java"
    members: int = len(MEMBERS)
    files: int = 6000
    heldout_share: float = 0.1
    heldout_tokens: int = 3000
    heldout_lines: int = 20
    repeats: int = 2

    @property
    def parties(self) -> tuple[tuple[str, str], ...]:
        """(member, organisation) of everybody who takes part."""
        return MEMBERS[: self.members]


FULL = Profile(name="full")
# A part of each member's code and a sixth of the training: about ten minutes on one core.
SHORT = Profile(
    name="short",
    files=150,
    heldout_tokens=1000,
    heldout_lines=4,
    sampling_rate=0.2,
    ample=PlanSchedule(rounds=3, server_rate=1.6),
    scarce=PlanSchedule(rounds=2, server_rate=0.8),
    steps=2,
    expected_units=27,
    central_tokens=60_000,
    own_tokens=8_000,
    repeats=1,
)
# A few minutes, to test that every stage works and the figures agree; their values mean nothing.
QUICK = Profile(
    name="quick",
    members=5,
    files=150,
    heldout_tokens=600,
    heldout_lines=4,
    adapter_rank=1,
    embedding_rank=0,
    sampling_rate=0.2,
    ample=PlanSchedule(rounds=2, server_rate=1.6),
    scarce=PlanSchedule(rounds=2, server_rate=0.8),
    steps=1,
    expected_units=20,
    central_tokens=20_000,
    own_tokens=4_000,
    repeats=1,
)
PROFILES = {profile.name: profile for profile in (FULL, SHORT, QUICK)}
