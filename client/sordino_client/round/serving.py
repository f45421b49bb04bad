"""The model that a member's completion server reads: the newest verified release, or what every release begins with."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

from sordino_client.round.member import Member
from sordino_platform.architecture import HuggingFaceConfig, Parameters, merged, unflatten, without_adapters
from sordino_platform.bases import Base, find_by_digest, known_name, registry
from sordino_platform.huggingface import write_adapter
from sordino_platform.release import write_base_bundle, write_serving_bundle
from sordino_platform.release.bundle import BEGINS, CURRENT


def serve(member: Member) -> None:
    """Writes the newest release with the shared memory in force, or the base where there is none yet, for the
    completion server; nothing where the member's settings serve no completions.

    Of a Hugging Face base only the adapters are written: they are added to the base that lies on this disk. They are
    written to `adapter/` in PEFT's format too, for other software. Beside a release of our own architecture lies the
    model that every release begins with: the completion server decides how much of the way between the two it takes
    (completion/taking). Raises ConfigurationError, StorageError.
    """
    newest = member.newest_release()
    memory = member.releases.shared_memory(newest) if newest >= 0 else None
    number = max(0, newest)
    config, parameters = member.config, member.parameters
    if newest >= 0:
        parameters = unflatten(config, parameters, member.releases.vector(newest))
    serving = member.folder / "completion" / "serving"
    begins = member.folder / "completion" / BEGINS
    if isinstance(config, HuggingFaceConfig):
        write_adapter(member.folder / "adapter", config, parameters)
        if member.settings.completions:
            _serve_base(serving, member.base(), config, parameters if number else {}, release=number)
    elif member.settings.completions:
        with as_file(files("sordino_platform") / "base" / "tokenizer.json") as tokenizer:
            write_serving_bundle(
                serving,
                without_adapters(config),
                merged(parameters),
                tokenizer,
                release=number,
                memory=memory,
            )
            if not (begins / CURRENT).exists():  # the same for the life of a federation
                write_serving_bundle(
                    begins, without_adapters(config), merged(member.parameters), tokenizer, release=0
                )
    member.metrics.model_version.set(number)


def _serve_base(
    serving: Path, place: Path | None, config: HuggingFaceConfig, adapters: Parameters, *, release: int
) -> None:
    assert place is not None, "a member of such a federation has its base"
    write_base_bundle(serving, described(place, config.base_sha256), adapters, release=release)


def described(place: Path, digest: str) -> Base:
    """The base in `place` that a charter names by this digest, under the name that it has on this machine."""
    found = find_by_digest(digest)
    name = found.name if found is not None else known_name(digest) or registry.name_for(place)
    # The founder of the federation looked at its licence; the folder need not repeat it to be served.
    licence = found.licence if found is not None else "as the federation's founders agreed"
    return registry.describe_place(place, name=name, licence=licence, digest=digest)
