"""What a package exports says what it is, and which errors it raises.

Exported is what `__all__` of an `__init__` names. An error counts as raised where a function's own body has
`raise X(...)`, not where something that it calls raises. What the constructor raises, the class says.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("privacy", "platform", "client", "coordinator")
PACKAGES = sorted(
    init for floor in FLOORS for init in (ROOT / floor / f"sordino_{floor}").rglob("__init__.py")
)
CONSTRUCTORS = ("__init__", "__post_init__")
SHORT = 3
"""Statements. A method of so few may do without a docstring: its name and types say all."""
Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def exported(init: Path) -> list[str]:
    """The names in `__all__`."""
    for node in parsed(init).body:
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets
        ):
            return [str(name) for name in ast.literal_eval(node.value)]
    return []


def definition(module: Path, name: str) -> Documented | None:
    """The class or function of this name, wherever `module` has it from; None for a constant."""
    for node in parsed(module).body:
        if isinstance(node, Documented) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and name in [alias.asname or alias.name for alias in node.names]:
            dotted = str(node.module)
            if not dotted.startswith("sordino_"):
                return None
            source = ROOT / dotted.partition(".")[0].removeprefix("sordino_") / dotted.replace(".", "/")
            return definition(source / "__init__.py" if source.is_dir() else source.with_suffix(".py"), name)
    return None


def raised(node: ast.AST) -> set[str]:
    """The errors that `raise X(...)` or `raise X` names anywhere in it."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Raise) and part.exc is not None:
            error = part.exc.func if isinstance(part.exc, ast.Call) else part.exc
            if isinstance(error, ast.Name) and error.id.endswith("Error"):
                found.add(error.id)
    return found


def methods(node: Documented) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (part for part in node.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef))


def missing(node: Documented) -> list[str]:
    """What the docstrings of one exported class or function do not say."""
    said, lacks = ast.get_docstring(node) or "", []
    if not said:
        lacks.append(f"{node.name}: no docstring")
    if not isinstance(node, ast.ClassDef):
        return lacks + [f"{node.name}: {error}" for error in sorted(raised(node)) if error not in said]
    for method in methods(node):
        if method.name.startswith("_") and method.name not in CONSTRUCTORS:
            continue
        own = ast.get_docstring(method) or ""
        if not own and method.name not in CONSTRUCTORS and len(method.body) > SHORT:
            lacks.append(f"{node.name}.{method.name}: no docstring")
        lacks += [
            f"{node.name}.{method.name}: {error}"
            for error in sorted(raised(method))
            if error not in own + said
        ]
    return lacks


@pytest.mark.parametrize("init", PACKAGES, ids=lambda init: str(init.parent.relative_to(ROOT)))
def test_what_a_package_exports_says_what_it_is_and_what_it_raises(init: Path) -> None:
    found = [definition(init, name) for name in exported(init)]
    assert [lack for node in found if node is not None for lack in missing(node)] == []


def test_the_exports_of_every_floor_are_found() -> None:
    nodes = [definition(init, name) for init in PACKAGES for name in exported(init)]
    assert len([node for node in nodes if node is not None]) > 200


def test_what_is_not_said_is_found() -> None:
    silent = ast.parse(
        "class Thing:\n"
        "    '''A thing.'''\n"
        "    def __init__(self): raise SizeError\n"
        "    def told(self):\n"
        "        '''Raises FormError.'''\n"
        "        raise FormError('no')\n"
        "    def untold(self): raise FormError('no')\n"
        "def bare(): ...\n"
    )
    thing, bare = silent.body
    assert isinstance(thing, ast.ClassDef)
    assert isinstance(bare, ast.FunctionDef)
    assert missing(thing) == ["Thing.__init__: SizeError", "Thing.untold: FormError"]
    assert missing(bare) == ["bare: no docstring"]
