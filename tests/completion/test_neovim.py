"""Our plugin in a real Neovim, against the real endpoint: what a person types, sees and takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NVIM = shutil.which("nvim")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NVIM is None, reason="no Neovim; on Debian: apt-get install neovim"),
]
PLUGIN = Path(__file__).resolve().parents[2] / "client" / "neovim"
SORDINO = (sys.executable, "-m", "sordino_platform.cli")
GETTER = "class Account {\n    private int balance;\n\n    int getBalance() {\n        retur"
SHOWN = "luaeval(\"(require('sordino.ghost').shown or {}).text or ''\")"
MARKS = "json_encode(nvim_buf_get_extmarks(0, nvim_get_namespaces()['sordino'], 0, -1, {'details': v:true}))"


class Neovim:
    """One headless Neovim, driven from outside as a person's fingers do: keys in, what stands there out."""

    def __init__(self, place: Path, state: Path, **setup: Any) -> None:
        self.address = str(place / "nvim.sock")
        given = json.dumps({"command": [*SORDINO, "lsp", "--state", str(state)]} | setup)
        lua = f"require('sordino').setup(vim.fn.json_decode([==[{given}]==]))"
        init = place / "init.lua"
        init.write_text(f"vim.opt.runtimepath:prepend('{PLUGIN}')\nvim.opt.autoindent = true\n{lua}\n")
        assert NVIM is not None
        self.process = subprocess.Popen(
            [NVIM, "--headless", "--listen", self.address, "-u", str(init), "-i", "NONE", "-n"],
            cwd=place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(lambda: Path(self.address).exists())

    def _remote(self, how: str, what: str) -> str:
        assert NVIM is not None
        done = subprocess.run(
            [NVIM, "--headless", "--server", self.address, how, what],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout or done.stderr

    def type(self, keys: str) -> None:
        self._remote("--remote-send", keys)

    def ask(self, expression: str) -> str:
        return self._remote("--remote-expr", expression).strip("\n")

    def open(self, path: Path, text: str) -> None:
        path.write_text(text)
        self.type(f"<C-\\><C-n>:edit {path}<CR>GA")

    @property
    def shown(self) -> str:
        return self.ask(SHOWN)

    @property
    def text(self) -> str:
        return "\n".join(json.loads(self.ask("json_encode(getline(1, '$'))")))

    def end(self) -> None:
        self.process.kill()
        self.process.wait(20)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def neovim(serving: Any, tmp_path: Path) -> Iterator[Neovim]:
    made = Neovim(tmp_path, serving.state)
    yield made
    made.end()


def test_ghost_text_stands_at_the_cursor_and_tab_takes_it(
    neovim: Neovim, serving: Any, tmp_path: Path
) -> None:
    accepted = serving.endpoint.ask("GET", "/v1/statistics")["accepted"]
    neovim.open(tmp_path / "Account.java", GETTER)
    until(lambda: neovim.shown)
    shown = neovim.shown
    ((_, row, column, details),) = json.loads(neovim.ask(MARKS))
    assert (row, column) == (4, len("        retur"))
    assert details["virt_text"][0] == [shown.split("\n")[0], "SordinoGhost"]
    assert neovim.text == GETTER  # it is shown, not written
    neovim.type("<Tab>")
    until(lambda: neovim.text == GETTER + shown)
    until(lambda: serving.endpoint.ask("GET", "/v1/statistics")["accepted"] == accepted + 1)


def test_a_word_is_taken_and_the_rest_stays(neovim: Neovim, tmp_path: Path) -> None:
    neovim.open(tmp_path / "Account.java", GETTER)
    until(lambda: neovim.shown.startswith("n "))
    shown = neovim.shown
    neovim.type("<C-Right>")
    until(lambda: neovim.text == GETTER + "n")
    until(lambda: neovim.shown == shown[1:])


def test_typing_along_keeps_it_and_leaving_insert_mode_hides_it(neovim: Neovim, tmp_path: Path) -> None:
    neovim.open(tmp_path / "Account.java", GETTER)
    until(lambda: neovim.shown.startswith("n"))
    shown = neovim.shown
    neovim.type("n")
    until(lambda: neovim.shown == shown[1:])
    neovim.type("<Esc>")
    until(lambda: not neovim.shown)
    assert json.loads(neovim.ask(MARKS)) == []


def test_tab_is_a_tab_where_nothing_is_shown(neovim: Neovim, tmp_path: Path) -> None:
    neovim.type(":Sordino disable<CR>")
    neovim.open(tmp_path / "notes.java", "int x")
    neovim.type("<Tab>y")
    until(lambda: neovim.text == "int x\ty")
    assert neovim.ask("luaeval(\"require('sordino').status()\")") == "off"


def test_a_file_that_may_hold_secrets_gets_nothing_and_why_says_so(neovim: Neovim, tmp_path: Path) -> None:
    neovim.open(tmp_path / ".env", "TOKEN=")

    def why() -> str:
        neovim.type("<C-\\><C-o>:Sordino why<CR>")
        return neovim.ask("execute('messages')")

    until(lambda: "secrets" in why())
    assert not neovim.shown


def test_without_the_program_it_says_what_to_do(serving: Any, tmp_path: Path) -> None:
    neovim = Neovim(tmp_path, serving.state, command=["no-such-sordino"])
    try:
        neovim.open(tmp_path / "a.java", "int x")
        until(lambda: "pip install sordino" in neovim.ask("execute('messages')"))
    finally:
        neovim.end()
