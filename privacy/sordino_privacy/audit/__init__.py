"""Audits the privacy engine: measures what the running engine releases, and compares it with what the engine claims.

mechanism   the noise, the clip, the sampler and the divisor of the engine that trains, by direct measurement
canaries    Dirac canaries through the whole mechanism: an attacker's epsilon lower bound, exact in theory
report      one finding per check, as data
"""

from sordino_privacy.audit.report import AuditCheck, AuditReport

__all__ = ["AuditCheck", "AuditReport"]
