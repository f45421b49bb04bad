"""A federation is founded on a base by its name; a member finds the base by its digest, or is told what to fetch."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sordino_client.settings import MemberSettings
from sordino_client.training.base_here import base_of
from sordino_platform import bases
from sordino_platform.bases.package import PACKAGES
from sordino_platform.canonical import decode, encode
from sordino_platform.charter import HuggingFaceTerms, drafting
from sordino_platform.charter.commands import app as charter
from sordino_platform.founding.plan import found_federation, read_plan
from sordino_platform.huggingface_model import describe
from sordino_privacy.errors import ConfigurationError, UsageError

Make = Callable[..., Path]


def member(**given: object) -> MemberSettings:
    return MemberSettings.model_validate(
        {"name": "a", "coordinator": "127.0.0.1:1", "repositories": [Path()], **given}
    )


def test_a_charter_names_a_base_that_was_added_and_a_member_finds_it_by_its_digest(
    make_base: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_base(tmp_path / "qwen-small", "qwen2")
    base = bases.add(str(folder))
    root = tmp_path / "root"
    made = CliRunner().invoke(
        charter, ["new", str(root), "--federation", "demo", "--base", "qwen-small", "--adapter-rank", "2"]
    )
    assert made.exit_code == 0, made.output
    assert "qwen-small, context 128, trains adapters of rank 2" in made.stdout
    terms = drafting.read_draft(root).model
    assert isinstance(terms, HuggingFaceTerms)
    assert (terms.name, terms.base_sha256.hex()) == ("qwen-small", base.digest)
    assert base_of(member(), terms) == folder
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qwen-small").rename(tmp_path / "elsewhere")
    (tmp_path / "qwen-small").mkdir()
    bases.add(str(tmp_path / "elsewhere"), name="qwen-small")
    folder = tmp_path / "elsewhere"
    assert base_of(member(base_model="qwen-small"), terms) == folder  # not the folder of that name here
    assert base_of(member(base_model=str(folder)), terms) == folder


def test_a_plan_names_a_base_and_only_what_suits_it(make_base: Make, tmp_path: Path) -> None:
    bases.add(str(make_base(tmp_path / "small", "llama")))
    text = (
        'federation = "orchard"\n[coordinator]\nname = "hub"\norganisation = "O"\naddress = "a.example:1"\n'
    )
    for name in "abcde":
        text += f'[[members]]\nname = "{name}"\norganisation = "{name.upper()} Ltd"\n'
    (tmp_path / "plan.toml").write_text(text + '[model]\nbase = "small"\nadapter_rank = 2\n')
    found_federation(
        read_plan(tmp_path / "plan.toml"), tmp_path / "root", passphrase="", now=datetime.now(UTC)
    )
    assert drafting.read_draft(tmp_path / "root").model.name == "small"  # type: ignore[union-attr]
    (tmp_path / "plan.toml").write_text(text + '[model]\nbase = "small"\nembedding_rank = 2\n')
    with pytest.raises(UsageError, match="embedding-rank is for the base that ships"):
        found_federation(
            read_plan(tmp_path / "plan.toml"), tmp_path / "other", passphrase="", now=datetime.now(UTC)
        )


def test_a_member_without_the_base_is_told_name_digest_and_command(make_base: Make, tmp_path: Path) -> None:
    config = describe(make_base(tmp_path / "there", "llama"), rank=2)
    terms = HuggingFaceTerms.of(config, name="company-base")
    with pytest.raises(ConfigurationError, match=f"company-base, digest {config.base_sha256}") as caught:
        base_of(member(), terms)
    assert "sordino base add FOLDER" in caught.value.hint


def test_a_member_without_a_known_package_is_told_the_one_command(
    make_base: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = PACKAGES["smollm2"]
    monkeypatch.setattr(type(package), "find", lambda self: None)
    config = describe(make_base(tmp_path / "there", "llama"), rank=2)
    terms = HuggingFaceTerms.of(config).model_copy(update={"base_sha256": bytes.fromhex(package.digest)})
    with pytest.raises(ConfigurationError, match=f"smollm2, digest {package.digest}") as caught:
        base_of(member(), terms)
    assert caught.value.hint == "run `sordino base add smollm2`"


def test_terms_without_a_name_have_the_bytes_that_they_always_had(make_base: Make, tmp_path: Path) -> None:
    config = describe(make_base(tmp_path / "there", "llama"), rank=2)
    plain, named = HuggingFaceTerms.of(config), HuggingFaceTerms.of(config, name="x")
    assert "name" not in json.loads(encode(plain))
    assert json.loads(encode(named))["name"] == "x"
    for terms in (plain, named):
        assert decode(HuggingFaceTerms, encode(terms), limit=1 << 20, what="terms") == terms
        assert terms.config() == config
