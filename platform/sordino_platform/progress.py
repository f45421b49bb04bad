"""Turns the coordinator's events into a state that views draw, and into sentences.

The demo's screen, its report and the coordinator's console read the same file (`events.jsonl`) through this module. An
event of an unknown kind, or without a round, changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

RUNNING = "running"


@dataclass(slots=True)
class RoundView:
    """One round, from its events. `seconds` and `phases` are in seconds, `began` is ISO 8601 in UTC.

    `asked` and `answered` belong to the newest attempt: the number of members that each phase was sent to, and the
    members that replied.
    """

    number: int
    began: str = ""
    phase: str = ""
    outcome: str = RUNNING
    reason: str = ""
    attempt: int = 0
    loss: float | None = None
    seconds: float = 0.0
    members: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    answered: dict[str, set[str]] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class FederationProgress:
    """The state after all events so far. Epsilon is what members chose to report; losses are in nats per token."""

    rounds: dict[int, RoundView] = field(default_factory=dict)
    connected: set[str] = field(default_factory=set)
    epsilon: dict[str, float] = field(default_factory=dict)
    losses: list[tuple[int, float]] = field(default_factory=list)
    killed: str = ""
    stopped: bool = False
    traffic: dict[str, int] = field(default_factory=dict)
    console: str = ""

    @property
    def completed(self) -> int:
        """Rounds that made a release."""
        return sum(1 for one in self.rounds.values() if one.outcome == "completed")

    @property
    def current(self) -> RoundView | None:
        """The newest round."""
        return self.rounds[max(self.rounds)] if self.rounds else None

    def forget(self, *, keep: int) -> None:
        """Keeps only the newest `keep` rounds and losses, for a process that runs for months."""
        for number in sorted(self.rounds)[:-keep]:
            del self.rounds[number]
        del self.losses[:-keep]

    def apply(self, event: Mapping[str, Any]) -> None:
        """Updates the state with one event of the coordinator's file."""
        kind = event.get("event")
        if kind == "member_connected":
            self.connected.add(event["member"])
        elif kind == "member_disconnected":
            self.connected.discard(event["member"])
        elif kind == "epsilon":
            self.epsilon[event["member"]] = float(event["epsilon"])
        elif kind == "model" and event["loss"] is not None:
            self.losses.append((int(event["release"]), float(event["loss"])))
        elif kind == "console":
            self.console = event["address"]
        elif kind == "stopped":
            self.stopped = True
            self.traffic = {way: int(event[way]) for way in ("received", "sent")}
        elif type(number := event.get("round")) is int:
            self._apply_to_round(kind, event, self.rounds.setdefault(number, RoundView(number)))

    def _apply_to_round(self, kind: str | None, event: Mapping[str, Any], one: RoundView) -> None:
        if kind == "round_started":
            one.members, one.began = list(event["members"]), event["timestamp"]
        elif kind == "attempt_failed":
            one.reason = event["reason"]
        elif kind == "phase_started":
            if event["attempt"] != one.attempt:
                one.attempt = event["attempt"]
                for told in (one.dropped, one.asked, one.answered):
                    told.clear()
            one.phase = event["phase"]
            one.asked[event["phase"]] = int(event["count"])
        elif kind == "phase_finished":
            one.phases[event["phase"]] = one.phases.get(event["phase"], 0.0) + float(event["seconds"])
        elif kind == "member_answered":
            one.answered.setdefault(event["phase"], set()).add(event["member"])
        elif kind == "member_dropped":
            one.dropped[event["member"]] = f"{event['reason']} in {event['phase']}"
        elif kind == "release" and event.get("loss") is not None:
            one.loss = float(event["loss"])
            self.losses.append((int(event["release"]), one.loss))
        elif kind == "round_finished":
            one.outcome, one.reason = event["outcome"], event["reason"]
            one.seconds = float(event["seconds"])
            one.members = list(event["members"]) or one.members


SENTENCES = {
    "attempt_failed": "round {round}, attempt {attempt}, failed: {reason}",
    "console": "the operator's console is at {address}; token: console.token in the coordinator's folder",
    "console_opened": "somebody signed in to the console",
    "console_token_wrong": "somebody tried a wrong token at the console",
    "epsilon": "{member} reported that it has spent epsilon {epsilon:.3g} of {budget:g}",
    "listening": "the coordinator listens",
    "member_connected": "{member} connected",
    "member_disconnected": "{member} went away: {reason}",
    "member_dropped": "round {round} goes on without {member}: {reason}{why}",
    "phase_started": "round {round}: {phase} ({count} members are asked)",
    "recovered": "the coordinator recovered from a stop in the middle of a round; the newest release is {release}",
    "release": "release {release} was signed",
    "round_finished": "round {round} {outcome}{ending}",
    "round_started": "round {round} begins with {cohort} members",
    "stopped": "the coordinator stopped",
    "stopping": "the coordinator was asked to stop",
    "waiting_for_members": "waiting for members: {connected} connected, {required} are needed",
}


def sentence(event: Mapping[str, Any]) -> str | None:
    """One plain line for an event that a person should see; None for other events."""
    form = SENTENCES.get(str(event.get("event")))
    if form is None:
        return None
    reason, loss = event.get("reason"), event.get("loss")
    ending = (
        f": {reason}" if reason else f": held-out loss {loss:.4f} nats per token" if loss is not None else ""
    )
    labels = {name: str(event[name]).replace("_", " ") for name in ("phase", "outcome") if name in event}
    why = f" ({event['error']})" if event.get("error") else ""
    try:
        return form.format_map({**event, **labels, "ending": ending, "why": why})
    except (KeyError, ValueError):  # an event of another version may lack a field, or have another type in it
        return None
