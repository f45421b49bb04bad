"""What a member takes of its federation: its own held-out code decides, and nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import sordino_client.completion as package
from sordino_client.commands import app as client_cli
from sordino_client.completion import bundle as bundles
from sordino_client.completion import personal
from sordino_client.completion.cache import KeyValueCache, Network, causal
from sordino_client.completion.engine import Engine
from sordino_client.completion.loading import load_release
from sordino_client.completion.memory.store import Store
from sordino_client.completion.taking import record, upkeep
from sordino_client.completion.taking.choice import (
    EVERYTHING,
    SHARES,
    Taking,
    best_of,
    candidates,
    taking_in_words,
)
from sordino_client.completion.taking.made_of import taken_from
from sordino_client.completion.taking.record import TakenChoice, TakenFrom
from sordino_platform.architecture import ModelConfig, shapes, with_adapters
from sordino_platform.release import write_serving_bundle
from sordino_platform.release.bundle import BEGINS
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.errors import StorageError

CONFIG = ModelConfig(vocabulary=600, context=64, layers=1, heads=2, width=32, hidden=32)
Weights = dict[str, npt.NDArray[np.float32]]
SOURCES = sorted(Path(package.__file__).parent.glob("*.py"))[:12]


def random_weights(seed: int, size: float = 0.35) -> Weights:
    random = np.random.default_rng(seed)
    return {n: (random.standard_normal(s) * size).astype(np.float32) for n, s in shapes(CONFIG).items()}


GOOD, BAD = random_weights(1, 0.02), random_weights(2, 1.0)
"""One that is modest, and one that is surely wrong."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(
        Tokenizer.train([one.read_text() for one in SOURCES], vocabulary=CONFIG.vocabulary).to_json()
    )
    return path


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve files of this package in six folders."""
    folder = tmp_path_factory.mktemp("repository")
    for number, source in enumerate(SOURCES):
        place = folder / f"part{number // 2}" / source.name
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, place)
    return folder


@pytest.fixture
def served(tmp_path: Path, tokenizer: Path) -> Callable[[Weights, Weights], Path]:
    """A completion folder as an agent leaves it: what releases begin with, and a release."""

    def write(begins: Weights, release: Weights) -> Path:
        state = tmp_path / "member" / "completion"
        for name, weights, number in ((BEGINS, begins, 0), ("serving", release, 3)):
            (state / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            write_serving_bundle(state / name, CONFIG, weights, tokenizer, release=number)
        return state

    return write


def choose(state: Path, repository: Path, share: float = 0.4) -> dict[str, Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "sordino_client.completion.taking", "--state", str(state)),
            *("--repo", str(repository), "--heldout-share", str(share)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def current(state: Path, name: str = "serving") -> Path:
    folder = bundles.current(state / name)
    assert folder is not None
    return folder


def logits(network: Network) -> npt.NDArray[np.float32]:
    tokens, every = np.arange(20, dtype=np.int64), np.arange(20)
    return network.read(KeyValueCache(network.shape, 20), tokens, every, causal(0, 20), every)


@given(st.lists(st.floats(0.1, 9), min_size=len(SHARES) * 4, max_size=len(SHARES) * 4))
def test_of_all_ways_the_one_with_the_fewest_bits_is_taken_and_of_equals_the_least_of_the_federation(
    values: list[float],
) -> None:
    ways = candidates(shares=SHARES, own=True, shared_memory=True)
    assert len(ways) == len(set(ways)) == len(values)
    bits = dict(zip(ways, values, strict=True))
    chosen = best_of(bits)
    assert bits[chosen] == min(values)
    assert ways.index(chosen) == values.index(min(values))
    assert (ways[0].share, ways[0].shared_memory) == (0.0, False), "alone is tried first"
    assert EVERYTHING in ways
    assert best_of(dict.fromkeys(ways, 1.0)) == ways[0]


def test_what_is_not_there_is_left_by_nobody() -> None:
    assert candidates(shares=(1.0,), own=False, shared_memory=False) == [EVERYTHING]
    assert "shared memory" not in taking_in_words(EVERYTHING, shared_memory=False)


def test_a_release_that_hurts_is_left_and_one_that_helps_is_taken_on_the_members_own_code(
    served: Callable[[Weights, Weights], Path], repository: Path
) -> None:
    hurt = choose(served(GOOD, BAD), repository)
    helped = choose(served(BAD, GOOD), repository)
    assert hurt["taking"]["share"] == 0.0
    assert helped["taking"]["share"] == 1.0
    assert hurt["why"] == helped["why"] == ""
    for tried, other in zip(hurt["tried"], reversed(helped["tried"]), strict=True):
        # The two are the same ways from the other end: a share of one is the rest of the other.
        assert tried["share"] == pytest.approx(1 - other["share"])
        assert tried["bits_per_byte"] == pytest.approx(other["bits_per_byte"], rel=1e-3)
    for found, better in ((hurt, "alone"), (helped, "everything")):
        for half in ("choosing", "telling"):
            assert found[half]["taken"] == pytest.approx(found[half][better])
            assert found[half]["files"] >= 1
        assert found["choosing"]["taken"] == min(one["bits_per_byte"] for one in found["tried"])
    assert hurt["telling"]["taken"] < hurt["telling"]["everything"]


def test_the_engine_serves_what_was_chosen_and_turns_while_it_runs(
    served: Callable[[Weights, Weights], Path],
) -> None:
    state = served(GOOD, BAD)
    engine = Engine(state / "serving", precision="float32")
    try:
        engine.refresh(wait=True)
        assert engine._generator is not None
        everything = logits(engine._generator.network)
        write(state, Taking(share=0.0, own=True, shared_memory=True))
        engine.refresh(wait=True)
        begins = load_release(current(state, BEGINS), precision="float32")
        assert np.allclose(logits(engine._generator.network), logits(begins.network), atol=1e-4)
        assert not np.allclose(logits(engine._generator.network), everything, atol=1e-2)
        assert engine.model == "sordino-3"
        assert "none of the federation's adapters" in engine.state[1]
        write(state, EVERYTHING)
        engine.refresh(wait=True)
        assert np.allclose(logits(engine._generator.network), everything, atol=1e-5)
    finally:
        engine.close()


def write(state: Path, taking: Taking) -> None:
    record.write(state, TakenChoice(taking=taking, of=taken_from(state), release=3))


def test_a_share_lies_between_both_models_each_with_the_own_adapter_that_was_trained_on_it(
    served: Callable[[Weights, Weights], Path],
) -> None:
    state = served(GOOD, BAD)
    layout = shapes(with_adapters(CONFIG, 2))
    own: list[Weights] = []
    for number, alone in enumerate((False, True)):
        random = np.random.default_rng(10 + number)
        factors = {
            name: (random.standard_normal(shape) * 0.1).astype(np.float32)
            for name, shape in layout.items()
            if name.endswith((".down", ".up"))
        }
        personal.store(personal.place(state, alone=alone), factors)
        own.append(factors)
    found = load_release(
        current(state),
        state=state,
        taking=Taking(share=0.25, own=True, shared_memory=True),
        precision="float32",
    )

    def with_own(weights: Weights, factors: Weights) -> Weights:
        layers = {name.rsplit(".", 1)[0] for name in factors}
        return {
            name: value + (factors[f"{layer}.up"] @ factors[f"{layer}.down"] if layer in layers else 0)
            for name, value in weights.items()
            for layer in [name.removesuffix(".weight")]
        }

    expected = {
        name: (0.25 * value + 0.75 * with_own(GOOD, own[1])[name]).astype(np.float32)
        for name, value in with_own(BAD, own[0]).items()
    }
    write_serving_bundle(state / "expected", CONFIG, expected, current(state) / "tokenizer.json", release=1)
    assert np.allclose(
        logits(found.network),
        logits(load_release(current(state, "expected"), precision="float32").network),
        atol=1e-3,
    )
    personal.place(state, alone=True).unlink()
    assert personal.parts(state, share=0.25) == [(personal.place(state), 1.0)], "one alone stands for both"


def test_a_member_that_takes_less_is_never_served_everything_unasked(
    served: Callable[[Weights, Weights], Path],
) -> None:
    state = served(GOOD, BAD)
    write(state, Taking(share=0.0, own=True, shared_memory=True))
    shutil.rmtree(state / BEGINS)
    with pytest.raises(StorageError, match="begin with"):
        load_release(current(state), state=state)


@pytest.mark.parametrize(
    "damage",
    [
        b"not json",
        b"[]",
        b'{"version": 9}',
        b'{"version": 1, "taking": {"share": 7, "own": true, "shared_memory": true}}',
    ],
)
def test_a_choice_that_cannot_be_read_counts_as_none(
    served: Callable[[Weights, Weights], Path], damage: bytes
) -> None:
    state = served(GOOD, BAD)
    write(state, Taking(share=0.5, own=True, shared_memory=False))
    assert stat.S_IMODE((state / record.FILE).stat().st_mode) == 0o600
    assert record.taken(state) == Taking(share=0.5, own=True, shared_memory=False)
    (state / record.FILE).write_bytes(damage)
    assert record.read(state) is None
    assert record.taken(state) == EVERYTHING


def test_it_is_due_anew_with_a_release_an_own_adapter_or_another_memory_and_not_with_every_edit() -> None:
    made = TakenFrom(release="a", shared_memory="b", own=(1, 0), memory_tokens=1000)
    assert not made.due(made)

    def other(**change: Any) -> TakenFrom:
        return replace(made, **change)

    assert other(release="c").due(made)
    assert other(shared_memory="").due(made)
    assert other(own=(2, 0)).due(made)
    assert other(memory_tokens=700).due(made)
    assert not other(memory_tokens=900).due(made)
    assert not other(memory_tokens=1200).due(made)


def test_what_is_held_out_is_hidden_from_the_memory_while_it_is_asked(
    tmp_path: Path, tokenizer: Path
) -> None:
    words = Tokenizer.load(tokenizer)
    texts = {path.name: path.read_text() for path in SOURCES}
    store = Store(tmp_path / "memory")
    store.refresh(texts, words)
    hidden = SOURCES[0].read_text()
    context = words.encode(hidden)[100:116]
    (whole,) = store.read(words)
    (without,) = store.read(words, without=[hidden])
    assert len(whole.matches(context)) == 16
    alone = Store(tmp_path / "without")
    alone.refresh({name: text for name, text in texts.items() if text != hidden}, words)
    (expected,) = alone.read(words)
    assert [len(one.positions) for one in without.matches(context)] == [
        len(one.positions) for one in expected.matches(context)
    ]


@pytest.mark.parametrize(
    ("share", "why"), [(0.0, "heldout_share"), (0.0001, "are needed")], ids=["none held out", "too little"]
)
def test_where_nothing_can_be_chosen_everything_is_taken_and_the_reason_is_kept(
    served: Callable[[Weights, Weights], Path], tmp_path: Path, share: float, why: str
) -> None:
    for name in ("a", "b"):
        (tmp_path / "small" / name).mkdir(parents=True)
        (tmp_path / "small" / name / f"{name}.py").write_text(
            "".join(f"def {name}_{n}(left, right):\n    return left * {n} - right\n\n\n" for n in range(6))
        )
    found = choose(served(GOOD, BAD), tmp_path / "small", share)
    assert found["taking"] == {"share": 1.0, "own": True, "shared_memory": True}
    assert why in found["why"]


def test_a_release_that_has_only_come_is_not_tried_yet(
    served: Callable[[Weights, Weights], Path], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rounds follow each other, the next release would make the choice in vain."""
    state, begun = served(GOOD, BAD), list[tuple[str, ...]]()

    async def begin(*command: str, **_: Any) -> Any:
        begun.append(command)
        return await asyncio.create_subprocess_shell("true")

    monkeypatch.setattr("asyncio.create_subprocess_exec", begin)

    async def look() -> None:
        choosing = upkeep.Choosing(state, [repository], heldout_share=0.4)
        await choosing.look()
        assert begun == []
        an_hour_ago = time.time() - 3600
        os.utime(state / "serving" / "CURRENT", (an_hour_ago, an_hour_ago))
        await choosing.look()
        await choosing.close()
        await choosing.look()
        await choosing.close()

    asyncio.run(look())
    assert len(begun) == 1, "once it has stood for a while, and not again after a choice that failed"
    assert begun[0][begun[0].index("--heldout-share") + 1] == "0.4"


