"""A coordinator that lies about a count, and a member that does, against the real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from tests.federation import inprocess
from tests.federation import test_shared_memory as counting

from sordino_client.round.agreement import decide
from sordino_client.round.result import take
from sordino_coordinator.attempt import attempt_context
from sordino_coordinator.federation import Federation
from sordino_coordinator.ongoing import OngoingRound
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.charter import PrivacyPolicy, SharedMemoryPolicy
from sordino_platform.durable import write_file
from sordino_platform.flower.phases import Phase
from sordino_platform.proposal import Proposal, quantiser_for
from sordino_platform.provenance import Provenance
from sordino_platform.release import SignedManifest
from sordino_platform.release.manifest import Manifest, MemoryMark
from sordino_privacy.counts import CountPlan
from sordino_privacy.errors import SordinoError
from sordino_privacy.secagg import ModelError, PolicyError, Quantised, sum_digest


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("founded") / "federation"
    inprocess.found_in(folder, shared_memory=SharedMemoryPolicy(), counts=counting.COUNTS)
    return folder


def signed_again(federation: Federation, manifest: Manifest, **changes: object) -> bytes:
    """The manifest with something else in it, under the coordinator's true signature."""
    other = manifest.model_copy(update=changes)
    return SignedManifest.sign(other, federation.identity.signing_key).to_bytes()


LIES = [
    "another memory",
    "another model",
    "another sum",
    "another plan",
    "no sum",
    "trains",
    "no memory",
    "another step",
]


@pytest.mark.parametrize("lie", LIES)
def test_a_count_that_differs_in_anything_from_what_its_members_signed_is_refused(
    place: Path, lie: str
) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        counting.order(federation)
        assert counting.hold_round(federation, members, {(Phase.RESULT, "elm")})
        member, head = members["elm"], federation.releases.head()
        true = federation.records.provenance(after=0)
        assert true is not None
        assert true.opened is not None
        assert head.shared_memory is not None
        opened = true.opened
        assert isinstance(opened.plan, CountPlan)
        match lie:
            case "another memory":
                mark = MemoryMark(sha256=bytes(32), release=1)
                false = replace(true, manifests=(signed_again(federation, head, shared_memory=mark),))
            case "another model":
                false = replace(true, manifests=(signed_again(federation, head, vector_hash=bytes(32)),))
            case "another sum":
                other = opened.sum.copy()
                other[7:8] += 500  # an array wraps round, as the ring does
                record = opened.record.replace(sum_digest(opened.sum), sum_digest(other))
                false = replace(true, opened=replace(opened, sum=other, record=record))
            case "another plan":
                plan = replace(opened.plan, largest_count=1, witnesses=2)  # a lower threshold
                false = replace(true, opened=replace(opened, plan=plan))
            case "no sum":
                false = replace(true, opened=None)
            case "trains":
                false = replace(true, opened=replace(opened, plan=federation.training))
            case "no memory":
                lost = signed_again(federation, head, shared_memory=None, version="sordino-release/1")
                false = replace(true, manifests=(lost,))
            case _:
                moved = signed_again(federation, head, moments=(bytes(32),))
                false = replace(true, manifests=(moved,))
        with pytest.raises(SordinoError):
            take(member, false)
        assert member.newest_release() == 0
        assert counting.memory_of(member) is None
        assert take(member, true) == 1
        assert counting.memory_of(member) is not None


def test_a_member_that_comes_late_reads_no_memory_whose_count_nobody_shows_or_that_is_another(
    place: Path,
) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        late = members.pop("elm")
        counting.order(federation)
        assert counting.hold_round(federation, members)
        assert counting.hold_round(federation, members)
        true = federation.records.provenance(after=-1)
        assert true is not None
        assert true.counted is not None

        def told(shown: Provenance | None) -> Any:
            plan = federation.training
            context = attempt_context(federation, OngoingRound(99, {}, {}))
            return decide(late, Proposal(context=context, plan=plan, provenance=shown))

        other = true.counted.sum.copy()
        other[7:8] += 500  # an array wraps round, as the ring does
        with pytest.raises(ModelError, match="not the one that its record names"):
            told(replace(true, counted=replace(true.counted, sum=other)))
        with pytest.raises(ModelError, match="than the members of its round signed"):
            told(replace(true, counted=true.opened))
        followed = told(replace(true, counted=None)).adoption.followed
        assert followed.memory is None, "the release is good, and what was not shown is not read"
        assert told(true).adoption.followed.memory is not None


