"""The guides, typed from the founding to a spent budget, with every member's charges before and after each scene.

Run by `make test-all`: a coordinator and four agents are real processes on real TLS and train for real; only a
certificate's age is made, because nobody waits for it. The table is printed and stands in docs/life-of-a-federation.md.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.federation.typed import MEMBERS, SECONDS, Script, founded, repository

from sordino_client.ledger import read_account
from sordino_client.status import read_agent_status, read_ledger
from sordino_coordinator.control.view import status_facts
from sordino_platform.identity import Identity, authority, install, make_request

EVERYONE = (*MEMBERS, "dogwood")
UP = "coordinator up --folder hub --console 127.0.0.1:0"
# Time to say `pause` between two rounds, and rounds cheap enough that the budget of a member bears all of them.
PACE = {
    "pause_seconds = 0.0": "pause_seconds = 10.0",
    "gather_seconds = 60.0": "gather_seconds = 40.0",
    "noise_multiplier = 0.8": "noise_multiplier = 3.0",
}


class Life:
    """The federation of a script, and the table of what each scene cost each member."""

    def __init__(self, script: Script) -> None:
        self.script, self.place, self.rows = script, script.place, list[list[str]]()

    def charges(self) -> dict[str, tuple[int, float]]:
        """Rounds charged and epsilon spent, by member, as `sordino client ledger` says."""
        found = {}
        for name in EVERYONE:
            if (self.place / name / "ledger").exists():
                facts = read_ledger(self.place / name)
                found[name] = (len(facts["rounds"]), float(facts["epsilon_spent"]))
        return found

    def charged(self, name: str) -> int:
        """Rounds charged to one member: at once, where an epsilon takes seconds on a busy machine."""
        return len(read_account(self.place / name / "ledger").reservations)

    @contextmanager
    def scene(self, what: str, charged: str = "") -> Iterator[None]:
        """Keeps what the scene cost. `charged` are the members that must be charged one round more; nobody else is."""
        before, typed, began = self.charges(), len(self.script.typed), time.monotonic()
        yield
        after = self.charges()
        row = [what, str(len(self.script.typed) - typed), f"{time.monotonic() - began:.0f}"]
        for name in EVERYONE:
            (rounds, spent), (now, new) = before.get(name, (0, 0.0)), after.get(name, (0, 0.0))
            row.append(f"{rounds} ({spent:.2f}) → {now} ({new:.2f})")
        self.rows.append(row)
        print(" | ".join(row), flush=True)
        more = {name for name in after if after[name][0] == before.get(name, (0, 0.0))[0] + 1}
        same = {name for name in after if after[name] == before.get(name, (0, 0.0))}
        assert (more, same) == (set(charged.split()), set(after) - set(charged.split())), row

    def table(self) -> str:
        head = ["what happened", "commands", "seconds", *EVERYONE]
        lines = [head, ["---"] * len(head), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def one_round(self) -> None:
        """Orders a round, and no other after it, of the coordinator that runs."""
        self.script.run("coordinator resume --folder hub")
        self.next_round()

    def next_round(self) -> None:
        """Waits for the round that begins, and orders no other."""
        done, last = self.status()["rounds_completed"], self.status()["last_round"]
        self.script.until(lambda: self.status()["last_round"] != last)
        self.script.run("coordinator pause --folder hub")
        self.script.until(lambda: self.status()["rounds_completed"] == done + 1)

    def stop(self) -> None:
        """The coordinator drains and ends."""
        process = self.script.running["hub"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0

    def status(self) -> dict[str, Any]:
        """As `sordino coordinator status --json`, which a person would look at; not counted as a command."""
        return status_facts(self.place / "hub")

    def asked(self, line: str) -> Any:
        return json.loads(self.script.run(f"{line} --json"))

    def said_by_all(self) -> str:
        return "\n".join(self.script.said(number + 1)[-1500:] for number in range(len(self.script.typed)))

    def restart(self, name: str) -> None:
        """The member's machine starts anew."""
        process = self.script.running[name]
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        self.script.start(f"client up --folder {name}")

    def aged(self, name: str, *, days: int) -> None:
        """Gives a member the certificate of 30 days that it would have, had it been issued `days` ago."""
        folder, then = self.place / name, datetime.now(UTC) - timedelta(days=days)
        for path in (self.place / "root" / "issued").glob(f"member.{name}.*"):
            path.unlink()  # so that a request of then is not older than the last
        issued = then + timedelta(minutes=1)
        reply = authority.approve(self.place / "root", make_request(folder, now=then), now=issued)
        install(folder, reply, now=issued)

    def days_left(self, name: str) -> float:
        return Identity.load(self.place / name).tls().remaining() / timedelta(days=1)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    with ExitStack() as stack:
        yield Life(Script(tmp_path, stack))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_every_scene_of_a_federations_life_costs_its_members(life: Life) -> None:
    script, place = life.script, life.place
    with life.scene("founded by plan, code and one approval"):
        founded(script)
    settings = place / "hub" / "coordinator.toml"
    text = settings.read_text()
    for old, new in PACE.items():
        assert old in text
        text = text.replace(old, new)
    settings.write_text(text)

    script.run("coordinator pause --folder hub")

    with life.scene("a round of epoch 1", charged="alder birch cedar"):
        script.start(UP)
        script.until((place / "hub" / "address").exists)
        life.one_round()

    with life.scene("dogwood joins: epoch 2, a round of four", charged=" ".join(EVERYONE)):
        joins(life)
        life.aged("birch", days=25)
        life.restart("birch")
        life.one_round()
    assert [one["name"] for one in life.asked("identity pending hub")] == ["birch"]
    life.stop()
    backup = shutil.copytree(place / "hub", place / "backup")

    with life.scene(
        "birch is renewed in epoch 2; kill -9 of the coordinator, and up", charged=" ".join(EVERYONE)
    ):
        assert "1 certificate(s) delivered: birch" in script.run("identity approve root --at hub")
        before = life.charged("birch")
        killed = script.start(UP)
        # The round waits for nobody who changes its certificate while it begins.
        script.until(lambda: life.days_left("birch") > 29)
        script.until(lambda: read_agent_status(place / "birch")["link"] == "connected")
        script.run("coordinator resume --folder hub")
        script.until(lambda: life.charged("birch") > before)  # it trains for the round
        killed.kill()
        killed.wait()
        script.start(UP)
        life.next_round()
    assert "interrupted" in {row["outcome"] for row in life.asked("coordinator rounds --folder hub")}

    life.aged("alder", days=31)
    life.restart("alder")
    with life.scene("alder's certificate has expired: a round without it", charged="birch cedar dogwood"):
        life.one_round()
    script.until(lambda: read_agent_status(place / "alder")["link"] == "refused")
    assert "expired" in read_agent_status(place / "alder")["message"]
    with life.scene("alder is renewed by hand, a round of four", charged=" ".join(EVERYONE)):
        script.run("identity renew alder --out alder.renewal.json")
        script.run("identity approve root alder.renewal.json --out alder.renewed.json")
        script.run("identity install alder alder.renewed.json")
        life.one_round()

    life.stop()
    with life.scene("the coordinator is restored from a backup of three rounds ago: it stops, and says why"):
        (place / "hub").rename(place / "lost")
        shutil.copytree(backup, place / "hub")
        script.run("coordinator resume --folder hub")
        restored = script.start(UP)
        assert restored.wait(SECONDS) == 3
        assert "sordino coordinator adopt" in script.said(len(script.typed))
    with life.scene("it adopts its members' history, a round of four", charged=" ".join(EVERYONE)):
        adopted = json.loads(script.run("coordinator adopt --folder hub --seconds 120 --json"))
        assert adopted["releases"] == 3
        script.start(UP)
        life.next_round()

    with life.scene("dogwood is retired: epoch 3, a round of three", charged="alder birch cedar"):
        script.run("identity retire root dogwood")
        script.run("charter sign root --out epoch-3.json")
        for name in ("hub", *MEMBERS):
            script.run(f"charter accept {name} epoch-3.json")
        life.one_round()
    script.until(lambda: read_agent_status(place / "dogwood")["link"] == "refused")
    assert "not a member" in read_agent_status(place / "dogwood")["message"]

    spent = life.charges()["cedar"][1]
    member = place / "cedar" / "member.toml"
    member.write_text(member.read_text().replace("budget_epsilon = 8.0", f"budget_epsilon = {spent + 0.001}"))
    life.restart("cedar")
    with life.scene("cedar's budget is spent: no round begins, and the status says why"):
        script.run("coordinator resume --folder hub")

        def reasons() -> dict[str, str]:
            return {one["name"]: one["unready"] for one in life.status()["members"]}

        script.until(lambda: "budget" in reasons().get("cedar", ""))
        life.stop()
    verified(life)
    whole_history(life)
    print(f"\n{life.table()}")


