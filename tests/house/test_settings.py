"""Settings files refuse what they do not know, and say what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sordino_client.settings import COMMENTS, MemberSettings, member_settings_text
from sordino_coordinator.commands import app as coordinator
from sordino_coordinator.settings import COMMENTS as COORDINATOR_COMMENTS
from sordino_coordinator.settings import FILE, CoordinatorSettings
from sordino_platform.settings import SettingsModel, load_toml
from sordino_privacy.errors import ConfigurationError


def settings() -> MemberSettings:
    return MemberSettings(name="alpha", coordinator="127.0.0.1:9000", repositories=[Path("/srv/code")])


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    (tmp_path / "member.toml").write_text(member_settings_text(settings()))
    assert load_toml(tmp_path / "member.toml", MemberSettings) == settings()


def test_every_setting_is_explained_in_the_file() -> None:
    text = member_settings_text(settings())
    for name in ("budget_epsilon", "completion_port", "minimum_units"):
        before = text.split(f"\n{name} =")[0]
        assert before.splitlines()[-1].startswith("# "), name


@pytest.mark.parametrize("kind", ["member", "coordinator"])
def test_the_file_names_every_setting_that_is_accepted_each_under_its_comment(
    kind: str, tmp_path: Path
) -> None:
    """Those that are off are there behind a `#`, so that nobody has to look for them in a guide."""
    model: type[SettingsModel]
    if kind == "member":
        model, text, comments = MemberSettings, member_settings_text(settings()), COMMENTS
    else:
        CliRunner().invoke(coordinator, ["new", "--folder", str(tmp_path)], catch_exceptions=False)
        model, text, comments = CoordinatorSettings, (tmp_path / FILE).read_text(), COORDINATOR_COMMENTS
    lines = text.splitlines()
    assert set(comments) == set(model.model_fields) - {"version"}
    for name in set(model.model_fields) - {"version"}:
        starts = (f"{name} = ", f"# {name} = ", f"[{name}]")
        found = [number for number, line in enumerate(lines) if line.startswith(starts)]
        assert len(found) == 1, name
        assert lines[found[0] - 1] == f"# {comments[name]}", name
    assert '# training_slots = "..."' in lines or kind == "coordinator"


def test_an_unknown_setting_is_refused_and_the_nearest_one_named(tmp_path: Path) -> None:
    (tmp_path / "member.toml").write_text(member_settings_text(settings()) + "budget_epsilom = 99\n")
    with pytest.raises(ConfigurationError, match="unknown setting 'budget_epsilom'") as caught:
        load_toml(tmp_path / "member.toml", MemberSettings)
    assert "budget_epsilon" in caught.value.hint


def test_a_value_of_the_wrong_kind_names_its_key(tmp_path: Path) -> None:
    (tmp_path / "member.toml").write_text(
        member_settings_text(settings()).replace("size_bucket = 8", "size_bucket = 80")
    )
    with pytest.raises(ConfigurationError, match="size_bucket"):
        load_toml(tmp_path / "member.toml", MemberSettings)


def test_a_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_toml(tmp_path / "member.toml", MemberSettings)
    assert "sordino client join" in caught.value.hint
