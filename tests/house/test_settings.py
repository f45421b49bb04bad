"""Settings files refuse what they do not know, and say what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from sordino_client.settings import MemberSettings, settings_text
from sordino_platform.settings import load
from sordino_privacy.errors import ConfigurationError


def settings() -> MemberSettings:
    return MemberSettings(name="alpha", coordinator="127.0.0.1:9000", repositories=[Path("/srv/code")])


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    (tmp_path / "member.toml").write_text(settings_text(settings()))
    assert load(tmp_path / "member.toml", MemberSettings) == settings()


def test_every_setting_is_explained_in_the_file() -> None:
    text = settings_text(settings())
    for name in ("budget_epsilon", "completion_port", "minimum_units"):
        before = text.split(f"\n{name} =")[0]
        assert before.splitlines()[-1].startswith("# "), name


def test_an_unknown_setting_is_refused_and_the_nearest_one_named(tmp_path: Path) -> None:
    (tmp_path / "member.toml").write_text(settings_text(settings()) + "budget_epsilom = 99\n")
    with pytest.raises(ConfigurationError, match="unknown setting 'budget_epsilom'") as caught:
        load(tmp_path / "member.toml", MemberSettings)
    assert "budget_epsilon" in caught.value.hint


def test_a_value_of_the_wrong_kind_names_its_key(tmp_path: Path) -> None:
    (tmp_path / "member.toml").write_text(
        settings_text(settings()).replace("size_bucket = 8", "size_bucket = 80")
    )
    with pytest.raises(ConfigurationError, match="size_bucket"):
        load(tmp_path / "member.toml", MemberSettings)


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "member.toml", MemberSettings)
    assert "sordino client join" in caught.value.hint
