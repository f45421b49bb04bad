"""`sordino client ledger recover`: charges the rounds that a ledger lost, so that the member may go on and no round is
forgotten.

What is missing is found from three witnesses, and charged in this order (docs/adr/0021):

1. rounds in this machine's file of budgets, of this ledger, of the one that lay here before, and of ledgers for the
same code that are gone: exactly as they were charged; 2. releases in the verified chain that name this member: at the
worst that their charter allows; 3. rounds that a witness (the mark, the head that the coordinator kept) counted and
nobody names: at the worst that the
   present charter allows. Their number is the witness's count, less the charges that were final before the last row on
   which ledger and witness certainly agree; it is 0 if this machine's file saw the very row of the witness.

Too much may be charged, never too little. It is safe to repeat: what is there is not charged again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sordino_client.corpus import UnitRegistry
from sordino_client.corpus.origin import origins
from sordino_client.ledger import Budget, Ledger, RoundCost, Witness
from sordino_client.ledger.machine import LedgerRecord, Machine, machine_folder
from sordino_client.ledger.witness import kept
from sordino_client.round.heads import uncharged
from sordino_client.settings import BUDGET_DELTA, load_member_settings
from sordino_platform.architecture import trainable_shapes
from sordino_platform.charter import Charter
from sordino_platform.durable import make_folder
from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore
from sordino_privacy.accounting import SampledGaussian
from sordino_privacy.counts.plan import LEAST_BITS
from sordino_privacy.shared_noise import SharedNoise

NO_PLAN = bytes(32)
LOST_RUN = "lost{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """How many rounds were charged again: `known` exactly, `named` and `counted` at the worst; epsilon before and after
    as the federation holds, and, where noise came in shares, if all others collude with the coordinator."""

    known: int
    named: int
    counted: int
    before: float
    after: float
    budget: float
    if_others_collude_before: float
    if_others_collude_after: float


def recover(folder: Path) -> Recovered:
    """Charges what is missing in the ledger of the member in `folder`, which must not run.

    Raises StorageError when the ledger is held by an agent or its rows do not follow one another, ConfigurationError.
    """
    settings, identity = load_member_settings(folder), Identity.load(folder)
    charter, machine = identity.charter, Machine(settings.budgets_folder or machine_folder())
    budget = Budget(epsilon=min(settings.budget_epsilon, charter.privacy.largest_epsilon), delta=BUDGET_DELTA)
    make_folder(folder / "corpus")
    make_folder(folder / "ledger")
    with UnitRegistry(folder / "corpus" / "units.sqlite") as registry:
        registry.assume_trained()
        datasets, texts = [registry.dataset], registry.marks()
    with Ledger.open(folder / "ledger", datasets=datasets, budget=budget, recovering=True) as ledger:
        before, alone = ledger.spent().value, ledger.spent_alone().value
        seen = witnesses(ledger, folder / "ledger")
        mine = records(machine, ledger, origins=origins(settings.repositories), texts=texts)
        seen += [record.witness for record in mine if record.ledger == ledger.identity]
        missing = [
            (witness, missing_from(ledger, witness, mine))
            for witness in seen
            if ledger.contradiction(witness)
        ]
        known = charge_known(ledger, mine)
        releases = ReleaseStore(folder / "releases", identity.charters)
        named = uncharged(releases, settings.name, {(one.run, one.round) for one in ledger.reservations()})
        for made in named:
            terms = identity.charters.by_hash(made.charter_hash)
            ledger.charge_lost(made.run, made.round, NO_PLAN, worst(terms))
        counted = max((count for _, count in missing), default=0)
        generation = ledger.stands().generation + 1
        for number in range(counted):
            ledger.charge_lost(LOST_RUN.format(generation), number, NO_PLAN, worst(charter))
        if missing or known or named:
            ledger.begin_generation([witness for witness, _ in missing])
        machine.forget([record.ledger for record in mine if record.ledger != ledger.identity])
        machine.note(ledger)
        return Recovered(
            known=known,
            named=len(named),
            counted=counted,
            before=before,
            after=ledger.spent().value,
            budget=budget.epsilon,
            if_others_collude_before=alone,
            if_others_collude_after=ledger.spent_alone().value,
        )


def worst(charter: Charter) -> RoundCost:
    """A cost at least as high, in both numbers, as that of any round that a member may be asked for under this charter.

    No rate is above a count's, which takes every unit, and no round has more steps than a training's: a charge with
    both is never cheaper than either. Shared noise costs a little more the longer the vector is, so the longest counts.
    """
    policy, shares, counts = charter.privacy, charter.noise_shares(), charter.shared_memory
    rate, steps = policy.largest_sampling_rate if counts is None else 1.0, policy.largest_steps
    noise = own = policy.smallest_noise_multiplier
    if shares > 1:
        config = charter.model.config()
        lengths = [sum(math.prod(shape) for shape in trainable_shapes(config).values())]
        if counts is not None:
            lengths += [1 << bits for bits in range(LEAST_BITS, counts.largest_bits + 1)]
        each = [
            SharedNoise(noise_multiplier=noise, honest=shares, members=len(charter.members), dimension=length)
            for length in lengths
        ]
        noise, own = min(one.federation() for one in each), min(one.alone() for one in each)
    return RoundCost(
        event=SampledGaussian.at_most(rate, noise, steps), alone=SampledGaussian.at_most(rate, own, steps)
    )


def witnesses(ledger: Ledger, folder: Path) -> list[Witness]:
    """The high-water mark and the head that the coordinator handed back. A mark does not count charges, so each of its
    rows may have been a charge."""
    found = [witness for witness in [kept(folder)] if witness is not None]
    if ledger.lost is not None:
        mark, generation = ledger.lost, ledger.stands().generation
        found.append(
            Witness(generation=generation, sequence=mark.sequence, digest=mark.digest, charges=mark.sequence)
        )
    return found


def missing_from(ledger: Ledger, witness: Witness, mine: Sequence[LedgerRecord]) -> int:
    """How many rounds at most the witness counted that neither the ledger nor this machine's file has."""
    if any(record.saw(witness) for record in mine):
        return 0
    certain = ledger.firm_by(ledger.agrees(witness))
    return max(0, witness.charges - len(certain))


def records(
    machine: Machine, ledger: Ledger, *, origins: Sequence[str], texts: Sequence[str]
) -> list[LedgerRecord]:
    """The charges that this machine knows: of this ledger, of earlier ones in this folder, and of ledgers for the same
    code that are gone."""
    folder = str(ledger.folder.resolve())
    return [
        record
        for record in machine.records()
        if record.ledger == ledger.identity
        or record.folder == folder
        or (not record.exists() and record.same_data(origins, texts))
    ]


def charge_known(ledger: Ledger, mine: Sequence[LedgerRecord]) -> int:
    """Charges the rounds that the machine's file has and the ledger lacks, as they were charged. Returns how many there
    were."""
    there = {(one.run, one.round) for one in ledger.reservations()}
    count = 0
    for record in mine:
        for charge in record.charges:
            if (charge.run, charge.round) not in there:
                ledger.charge_lost(charge.run, charge.round, charge.plan, charge.cost)
                there.add((charge.run, charge.round))
                count += 1
    return count