@pytest.mark.parametrize(
    "beyond",
    [
        {"phrases": 1001},
        {"longest": 13},
        {"deviations": 3.9},
        {"witnesses": 2},
        {"surprise": 0.5},
        {"noise_multiplier": 0.4},
        {"delta": 1e-4},
        {"expected_units": 1 << 15},
        {"window": 513},
        {"windows_per_unit": 999},
    ],
)
def test_a_count_beyond_the_charter_or_the_members_own_settings_is_refused_before_it_costs_anything(
    place: Path, beyond: dict[str, Any]
) -> None:
    federation = Federation.open(place / "coordinator")
    with inprocess.opened(place) as members:
        member = members["alder"]
        assert federation.settings.counts is not None
        fair = federation.settings.counts.plan(salt=9, fewest=4, shares=1)
        federation.plan = replace(fair, **beyond)
        context = attempt_context(federation, OngoingRound(1, {}, {}))
        proposal = Proposal(
            context=context, plan=federation.plan, provenance=federation.records.provenance(after=-1)
        )
        with pytest.raises(PolicyError):
            decide(member, proposal)
        assert not member.ledger.reservations()
        federation.plan = fair
        context = attempt_context(federation, OngoingRound(1, {}, {}))
        assert decide(member, replace(proposal, context=context, plan=fair))


@pytest.mark.parametrize("noise", ["local", "distributed"])
def test_a_member_that_stuffs_its_counts_puts_its_phrase_in(
    tmp_path: Path, noise: Literal["local", "distributed"]
) -> None:
    """What docs/shared-memory.md says of a dishonest member, held as a fact: one opened sum cannot tell a liar's count
    from that of many members (decision 42). The liar has a true key and certificate, and software of its own."""
    folder = tmp_path / "federation"
    inprocess.found_in(
        folder,
        privacy=PrivacyPolicy(noise=noise, largest_steps=1),
        shared_memory=SharedMemoryPolicy(),
        counts=counting.COUNTS,
        exchange_seconds=60.0,
        of_members={"epsilon_if_others_collude": 100.0},
    )
    federation = Federation.open(folder / "coordinator")
    with inprocess.opened(folder) as members:
        counting.order(federation)
        grid, number = inprocess.InProcessGrid(members, run=7), federation.rounds.next_round()

        def prepare(message_type: str) -> None:
            if message_type != Phase.TRAIN.message_type:
                return
            grid.on_message = len
            for member in members.values():
                counting.store_counts(member, federation, number, [counting.COMMON] * 500)
            place = members["alder"].folder / "round" / f"{federation.run}-{number}" / "quantised.bin"
            honest, plan, shares = (
                Quantised.decode(place.read_bytes()),
                federation.plan,
                federation.membership.shares,
            )
            assert isinstance(plan, CountPlan)
            quantiser = quantiser_for(federation.config, plan, members=5, shares=shares)
            step = quantiser.groups[0].range / quantiser.levels
            vector = honest.vector.copy()
            vector[counting.ALONE] = round(1.2 * plan.threshold(survivors=5, shares=shares) / step)
            write_file(place, replace(honest, vector=vector).encode(), secret=True)

        grid.on_message = prepare
        assert SecureFedAvg(federation).one_round(grid)
        for member in members.values():
            memory = counting.memory_of(member)
            assert memory is not None
            believed = set(memory.cells.tolist())
            assert set(counting.COMMON) <= believed, "what many hold is there all the same"
            assert set(counting.ALONE) <= believed, "and so is what the liar alone put in"
