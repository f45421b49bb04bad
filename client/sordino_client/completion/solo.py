"""Completions for one person, without a federation: `sordino serve`.

It serves in the place where a member's agent would (FOLDER/completion), so editors find it in the same way, and an
agent that starts there later goes on with the same memory, statistics and token. Once the folder holds a member, this
endpoint ends and leaves the place to the agent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sordino_client.completion import bundle, server
from sordino_client.completion.bases import served
from sordino_client.completion.bases.served import Served
from sordino_client.completion.bundle import Bundle
from sordino_client.completion.showing.worth import Show
from sordino_platform.bases import SHIPPED, find_base
from sordino_platform.durable import make_folder
from sordino_platform.release import write_base_bundle, write_serving_bundle
from sordino_privacy.errors import ConfigurationError, DataError, StorageError, UsageError

COMPLETION: Final = "completion"
# What `sordino client join` writes (sordino_client.settings).
MEMBER_FILE: Final = "member.toml"
WEIGHTS: Final = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """One line of what the endpoint does: `name` is for programs, `text` for people."""

    name: str
    text: str


Tell = Callable[[EndpointState], None]


def chosen(model: Path | None, base: str | None = None) -> tuple[Bundle | Served, str]:
    """The model to serve, and its name: a base (the one that ships, if none is named), or a model that `sordino train`
    made.

    `model` is a run's folder, a folder of bundles, one bundle, or the weights within one; `base` a name, a folder or a
    .gguf file. Raises UsageError if both are given, StorageError or ConfigurationError if it is none of these.
    """
    if model is not None and base is not None:
        raise UsageError("a model and a base were named", hint="a run on a base names its base itself")
    if base is not None and base != SHIPPED:
        found = find_base(base)
        return served.of(found), f"the base {found.name}, {found.architecture}, {found.licence}"
    if model is None:
        return bundle.shipped(), "the base model that ships"
    place = model.parent if model.name == WEIGHTS else model
    for folder in (place / "serving", place):
        if folder.is_dir() and (current := bundle.current(folder)) is not None:
            return _read(current), f"the model in {model}"
    if served.of_base(place):
        return served.read(place), f"the model in {model}"
    if (place / WEIGHTS).is_file():
        return bundle.load(place), f"the model in {model}"
    raise StorageError(
        f"{model} holds no model", hint="give the folder of a run of `sordino train`, or leave --model out"
    )


def _read(folder: Path) -> Bundle | Served:
    return served.read(folder) if served.of_base(folder) else bundle.load(folder)


def _write(folder: Path, found: Bundle | Served) -> None:
    """Makes a model current in an endpoint's serving folder."""
    if isinstance(found, Served):
        write_base_bundle(folder, found.base, served.factors(found), release=found.release)
    else:
        write_serving_bundle(folder, found.config, found.weights, found.tokenizer, release=found.release)


def serve(
    folder: Path,
    repositories: Sequence[Path],
    *,
    model: Path | None,
    base: str | None = None,
    port: int,
    tell: Tell,
    show: Show = "balanced",
) -> None:
    """Serves until SIGTERM or SIGINT, or until `folder` holds a member. `tell` is called in any thread, once a state.

    Raises SordinoError where it cannot begin.
    """
    if (folder / MEMBER_FILE).exists():
        raise ConfigurationError(
            f"{folder} belongs to a member of a federation, whose agent serves completions",
            hint=f"run: sordino client up --folder {folder}",
        )
    for repository in repositories:
        if not repository.is_dir():
            raise DataError(f"{repository} is not a folder", hint="give the top folder of a repository")
    found, name = chosen(model, base)
    tell(EndpointState(name="model", text=f"{name}, release {found.release}"))
    state = folder / COMPLETION
    make_folder(folder)
    make_folder(state)
    _write(state / "serving", found)

    def left() -> bool:
        if not (folder / MEMBER_FILE).exists():
            return False
        tell(
            EndpointState(
                name="joined", text="this machine joined a federation: its agent serves from now on"
            )
        )
        return True

    told = _teller(tell, repositories)
    server.serve(state, port=port, repositories=repositories, told=told, left=left, show=show)
    tell(EndpointState(name="ended", text="memory and statistics are kept for the next start"))


def _teller(tell: Tell, repositories: Sequence[Path]) -> server.Told:
    said: set[tuple[str, str]] = set()

    def told(name: str, text: str) -> None:
        if name == "memory" and not repositories:
            text = "of the open file only: give --repo DIR to remember your folders"
        if (name, text) not in said:
            said.add((name, text))
            tell(EndpointState(name=name, text=text))

    return told
