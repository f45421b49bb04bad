"""One word for one thing: a public class, and a function that is imported by its name, stands once in the tree.

The rule and the words are in docs/glossary.md.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("privacy", "platform", "client", "coordinator")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
# Names that stand twice, and why that is meant. Empty is best.
ALLOWED: Mapping[str, str] = {}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def modules() -> dict[str, ast.Module]:
    """Every module of the product by its dotted name, parsed."""
    found = {}
    for floor in FLOORS:
        for path in (ROOT / floor / f"sordino_{floor}").rglob("*.py"):
            if "_pb2" not in path.name:
                name = ".".join(path.relative_to(ROOT / floor).with_suffix("").parts).removesuffix(
                    ".__init__"
                )
                found[name] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def classes(tree: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Public classes of modules, by name: the modules that define one."""
    found: dict[str, set[str]] = defaultdict(set)
    for module, body in tree.items():
        for node in body.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].add(module)
    return found


def imported_functions(tree: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Functions that another module imports by their own name: the modules that define one."""
    own = {
        module: {node.name for node in body.body if isinstance(node, FUNCTIONS)}
        for module, body in tree.items()
    }
    imports = {
        module: [
            (str(node.module), alias.name, alias.asname or alias.name)
            for node in ast.walk(body)
            if isinstance(node, ast.ImportFrom) and node.module in tree
            for alias in node.names
        ]
        for module, body in tree.items()
    }

    def definer(module: str, name: str) -> str | None:
        """Where a name comes from that `module` may only pass on."""
        if name in own[module]:
            return module
        passed = (definer(source, real) for source, real, local in imports[module] if local == name)
        return next(filter(None, passed), None)

    found: dict[str, set[str]] = defaultdict(set)
    for module, names in imports.items():
        for source, real, local in names:
            where = definer(source, real) if real == local else None
            if where not in (None, module) and not real.startswith("_"):
                found[real].add(str(where))
    return found


def twice(found: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    return {
        name: sorted(places) for name, places in found.items() if len(set(places)) > 1 and name not in ALLOWED
    }


def test_a_public_class_has_a_name_of_its_own() -> None:
    assert twice(classes(modules())) == {}


def test_a_function_that_is_imported_by_name_has_a_name_of_its_own() -> None:
    assert twice(imported_functions(modules())) == {}


def test_what_the_glossary_names_exists() -> None:
    tree = modules()
    known = {
        node.name
        for body in tree.values()
        for node in ast.walk(body)
        if isinstance(node, (ast.ClassDef, *FUNCTIONS))
    }
    named = set(
        re.findall(r"`(\w+)`", "\n".join(row for row in GLOSSARY.splitlines() if row.startswith("| ")))
    )
    assert len(named) > 40
    assert named - known == set()


def test_two_of_one_name_are_found() -> None:
    one, other = (
        ast.parse("class Thing: ...\ndef make(): ..."),
        ast.parse("class Thing: ...\ndef make(): ..."),
    )
    user = ast.parse("from a import make\nfrom b import make as other")
    caller = ast.parse("from b import make")
    assert twice(classes({"a": one, "b": other})) == {"Thing": ["a", "b"]}
    assert twice(imported_functions({"a": one, "b": other, "c": user})) == {}
    assert twice(imported_functions({"a": one, "b": other, "c": user, "d": caller})) == {"make": ["a", "b"]}