def test_the_endpoint_chooses_by_itself_in_the_background_and_the_command_shows_it(
    served: Callable[[Weights, Weights], Path], repository: Path, start: Callable[..., Any]
) -> None:
    state = served(GOOD, BAD)
    before = CliRunner().invoke(client_cli, ["taken", "--folder", str(state.parent)])
    assert "nothing was chosen yet" in before.stdout
    an_hour_ago = time.time() - 3600
    os.utime(state / "serving" / "CURRENT", (an_hour_ago, an_hour_ago))
    running = start(state, "--repo", str(repository), "--heldout-share", "0.4")
    while (found := record.read(state)) is None or running.log.read_text().count("model_loaded") < 2:
        assert running.process.poll() is None, running.log.read_text()
        time.sleep(0.1)
    assert found.taking.share == 0.0
    assert found.of.memory_tokens > 0, "after the memory was built"
    shown = CliRunner().invoke(client_cli, ["taken", "--folder", str(state.parent)])
    assert shown.stdout.startswith("none of the federation's adapters; of release 3, chosen ")
    assert "on held-out code that did not choose: +" in shown.stdout
    document = json.loads(
        CliRunner().invoke(client_cli, ["taken", "--json", "--folder", str(state.parent)]).stdout
    )
    assert document["chosen"]
    assert document["taking"]["share"] == 0.0
    assert document["telling"]["taken"] < document["telling"]["everything"]