def joins(life: Life) -> None:
    """A fourth member, by the guide's long way; every owner takes the epoch that brings it."""
    script, place = life.script, life.place
    repository(place / "code-dogwood", 9)
    script.run("charter new root")
    script.run("identity invite root --name dogwood --organisation Dogwood --out dogwood.token")
    script.run("identity new dogwood --federation orchard --name dogwood --organisation Dogwood")
    script.run("identity request dogwood --token-file dogwood.token --out dogwood.request.json")
    script.run("charter add root dogwood.request.json")
    script.run("charter sign root --out epoch-2.json")
    script.run("identity approve root dogwood.request.json --out dogwood.reply.json")
    root = authority.charters_of(place / "root").root
    script.run(f"identity install dogwood dogwood.reply.json --root {root}")
    address = (place / "plan.toml").read_text().split('address = "')[1].split('"')[0]
    script.run(f"client join --coordinator {address} --repo code-dogwood --folder dogwood")
    script.start("client up --folder dogwood")
    for name in ("hub", *MEMBERS):
        script.run(f"charter accept {name} epoch-2.json")


def verified(life: Life) -> None:
    """Anybody can check the releases; all agents live, the refused one too."""
    life.script.run("coordinator releases --folder hub")
    life.script.run("coordinator audit verify --folder hub")
    agents: list[subprocess.Popen[bytes]] = [life.script.running[name] for name in EVERYONE]
    assert all(agent.poll() is None for agent in agents)


def whole_history(life: Life) -> None:
    """With the records that the restore lost put back, one folder is enough to verify all three epochs."""
    place = life.place
    kept, lost = (
        {path.name for path in (place / where / "transcript").glob("*.bin")} for where in ("hub", "lost")
    )
    for name in lost - kept:
        shutil.copy(place / "lost" / "transcript" / name, place / "hub" / "transcript" / name)
    root = authority.charters_of(place / "root").root
    facts = life.asked(f"coordinator transcript verify hub --root {root}")
    assert facts["records"] == len(kept | lost) == life.status()["release"] - 1, (
        "one release restores another"
    )
