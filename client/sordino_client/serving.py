"""The model that a member's completion server reads: the newest verified release, or the public base."""

from __future__ import annotations

from importlib.resources import as_file, files

from sordino_client.member import Member
from sordino_platform import base
from sordino_platform.architecture import HuggingFaceConfig, merged, unflatten, without_adapters
from sordino_platform.huggingface import write_adapter
from sordino_platform.release import write_serving_bundle


def serve(member: Member) -> None:
    """Writes the newest release, or the public base where there is none yet, for the completion server.

    The completion engine runs our own architecture. Adapters of a Hugging Face base are written to `adapter/` in
    PEFT's format, for an engine that runs that base; the public base completes meanwhile.
    """
    newest = member.newest_release()
    number = max(0, newest)
    config, parameters = member.config, member.parameters
    if newest >= 0:
        parameters = unflatten(config, parameters, member.releases.vector(newest))
    if isinstance(config, HuggingFaceConfig):
        write_adapter(member.folder / "adapter", config, parameters)
        config, _, parameters = base.load()
    with as_file(files("sordino_platform") / "base" / "tokenizer.json") as tokenizer:
        plain = without_adapters(config)
        write_serving_bundle(
            member.folder / "completion" / "serving", plain, merged(parameters), tokenizer, release=number
        )
    member.metrics.model_version.set(number)
