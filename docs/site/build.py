"""Builds the site into build/site (`make docs`): the README, the pages of docs/, a reference made from the code.

Zensical aborts at a link to a page or heading that is not there. A page that no menu leads to is refused here.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reference

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "build" / "docs"
TOP = {"index.md": "README.md"} | {
    f"{name.lower()}.md": f"{name}.md" for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY")
}
NOT_PAGES = ("site", "vectors")


def main() -> None:
    """Gathers the pages, writes the reference, runs the generator."""
    shutil.rmtree(PLACE, ignore_errors=True)
    pages = PLACE / "docs"
    shutil.copytree(ROOT / "docs", pages, ignore=shutil.ignore_patterns(*NOT_PAGES))
    for name, source in TOP.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        for link, there in {"docs/": "", **{other: page for page, other in TOP.items()}}.items():
            text = text.replace(f"]({link}", f"]({there}")
        (pages / name).write_text(text, encoding="utf-8")
    (pages / "reference").mkdir()
    for name, page in reference.PAGES.items():
        (pages / "reference" / f"{name}.md").write_text(page(), encoding="utf-8")
    menu = with_folders((ROOT / "docs" / "site" / "zensical.toml").read_text(encoding="utf-8"), pages)
    (PLACE / "zensical.toml").write_text(menu, encoding="utf-8")
    unlisted = {str(path.relative_to(pages)) for path in pages.rglob("*.md")} - set(listed(menu))
    if unlisted:
        raise SystemExit(
            f"error: no menu leads to {', '.join(sorted(unlisted))}; add them to docs/site/zensical.toml"
        )
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    if subprocess.run(command, cwd=PLACE, check=False).returncode:
        raise SystemExit("error: the site was not built; correct what is named above")
    shutil.rmtree(ROOT / "build" / "site", ignore_errors=True)
    (PLACE / "site").rename(ROOT / "build" / "site")
    sys.stdout.write(
        "the site: build/site/index.html (open it with `python3 -m http.server -d build/site`)\n"
    )


def with_folders(menu: str, pages: Path) -> str:
    """The menu with every `folder/*.md` replaced by the pages of that folder, by name."""

    def names(found: re.Match[str]) -> str:
        return ", ".join(f'"{path.relative_to(pages)}"' for path in sorted(pages.glob(found[1])))

    return re.sub(r'"(\w+/\*\.md)"', names, menu)


def listed(menu: str) -> Iterator[str]:
    """The pages that a menu names."""

    def below(item: Any) -> Iterator[str]:
        if isinstance(item, str):
            yield item
        else:
            for value in item.values() if isinstance(item, dict) else item:
                yield from below(value)

    yield from below(tomllib.loads(menu)["project"]["nav"])


if __name__ == "__main__":
    main()
