"""Makes a release in dist/: `make release`. Source and wheel, extension, bill of materials, provenance, checksums.

It refuses a tree with changes and a version that CHANGELOG.md does not name. Built at the commit's own time, so the
same commit gives the same wheel. Provenance is an in-toto statement with the SLSA provenance 1.0 predicate
(https://slsa.dev/spec/v1.0/provenance). It is not signed here: a forge's own attestation or the publisher's key does.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
BUILD_TYPE = "urn:sordino:deploy/release.py"


def said(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def digest(path: Path) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def refusal(*, version: str, changelog: str, changes: str) -> str | None:
    """Why this tree is no release, or None. `changes` is `git status --porcelain`."""
    if changes:
        return "the tree has changes: commit or stash them, so that the release is a commit"
    if f"\n## {version}\n" not in changelog and not changelog.count(f"\n## {version} ("):
        return f"CHANGELOG.md has no section '## {version}': rename 'Unreleased', with the date in brackets"
    return None


def provenance(*, commit: str, epoch: str, files: list[Path], lock: Path) -> dict[str, object]:
    """The in-toto statement: what was made, from what, how."""
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": path.name, "digest": {"sha256": digest(path)}} for path in files],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"commands": ["make release"], "SOURCE_DATE_EPOCH": epoch},
                "internalParameters": {"python": platform.python_version(), "system": platform.system()},
                "resolvedDependencies": [
                    {"name": "source", "digest": {"gitCommit": commit}},
                    {"name": "requirements/lock.txt", "digest": {"sha256": digest(lock)}},
                ],
            },
            "runDetails": {"builder": {"id": os.environ.get("SORDINO_BUILDER", "a person's machine")}},
        },
    }


def main() -> None:
    """Builds, gathers, describes, sums up."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    why = refusal(version=version, changelog=changelog, changes=said("git", "status", "--porcelain"))
    if why:
        raise SystemExit(f"error: {why}")
    commit, epoch = said("git", "rev-parse", "HEAD"), said("git", "log", "-1", "--format=%ct")
    environment = {**os.environ, "SOURCE_DATE_EPOCH": epoch}
    for path in DIST.glob("*") if DIST.exists() else ():
        path.unlink()
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST],
        cwd=ROOT,
        check=True,
        env=environment,
    )
    subprocess.run(["make", "--silent", "vsix", "sbom"], cwd=ROOT, check=True, env=environment)
    (ROOT / "client/vscode/dist/sordino.vsix").rename(DIST / f"sordino-{version}.vsix")
    files = sorted(DIST.iterdir())
    made = provenance(commit=commit, epoch=epoch, files=files, lock=ROOT / "requirements" / "lock.txt")
    (DIST / "provenance.json").write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    sums = "".join(f"{digest(path)}  {path.name}\n" for path in [*files, DIST / "provenance.json"])
    (DIST / "SHA256SUMS").write_text(sums, encoding="utf-8")
    sys.stdout.write(f"sordino {version} at {commit[:12]}: dist/\n{sums}")


if __name__ == "__main__":
    main()
