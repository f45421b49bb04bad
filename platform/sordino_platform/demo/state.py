"""What the coordinator's events say: folded into the state that the view draws and the report writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class RoundView:
    """One round as its events told it. Times in seconds."""

    number: int
    phase: str = ""
    outcome: str = "running"
    reason: str = ""
    loss: float | None = None
    seconds: float = 0.0
    members: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    answered: dict[str, set[str]] = field(default_factory=dict)
    phases: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class State:
    """The whole demo so far."""

    rounds: dict[int, RoundView] = field(default_factory=dict)
    connected: set[str] = field(default_factory=set)
    epsilon: dict[str, float] = field(default_factory=dict)
    losses: list[tuple[int, float]] = field(default_factory=list)
    killed: str = ""
    stopped: bool = False
    traffic: dict[str, int] = field(default_factory=dict)

    @property
    def completed(self) -> int:
        """Rounds that made a release."""
        return sum(1 for one in self.rounds.values() if one.outcome == "completed")

    @property
    def current(self) -> RoundView | None:
        """The newest round."""
        return self.rounds[max(self.rounds)] if self.rounds else None

    def apply(self, event: dict[str, Any]) -> None:
        """Takes one event of the coordinator's file into the state; unknown ones change nothing."""
        kind = event.get("event")
        if kind == "member_connected":
            self.connected.add(event["member"])
        elif kind == "member_disconnected":
            self.connected.discard(event["member"])
        elif kind == "epsilon":
            self.epsilon[event["member"]] = float(event["epsilon"])
        elif kind == "model":
            self.losses.append((int(event["release"]), float(event["loss"])))
        elif kind == "stopped":
            self.stopped = True
            self.traffic = {way: int(event[way]) for way in ("received", "sent")}
        elif "round" in event:
            self._apply_to_round(
                kind, event, self.rounds.setdefault(event["round"], RoundView(event["round"]))
            )

    def _apply_to_round(self, kind: str | None, event: dict[str, Any], one: RoundView) -> None:
        if kind == "round_started":
            one.members = list(event["members"])
        elif kind == "phase_started":
            one.phase = event["phase"]
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
