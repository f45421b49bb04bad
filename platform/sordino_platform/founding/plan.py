"""`plan.toml`: the parties of a new federation, its floors, its privacy terms and its model.

federation = "orchard"

[coordinator]
name = "hub"
organisation = "Orchard Ltd"
address = "fl.example.org:9443"

[[members]]
name = "alder"
organisation = "Alder Ltd"

[floors]              # as `sordino charter new` has them; what is left out has its default
cohort = 3

[privacy]
largest_epsilon = 8.0
update_check = "norm"  # survivors sign how long their updates are too; "sum" shows nothing of any
noise = "local"       # or "distributed": shares of the noise, docs/distributed-noise.md

[training]            # how far a round may move the model, and what leads there
largest_move_permille = 100

[model]               # base, adapter_rank; of the base that ships also embedding_rank, adapter_scale
base = "shipped"
adapter_rank = 4
embedding_rank = 8
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from sordino_platform.bases.base import SHIPPED
from sordino_platform.canonical import first_problem
from sordino_platform.charter import FloorTerms, PrivacyPolicy, Role, TrainingPolicy, drafting
from sordino_platform.founding.code import JoinCode
from sordino_platform.identity import authority
from sordino_platform.link.address import parse_address, told_apart
from sordino_platform.settings import SettingsModel, load_toml
from sordino_platform.terms.chosen import model_of
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.secagg.encoding import MAX_MEMBERS

Terms = dict[str, int | float]


class PartyPlan(SettingsModel):
    """A member."""

    name: str
    organisation: str


class CoordinatorPlan(PartyPlan):
    """The coordinator, and where members reach it. `hosts`: further names or addresses of it."""

    address: str
    hosts: list[str] = Field(default_factory=list, max_length=15)


class FederationPlan(SettingsModel):
    """The whole file."""

    version: int = Field(1, ge=1, le=1)
    federation: str
    code_days: int = Field(3, ge=1, le=14)
    charter_days: int = Field(366, ge=1, le=3653)
    coordinator: CoordinatorPlan
    members: list[PartyPlan] = Field(min_length=1, max_length=MAX_MEMBERS)
    floors: Terms = Field(default_factory=dict)
    privacy: dict[str, int | float | Literal["sum", "norm", "local", "distributed"]] = Field(
        default_factory=dict
    )
    training: Terms = Field(default_factory=dict)
    model: dict[str, int | float | str] = Field(default_factory=dict)

    def parties(self) -> Iterator[tuple[Role, PartyPlan]]:
        """The coordinator, then the members."""
        yield "coordinator", self.coordinator
        for member in self.members:
            yield "member", member


def read_plan(path: Path) -> FederationPlan:
    """Reads a plan. Raises ConfigurationError, also for a name that occurs twice, because each code is for one
    party."""
    plan = load_toml(path, FederationPlan)
    names = [party.name for _, party in plan.parties()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(
            f"{path}: {twice[0]!r} names two parties", hint="each party has its own name"
        )
    return plan


def found_federation(
    plan: FederationPlan, root: Path, *, passphrase: str, now: datetime
) -> list[tuple[str, JoinCode]]:
    """Makes the root in the folder `root` and invites every party; returns their names and join codes.

    Raises ConfigurationError when the terms are impossible, or `root` already holds a root. The codes hold secrets.
    """
    try:
        noise = plan.privacy.get("noise", "local")
        default = drafting.floors_for(len(plan.members), noise=str(noise))
        floors = FloorTerms.model_validate(default.model_dump() | plan.floors)
        steps = {"largest_steps": 1} if noise == "distributed" else {}
        privacy, training = (
            PrivacyPolicy.model_validate(steps | plan.privacy),
            TrainingPolicy.model_validate(plan.training),
        )
    except ValidationError as error:
        raise ConfigurationError(f"the plan's terms cannot be: {first_problem(error)}") from None
    adapters = {name: value for name, value in plan.model.items() if name != "base"}
    unknown = sorted(adapters.keys() - {"adapter_rank", "embedding_rank", "adapter_scale"})
    if unknown:
        raise ConfigurationError(
            f"[model] has no {unknown[0]!r}", hint="it has base, adapter_rank, embedding_rank, adapter_scale"
        )
    # The plan names everybody who joins, so terms that the charter could never meet are refused before anybody gets a
    # code.
    floors.as_secagg().require_possible(Counter(member.organisation for member in plan.members))
    host, _ = parse_address(plan.coordinator.address)
    names, addresses = told_apart([host, *plan.coordinator.hosts])
    pin = authority.found_root(
        root,
        federation=plan.federation,
        model=model_of(str(plan.model.get("base", SHIPPED)), adapters),
        passphrase=passphrase,
        floors=floors,
        privacy=privacy,
        training=training,
        validity=timedelta(days=plan.charter_days),
        now=now,
    )
    codes = []
    validity = timedelta(days=plan.code_days)
    for role, party in plan.parties():
        token = authority.invite(
            root, role=role, name=party.name, organisation=party.organisation, now=now, validity=validity
        )
        code = JoinCode(
            federation=plan.federation,
            role=role,
            name=party.name,
            organisation=party.organisation,
            coordinator=plan.coordinator.address,
            dns_names=names if role == "coordinator" else (),
            addresses=addresses if role == "coordinator" else (),
            root=pin,
            token=token.text(),
            expires_at=now.replace(microsecond=0) + validity,
        )
        codes.append((party.name, code))
    return codes
