"""Finished stages are kept: each stage's facts and models are in the run's folder and are read from there.

RUN/profile.json              what the run measures; a run with another profile or base is refused
RUN/stages/NAME.json          a stage's facts; written last: if it exists, the stage is finished
RUN/stages/NAME.MODEL.safetensors     parameters that the stage saved
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from sordino_platform.architecture import Parameters, Vector
from sordino_platform.durable import make_folder, read_file, write_file
from sordino_privacy.errors import ConfigurationError, StorageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_BYTES = 1 << 30
Facts = dict[str, Any]


class Stages:
    """The finished stages of one run. `on_progress` is told which are run now, and which were found."""

    def __init__(
        self,
        folder: Path,
        profile: DataclassInstance,
        *,
        base_sha256: str,
        on_progress: Callable[[str], None],
    ) -> None:
        """Raises ConfigurationError for the folder of another run."""
        self._folder, self._on_progress = folder / "stages", on_progress
        make_folder(self._folder)
        settings = json.dumps(
            asdict(profile) | {"base_sha256": base_sha256}, indent=1, sort_keys=True
        ).encode()
        path = folder / "profile.json"
        if path.exists() and json.loads(read_file(path, limit=MAX_BYTES)) != json.loads(settings):
            raise ConfigurationError(
                f"{folder} holds a run with another profile or base", hint="choose another folder with --run"
            )
        write_file(path, settings)

    def done(self, name: str, work: Callable[[], tuple[Facts, Mapping[str, Parameters]]]) -> Facts:
        """The stage's facts: read if it is finished, otherwise computed, with its models, and saved."""
        path = self._folder / f"{name}.json"
        if path.exists():
            self._on_progress(f"{name}: finished before")
        else:
            self._on_progress(f"{name}: begins")
            wall, cpu = time.monotonic(), time.process_time()
            facts, models = work()
            for model, parameters in models.items():
                write_file(self._model(name, model), save(dict(parameters)), secret=True)
            spent = {"wall_seconds": time.monotonic() - wall, "cpu_seconds": time.process_time() - cpu}
            write_file(path, json.dumps(facts | spent, indent=1).encode())
            self._on_progress(f"{name}: finished in {spent['wall_seconds']:.0f} s")
        found = self.finished(name)
        assert found is not None
        return found

    def finished(self, name: str) -> Facts | None:
        """The facts of a stage that is finished. Raises StorageError."""
        path = self._folder / f"{name}.json"
        if not path.exists():
            return None
        found: Facts = json.loads(read_file(path, limit=MAX_BYTES))
        return found

    def model(self, name: str, model: str) -> dict[str, Vector]:
        """Parameters that a finished stage saved. Raises StorageError."""
        path = self._model(name, model)
        try:
            return load(read_file(path, limit=MAX_BYTES))
        except SafetensorError as error:
            raise StorageError(f"{path} is damaged", hint="delete the run's folder") from error

    def _model(self, name: str, model: str) -> Path:
        return self._folder / f"{name}.{model}.safetensors"
