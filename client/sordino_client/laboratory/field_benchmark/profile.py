"""The sizes of the field's benchmark, all on one screen. Every report names its profile."""

from __future__ import annotations

from dataclasses import dataclass

from sordino_client.laboratory.federation_benchmark.profile import PlanSchedule, TrainedProfile
from sordino_client.laboratory.pretrain.field import MEMBERS, NEWCOMERS
from sordino_client.laboratory.pretrain.sources import Role

# The schedule that the plan search found for a federation with little noise for its clusters. The server's rate is half
# of it where there is more noise, and an eighth for a member alone, which has the most noise.
AMPLE, SCARCE = PlanSchedule(rounds=30, server_rate=4.0), PlanSchedule(rounds=10, server_rate=2.0)
ALONE = PlanSchedule(rounds=10, server_rate=0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldProfile(TrainedProfile):
    """Sizes and settings of one run.

    members, newcomers  how many parties of the field train, and how many never take part
    files               number of files of each party, in whole directories
    few                 number of files that a newcomer starts with
    heldout_share       share of each party's text, in whole directories, that is in no training and no memory
    heldout_tokens      tokens measured per party, at most `tokens_per_file` per file: intervals are over files too
    count_noise         noise multiplier of the one count of phrases that the first budget allows
    alone               the schedule of a member that trains alone
    """

    name: str
    role: Role = "field"
    language: str = "python"
    members: int = len(MEMBERS)
    newcomers: int = len(NEWCOMERS)
    files: int = 100_000
    few: int = 8
    heldout_share: float = 0.1
    heldout_tokens: int = 3000
    tokens_per_file: int = 600
    windows_per_unit: int = 2
    learning_rate: float = 0.4
    expected_units: int = 45
    count_noise: float = 1.0
    ample: PlanSchedule = AMPLE
    scarce: PlanSchedule = SCARCE
    alone: PlanSchedule = ALONE
    central_tokens: int = 700_000
    own_tokens: int = 30_000

    @property
    def training(self) -> tuple[tuple[str, str], ...]:
        """(member, organisation) of the members, which train."""
        return tuple((one.name, f"The {one.name} team") for one in MEMBERS[: self.members])

    @property
    def joining(self) -> tuple[str, ...]:
        """The newcomers."""
        return tuple(one.name for one in NEWCOMERS[: self.newcomers])

    @property
    def parties(self) -> tuple[tuple[str, str], ...]:
        """All parties: members, then newcomers."""
        return (*self.training, *((name, f"The {name} team") for name in self.joining))


FULL = FieldProfile(name="full")
# Half the field, a part of each party's code and a tenth of the training: a quarter of an hour on two cores.
SHORT = FieldProfile(
    name="short",
    members=9,
    newcomers=6,
    files=80,
    heldout_tokens=900,
    tokens_per_file=300,
    sampling_rate=0.2,
    expected_units=13,
    ample=PlanSchedule(rounds=4, server_rate=2.0),
    scarce=PlanSchedule(rounds=2, server_rate=1.0),
    central_tokens=100_000,
    averaging_rounds=2,
    own_tokens=8_000,
)
# To test that every stage works and the figures agree; their values mean nothing.
QUICK = FieldProfile(
    name="quick",
    members=5,
    newcomers=2,
    files=60,
    few=2,
    heldout_tokens=300,
    tokens_per_file=150,
    adapter_rank=1,
    embedding_rank=0,
    sampling_rate=0.2,
    expected_units=10,
    ample=PlanSchedule(rounds=2, server_rate=1.6),
    scarce=PlanSchedule(rounds=2, server_rate=0.8),
    central_tokens=10_000,
    averaging_rounds=1,
    own_tokens=2_000,
)
PROFILES = {profile.name: profile for profile in (FULL, SHORT, QUICK)}
