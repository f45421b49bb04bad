"""The whole ceremony on one machine: for `sordino demo`, the simulation and tests.

It takes every step that separate machines would take, with the same functions and the same checks, but passes the
messages within one machine. A real federation uses the commands instead, so that no machine holds two parties' keys.

    >>> foundation = found_in_folder(folder, federation="demo", model=terms, members=[("acme", "Acme"), ...])
    >>> Identity.load(foundation.members["acme"]).charter.membership()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sordino_platform.charter import Charter, HuggingFaceTerms, ModelTerms, Role
from sordino_platform.identity import authority, site
from sordino_platform.pkcs11 import Pkcs11Uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """The result: the root's folder, each party's identity folder, the signed charter, the pinned fingerprint."""

    root: Path
    root_fingerprint: str
    charter: Charter
    coordinator: Path
    members: Mapping[str, Path]


def found_in_folder(
    folder: Path,
    *,
    federation: str,
    members: Sequence[tuple[str, str]],
    model: ModelTerms | HuggingFaceTerms,
    coordinator: str = "coordinator",
    dns_names: Sequence[str] = ("localhost",),
    addresses: Sequence[str] = ("127.0.0.1",),
    keys: Mapping[str, Pkcs11Uri] | None = None,
    now: datetime | None = None,
    **terms: Any,
) -> Foundation:
    """Founds a federation in `folder`: `root/`, `coordinator/`, `members/<name>/`. `members` is (name, organisation).
    `keys` names the parties whose identity key is to be in a token. `terms` go to the charter (`floors`, `privacy`,
    `validity`).

    Raises ConfigurationError when the terms do not fit the members, StorageError when the disk fails.
    """
    root = folder / "root"
    pin = authority.found_root(root, federation=federation, model=model, now=now, **terms)
    hub = folder / "coordinator"
    sites = {name: folder / "members" / name for name, _ in members}
    parties: list[tuple[Role, str, str, Path]] = [
        ("coordinator", coordinator, federation, hub),
        *(("member", name, organisation, sites[name]) for name, organisation in members),
    ]
    requests: dict[Path, bytes] = {}
    for role, name, organisation, place in parties:
        token = authority.invite(root, role=role, name=name, organisation=organisation, now=now)
        hosts = {"dns_names": dns_names, "addresses": addresses} if role == "coordinator" else {}
        site.create(
            place,
            federation=federation,
            role=role,
            name=name,
            organisation=organisation,
            key=(keys or {}).get(name),
            **hosts,
        )
        requests[place] = site.make_request(place, token=token, now=now)
        authority.enrol(root, requests[place], now=now)
    charter = authority.sign_epoch(root).charter
    for place, request in requests.items():
        site.install(place, authority.approve(root, request, now=now), root=pin, now=now)
    return Foundation(root=root, root_fingerprint=pin, charter=charter, coordinator=hub, members=sites)
