"""Which machine this member takes for the coordinator: the one with the highest tenure that it has ever been shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sordino_platform.telemetry import log
from sordino_platform.tenure import FILE, SignedTenure, is_refused, keep_tenure, read_tenure, replaces

if TYPE_CHECKING:
    from sordino_client.round.member import Member


def heed_tenure(member: Member, data: bytes) -> bytes:
    """Keeps the tenure that is offered if it is a later one, durably, before anything is answered.

    Returns the one that this member holds where it takes part in nothing under the offered one; empty otherwise. Raises
    ConfigurationError for one that no coordinator of the charters signed, StorageError.
    """
    charters = member.identity.charters.chain()
    keys = {signed.charter.coordinator.identity_key for signed in charters}
    federation, path = member.membership.federation, member.folder / FILE
    offered = None if not data else SignedTenure.parse(data, federation=federation, keys=keys)
    held = read_tenure(path, federation=federation, keys=keys)
    if offered is not None and replaces(offered, held):
        keep_tenure(path, offered)
        log().info("coordinator_replaced", member=member.name, count=offered.tenure.generation)
        return b""
    if held is not None and is_refused(offered, held):
        return held.to_bytes()
    return b""
