"""What training reads is prepared once, and anew when the rules about credentials are others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sordino_client.corpus import UnitRegistry
from sordino_client.doctor import prepared as training_data
from sordino_client.settings import MemberSettings
from sordino_client.training.preparation import SUMMARY, last_prepared, not_read, prepare
from sordino_platform.doctor.finding import CheckState
from sordino_platform.tokenizer import Tokenizer

Source = Callable[[str], str]
TOKEN = "ghp_" + "q7Zt2Lm9Xw4Rb6Kp1Vn8Yc3Hd5Gf0JsTq7Zt"


@pytest.fixture
def settings(tmp_path: Path, source: Source) -> MemberSettings:
    root = tmp_path / "repository"
    for name in ("one", "two", "three", "four"):
        (root / name).mkdir(parents=True)
        (root / name / f"{name}.py").write_text(source(name) + f"TOKEN_{name} = '{TOKEN}'\n")
    return MemberSettings(
        name="ada", coordinator="localhost:1", repositories=[root], minimum_units=2, heldout_share=0.25
    )


def test_what_other_rules_screened_is_prepared_anew_and_the_units_stay(
    tmp_path: Path, settings: MemberSettings
) -> None:
    folder, tokenizer = tmp_path / "corpus", Tokenizer.shipped()
    first = prepare(folder, settings, tokenizer, window=64)
    assert last_prepared(folder, settings, tokenizer, window=64) == first
    with UnitRegistry(folder / "units.sqlite") as registry:
        dataset = registry.dataset
    summary = json.loads((folder / SUMMARY).read_text())
    for older in (
        {**summary, "secret_rules_version": 1},
        {k: summary[k] for k in summary if k != "secret_rules_version"},
    ):
        (folder / SUMMARY).write_text(json.dumps(older))
        assert last_prepared(folder, settings, tokenizer, window=64) is None
    again = prepare(folder, settings, tokenizer, window=64)
    assert (again.units, again.fingerprint) == (first.units, first.fingerprint)
    with UnitRegistry(folder / "units.sqlite") as registry:
        assert registry.dataset == dataset


def test_no_prepared_unit_holds_a_credential(tmp_path: Path, settings: MemberSettings) -> None:
    tokenizer = Tokenizer.shipped()
    made = prepare(tmp_path / "corpus", settings, tokenizer, window=64)
    import numpy as np

    with np.load(made.path(tmp_path / "corpus")) as stored:
        texts = [tokenizer.decode(stored[name].ravel().tolist()) for name in stored.files]
    assert any("<secret>" in text for text in texts)
    assert not [text for text in texts if TOKEN[4:12] in text]


def test_what_could_not_be_read_is_said_by_doctor(tmp_path: Path, settings: MemberSettings) -> None:
    folder = tmp_path / "corpus"
    assert not_read(folder) == {}
    assert training_data(tmp_path).state is CheckState.OK
    (settings.repositories[0] / "four" / ".gitignore").write_bytes(b"#" * (1 << 20) + b"\n")
    prepare(folder, settings, Tokenizer.shipped(), window=64)
    assert not_read(folder) == {"rules": 1}
    finding = training_data(tmp_path)
    assert finding.state is CheckState.WARNING
    assert "1 entries have ignore rules that cannot be read" in finding.said
