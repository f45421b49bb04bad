"""Findings of an audit, as data: a number that was measured, the range in which it must lie, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditCheck:
    """One check. `low <= measured <= high` is the claim; `what` says in words what was measured."""

    name: str
    what: str
    measured: float
    low: float
    high: float

    @property
    def passed(self) -> bool:
        """Also false for NaN: a check that could not be made does not pass."""
        return self.low <= self.measured <= self.high


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """All findings of one audit."""

    findings: tuple[AuditCheck, ...]

    @property
    def passed(self) -> bool:
        return bool(self.findings) and all(finding.passed for finding in self.findings)

    def as_json(self) -> dict[str, object]:
        """For `--json`."""
        return {
            "passed": self.passed,
            "findings": [{**asdict(finding), "passed": finding.passed} for finding in self.findings],
        }
