"""Which member a message is for: the agent's own, or the one of a node under Flower's runners."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path

from flwr.app import Context

from sordino_client.round.member import Member
from sordino_client.training import TrainingWorker
from sordino_privacy.errors import ConfigurationError

MEMBER: ContextVar[Member] = ContextVar("sordino_member")


@contextlib.contextmanager
def addressee_of(context: Context) -> Iterator[Member]:
    """The member that a message is for.

    In the agent it is the agent's own. Under Flower's own runners it is opened for this message: `member-folder` of the
    run's configuration, or, for a virtual node, the folder of its partition under `federation-folder`. Raises
    ConfigurationError.
    """
    present = MEMBER.get(None)
    if present is not None:
        yield present
        return
    worker = virtual_worker() if is_virtual(context) else None
    with Member.open(folder_of(context), worker=worker) as member:
        yield member


def is_virtual(context: Context) -> bool:
    """Whether a Flower node is one of a simulation: it has a partition's number and no member's folder of its own."""
    return "partition-id" in context.node_config and not isinstance(
        context.node_config.get("member-folder"), str
    )


@lru_cache(maxsize=1)
def virtual_worker() -> TrainingWorker:
    """The one trainer of a process that plays many members: importing torch for each would take longer than their
    rounds. It ends when this process does."""
    return TrainingWorker()


def folder_of(context: Context) -> Path:
    """Where the member of a Flower node lives. Raises ConfigurationError when the run does not say."""
    own = context.node_config.get("member-folder")
    if isinstance(own, str):
        return Path(own)
    shared, partition = context.run_config.get("federation-folder"), context.node_config.get("partition-id")
    if not isinstance(shared, str) or not isinstance(partition, int):
        raise ConfigurationError(
            "Flower did not say which member this node is",
            hint="set member-folder in the node's configuration, or federation-folder in the run's",
        )
    members = sorted(path for path in (Path(shared) / "members").iterdir() if (path / "member.toml").exists())
    if not 0 <= partition < len(members):
        raise ConfigurationError(f"there is no member for partition {partition}: {len(members)} are founded")
    return members[partition]
