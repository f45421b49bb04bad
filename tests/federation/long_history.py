"""A coordinator whose history is long: signed by its true key, made in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sordino_platform.identity import Identity
from sordino_platform.release import ReleaseStore, SignedManifest


def signed_history(coordinator: Path, releases: int, *, run: str = "old") -> list[SignedManifest]:
    """The coordinator's chain, and so many releases behind it that each restore the first: their manifests alone."""
    identity = Identity.load(coordinator)
    chain = list(ReleaseStore(coordinator / "releases", identity.charters).chain())
    first = chain[0].manifest
    for _ in range(releases):
        before = chain[-1].manifest
        manifest = first.model_copy(
            update={"number": before.number + 1, "parent": before.hash(), "restores": 0, "run": run}
        )
        chain.append(SignedManifest.sign(manifest, identity.signing_key))
    return chain


def put(folder: Path, chain: Sequence[SignedManifest]) -> None:
    """Lays manifests into a party's folder of releases; of the newest the vector too, which is the first one's."""
    first = folder / "releases" / "000000"
    for signed in chain:
        place = folder / "releases" / f"{signed.manifest.number:06d}"
        place.mkdir(exist_ok=True, parents=True)
        (place / "manifest.json").write_bytes(signed.to_bytes())
    if chain and (first / "weights.safetensors").exists():
        (place / "weights.safetensors").write_bytes((first / "weights.safetensors").read_bytes())
