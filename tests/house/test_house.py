"""The house itself: packaging, floors, commands, documents."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from sordino_platform import cli
from sordino_privacy import errors

ROOT = Path(__file__).parents[2]


def python(code: str, *, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_import_platform_from_the_root_is_the_standard_library() -> None:
    found = python("import platform; print(platform.__file__, platform.python_version())", cwd=ROOT)
    assert str(ROOT) not in found
    assert found.endswith(".".join(map(str, sys.version_info[:3])))


def test_the_floors_are_the_four_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(wheel) == sorted(
        f"{floor}/sordino_{floor}" for floor in ("client", "coordinator", "platform", "privacy")
    )
    assert not list(ROOT.glob("*/__init__.py"))


LOCKED = (
    "requirements/lock.txt",
    "requirements/browser.txt",
    "requirements/docs.txt",
    "requirements/fuzz.txt",
    "requirements/pictures.txt",
    "deploy/requirements.txt",
    "deploy/docker/requirements.txt",
)


@pytest.mark.parametrize("path", LOCKED)
def test_every_locked_package_but_torch_carries_the_hashes_of_its_files(path: str) -> None:
    rows = [row for row in (ROOT / path).read_text().splitlines() if row and not row.startswith("#")]
    bare = [
        row
        for row in rows
        if not re.fullmatch(r"[a-z0-9.-]+==\S+( ; [^;]+)?( --hash=sha256:[0-9a-f]{64})+", row)
    ]
    assert [row.split("==")[0] for row in bare] == (
        ["torch"] if "torch" in {r.split("==")[0] for r in rows} else []
    )


def test_pip_refuses_a_locked_package_whose_bytes_are_others(tmp_path: Path) -> None:
    row = next(
        r for r in (ROOT / "requirements/lock.txt").read_text().splitlines() if r.startswith("certifi==")
    )
    other = re.sub("sha256:[0-9a-f]{64}", "sha256:" + 64 * "0", row)
    (tmp_path / "lock.txt").write_text(other + "\n")
    version = row.split()[0].split("==")[1]
    (tmp_path / f"certifi-{version}-py3-none-any.whl").write_bytes(b"not certifi")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-deps",
        "--ignore-installed",
        "--no-index",
    ]
    command = [*pip, "--find-links", str(tmp_path), "-r", str(tmp_path / "lock.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


def test_every_command_has_a_summary_and_loads() -> None:
    for group in (cli.LazyCommands, cli.LazyBenchmarks):
        found = {entry.name: entry for entry in entry_points(group=group.entry_group)}
        assert set(found) == set(group.summaries)
        for name, entry in found.items():
            assert cli.as_command(name, entry.load(), group.summaries).get_short_help_str(), name


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command below this one, by its whole name."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from commands(below, (*path, name))


def test_json_means_one_thing_and_each_example_has_a_line_of_its_own() -> None:
    found = dict(commands(cli.LazyCommands()))
    assert len(found) > 60
    for name, command in found.items():
        for option in command.params:
            assert "--json" not in option.opts or getattr(option, "is_flag", False), name
        assert not re.search(r"Example: .*\n[ ]*Example: ", command.help or ""), name


def test_help_needs_neither_torch_nor_flower() -> None:
    code = (
        "import sys; from sordino_platform import cli; cli.run(['--help']);"
        "print(sorted({'torch', 'flwr', 'matplotlib', 'ray', 'onnxruntime'} & set(sys.modules)))"
    )
    assert python(code, cwd=ROOT).endswith("[]")


def test_loading_every_command_imports_no_torch() -> None:
    code = (
        "import sys; from importlib.metadata import entry_points\n"
        "for e in entry_points(group='sordino.commands'): e.load()\n"
        "print(sorted({'torch', 'flwr', 'matplotlib', 'ray'} & set(sys.modules)))"
    )
    assert python(code, cwd=ROOT).endswith("[]")


def test_every_exit_code_is_documented_in_the_error_tree_and_the_command() -> None:
    kinds = [kind for kind in errors.SordinoError.__subclasses__() if kind.__module__ == errors.__name__]
    codes = {kind.exit_code: kind.__name__ for kind in kinds}
    for code, name in codes.items():
        assert re.search(rf"{name}\s+\({code}\)", errors.__doc__ or ""), name
    page = (ROOT / "docs" / "exit-codes.md").read_text()
    for code in (0, 1, *codes, 130):
        assert f"| {code} |" in page, f"exit code {code} is missing in docs/exit-codes.md"


def test_an_unknown_command_is_a_usage_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sordino_platform.cli", "sing"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "No such command 'sing'" in done.stderr
