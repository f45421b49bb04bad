"""The personal adapter: it helps on this machine, fits one model, and nothing that can reach the network opens it."""

from __future__ import annotations

import ast
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.loaded import loaded_by

import sordino_client
from sordino_client.completion import bundle as bundles
from sordino_client.completion import personal
from sordino_client.completion.engine import Engine
from sordino_client.completion.query import Query
from sordino_platform.architecture import ModelConfig, Vector, add_adapters, shapes, with_adapters
from sordino_privacy.errors import ConfigurationError, StorageError

PACKAGES = Path(sordino_client.__file__).parent.parent.parent
# Who may know of it: the engine that completes, the training that makes it, the command.
READERS = {
    "sordino_client/completion/bases/served.py",
    "sordino_client/completion/engine.py",
    "sordino_client/completion/loading.py",
    "sordino_client/completion/taking/made_of.py",
    "sordino_client/completion/taking/upkeep.py",
    "sordino_client/training/personal.py",
    "sordino_client/training/adapting.py",
}


def factors(config: ModelConfig, seed: int = 0, size: float = 0.3) -> dict[str, Vector]:
    random = np.random.default_rng(seed)
    return {
        name: (random.standard_normal(shape) * size).astype(np.float32)
        for name, shape in shapes(with_adapters(config, 2)).items()
        if name.endswith((".down", ".up"))
    }


@pytest.fixture
def state(tmp_path: Path, release: Callable[..., Path]) -> Path:
    release(tmp_path / "state" / "serving", 1)
    return tmp_path / "state"


def read(state: Path) -> bundles.Bundle:
    folder = bundles.current(state / "serving")
    assert folder is not None
    return bundles.load(folder)


def test_it_is_added_to_the_weights_in_memory_and_the_release_on_disk_stays(state: Path) -> None:
    bundle = read(state)
    plain = {name: value.copy() for name, value in bundle.weights.items()}
    parts = factors(bundle.config)
    personal.store(personal.place(state), parts)
    folded = personal.folded(bundle, [(personal.place(state), 1.0)])
    assert folded.name == "sordino-1-personal"
    for name, value in folded.weights.items():
        layer = name.removesuffix(".weight")
        change = parts[f"{layer}.up"] @ parts[f"{layer}.down"] if f"{layer}.up" in parts else 0.0
        assert np.allclose(value, plain[name] + change, atol=1e-5)
    again = read(state)
    assert all(np.array_equal(again.weights[name], plain[name]) for name in plain)


def test_it_is_readable_by_its_owner_only_and_refused_otherwise(state: Path) -> None:
    path = personal.place(state)
    personal.store(path, factors(read(state).config))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    path.chmod(0o644)
    with pytest.raises(ConfigurationError):
        personal.folded(read(state), [(path, 1.0)])


def test_one_that_is_damaged_or_of_another_model_changes_nothing(state: Path) -> None:
    path = personal.place(state)
    bundle = read(state)
    plain = {name: value.copy() for name, value in bundle.weights.items()}
    good = factors(bundle.config)
    layer = next(iter(good)).rsplit(".", 1)[0]
    for bad in (
        {name: value for name, value in good.items() if name != f"{layer}.up"},
        {**good, f"{layer}.up": np.full_like(good[f"{layer}.up"], np.nan)},
        {**good, f"{layer}.down": good[f"{layer}.down"][:, :-1].copy()},
        {**good, "blocks.99.expand.down": good[f"{layer}.down"], "blocks.99.expand.up": good[f"{layer}.up"]},
        {},
    ):
        personal.store(path, bad)
        with pytest.raises(StorageError):
            personal.folded(bundle, [(path, 1.0)])
    path.write_bytes(b"not a safetensors file")
    with pytest.raises(StorageError, match="damaged"):
        personal.folded(bundle, [(path, 1.0)])
    assert all(np.array_equal(bundle.weights[name], plain[name]) for name in plain)


def test_the_engine_takes_it_up_while_it_runs_and_drops_it_again(state: Path) -> None:
    engine = Engine(state / "serving", precision="float32")
    try:
        query = Query(prefix="def add(a, b):\n    return a +", seed=1)
        engine.refresh(wait=True)
        before = engine.submit(query, editor="one").future.result()
        assert engine.model == "sordino-1"
        personal.store(personal.place(state), factors(read(state).config))
        engine.refresh(wait=True)
        assert engine.model == "sordino-1-personal"
        personal.place(state).unlink()
        engine.refresh(wait=True)
        assert engine.model == "sordino-1"
        after = engine.submit(query, editor="one").future.result()
        assert after.completions == before.completions
    finally:
        engine.close()


def test_one_that_does_not_fit_leaves_the_release_in_use(state: Path) -> None:
    save = personal.place(state)
    save.parent.mkdir(mode=0o700)
    save_file(
        {"elsewhere.down": np.ones((1, 1), np.float32), "elsewhere.up": np.ones((1, 1), np.float32)}, save
    )
    save.chmod(0o600)
    engine = Engine(state / "serving", precision="float32")
    try:
        engine.refresh(wait=True)
        assert engine.model == "sordino-1"
    finally:
        engine.close()


def test_no_module_but_the_engine_and_its_maker_knows_of_it() -> None:
    """No upload path can reach it: the agent, the trainer of rounds and the link cannot even name the file."""
    found = set()
    for package in ("client", "coordinator", "platform", "privacy"):
        for path in (PACKAGES / package).rglob("*.py"):
            text = path.read_text()
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.ImportFrom):
                    names = {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
                elif isinstance(node, ast.Import):
                    names = {alias.name for alias in node.names}
                else:
                    continue
                if "sordino_client.completion.personal" in names:
                    found.add(str(path.relative_to(PACKAGES / package)))
    assert found == READERS


def test_the_agents_modules_do_not_load_what_knows_of_it() -> None:
    modules = loaded_by("sordino_client.agent.up", "sordino_client.training.loop")
    assert not [name for name in modules if name.endswith(".personal")]


def test_fresh_factors_change_nothing(state: Path) -> None:
    bundle = read(state)
    plain = {name: value.copy() for name, value in bundle.weights.items()}
    fresh = add_adapters(with_adapters(bundle.config, 2), bundle.weights)
    personal.store(personal.place(state), {n: v for n, v in fresh.items() if n.endswith((".down", ".up"))})
    folded = personal.folded(bundle, [(personal.place(state), 1.0)])
    assert all(np.array_equal(folded.weights[name], plain[name]) for name in plain)
