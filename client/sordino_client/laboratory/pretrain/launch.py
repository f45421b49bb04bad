"""`sordino pretrain`: encodes the public corpus once, then replaces this process with the trainer."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from sordino_platform.machine.files import cache_folder
from sordino_platform.machine.processes import give_way
from sordino_privacy.errors import UsageError

CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Where corpora are kept.", show_default="user cache"),
]

# Environment variables that must be set before torch starts: waiting threads sleep (the cores are shared), malloc keeps
# large blocks instead of returning them at every step (17 % faster), and on CUDA a workspace makes matrix products
# deterministic.
TRAINER_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 32),
    "MALLOC_TOP_PAD_": str(64 << 20),
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}


def user_cache() -> Path:
    """The corpus folder in the user's cache directory."""
    return cache_folder() / "sordino" / "corpus"


def pretrain(
    run: Annotated[
        Path, typer.Option("--run", metavar="DIR", help="The run's folder; resumed if it holds one.")
    ],
    cache: CacheOption = None,
    size: Annotated[str, typer.Option("--size", help="2.3m, 3.4m, 10m, 13m or 22m.")] = "3.4m",
    vocabulary: Annotated[
        int | None,
        typer.Option(
            "--vocabulary",
            min=512,
            max=65_535,
            help="Learn one of this size first; none: the one that ships.",
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")] = "auto",
    plan: Annotated[
        str, typer.Option("--plan", help="Sizes of the steps: processor, accelerator or onward.")
    ] = "processor",
    rate: Annotated[
        float, typer.Option("--rate", min=0, max=10, help="All learning rates times this.")
    ] = 1.0,
    mixture: Annotated[
        str | None,
        typer.Option(
            "--mixture", help="Shares of Java, Python, Go and TypeScript.", show_default="0.5,0.2,0.15,0.15"
        ),
    ] = None,
    goal_tokens: Annotated[
        int, typer.Option("--goal-tokens", min=0, help="Where the run ends; 0: nowhere, stop it at will.")
    ] = 0,
    decay_tokens: Annotated[
        int,
        typer.Option("--decay-tokens", min=0, help="The rates fall to zero over the last so many tokens."),
    ] = 0,
    threads: Annotated[int, typer.Option("--threads", min=1, max=64)] = 2,
    stop_tokens: Annotated[
        int | None, typer.Option("--stop-tokens", help="Stop after this many tokens.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0, help="Stop after this long, with a checkpoint.")
    ] = None,
    pass_windows: Annotated[
        int | None, typer.Option("--pass-windows", min=1, help="Windows in memory at once; the step stays.")
    ] = None,
    from_base: Annotated[
        Path | None,
        typer.Option("--from-base", metavar="DIR", help="Start a new run from an exported base's weights."),
    ] = None,
    branch: Annotated[
        Path | None,
        typer.Option("--branch", metavar="DIR", help="Decay a copy of the newest checkpoint into DIR."),
    ] = None,
    branch_tokens: Annotated[int, typer.Option("--branch-tokens", help="How long the decay is.")] = 1_000_000,
    pack: Annotated[
        Path | None,
        typer.Option("--pack", metavar="DIR", help="Pack the encoded corpus for another machine, and end."),
    ] = None,
    unpack: Annotated[
        Path | None,
        typer.Option("--unpack", metavar="DIR", help="Train on what --pack wrote; needs no corpus here."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="DIR", help="Write the newest checkpoint as a base."),
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            "--evaluation",
            metavar="FILE",
            help="With --export: the output of `eval --json`; one for each role.",
        ),
    ] = None,
) -> None:
    """Train the public base model; stop and resume at will (Ctrl-C writes a checkpoint first).

    The same command resumes what was stopped, to the same bits on the same device.

    Example: sordino pretrain --run ~/base

    On an accelerator: sordino pretrain --run ~/base --size 13m --vocabulary 8192 --plan accelerator
    --pass-windows 64 --goal-tokens 500000000 --decay-tokens 150000000 --minutes 9
    """
    folder = cache or user_cache()
    if export is not None:
        from sordino_client.laboratory.pretrain.export import export as write_base

        reports = [json.loads(path.read_text()) for path in evaluation or ()]
        card = write_base(run, folder, export, evaluations=reports)
        typer.echo(f"{export}: {card['tokens_seen'] / 1e6:.1f}M tokens, sha256 {card['sha256']}")
        return
    if branch is not None and not 0 < branch_tokens < 1 << 40:
        raise UsageError("--branch-tokens must be above 0")
    shares = None if mixture is None else _shares(mixture)
    from sordino_client.laboratory.pretrain.vocabulary import data_folder

    data = data_folder(folder, vocabulary)
    if unpack is None:
        _encode_once(folder, data, vocabulary)
    if pack is not None:
        from sordino_client.laboratory.pretrain.packed import pack_shards

        for name, parts in pack_shards(data, pack).items():
            typer.echo(f"{pack}: {name}, {parts} parts")
        return
    command = [sys.executable, "-m", "sordino_client.laboratory.pretrain.trainer", "--data", str(data)]
    command += ["--run", str(run), "--size", size, "--device", device, "--plan", plan, "--rate", str(rate)]
    command += ["--goal-tokens", str(goal_tokens), "--decay-tokens", str(decay_tokens)]
    command += ["--threads", str(threads)]
    command += ["--mixture", *map(str, shares)] if shares else []
    command += ["--unpack", str(unpack)] if unpack else []
    command += ["--from-base", str(from_base)] if from_base else []
    command += ["--stop-tokens", str(stop_tokens)] if stop_tokens else []
    command += ["--minutes", str(minutes)] if minutes is not None else []
    command += ["--pass-windows", str(pass_windows)] if pass_windows else []
    command += ["--branch", str(branch), "--branch-tokens", str(branch_tokens)] if branch else []
    give_way()
    os.execve(command[0], command, {**os.environ, **TRAINER_ENVIRONMENT})  # noqa: S606 - our own interpreter


def _shares(text: str) -> list[float]:
    """Four shares that are not negative and not all zero. They are relative to each other and need not add up to 1."""
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != 4 or not all(0 <= share <= 1 for share in shares) or not sum(shares) > 0:
        raise UsageError(
            "--mixture takes four shares between 0 and 1", hint="for example: --mixture 0.5,0.2,0.15,0.15"
        )
    return shares


def _encode_once(cache: Path, data: Path, vocabulary: int | None) -> None:
    """Turns the public corpus into token shards in `data`, unless they exist; first learns a requested vocabulary."""
    from sordino_client.laboratory.pretrain.corpus import read_corpus
    from sordino_client.laboratory.pretrain.vocabulary import learn_once
    from sordino_client.training import stream
    from sordino_platform.tokenizer import Tokenizer

    documents = read_corpus(cache, "public")
    tokenizer = Tokenizer.shipped() if vocabulary is None else learn_once(documents, data, vocabulary)
    for name, wanted in (("validation", True), ("training", False)):
        if stream.open_shard(data / name, tokenizer) is None:
            chosen = (d for d in read_corpus(cache, "public") if stream.is_validation(d) is wanted)
            stream.encode_shard(
                chosen,
                tokenizer,
                data / name,
                on_progress=lambda done: typer.echo(f"encoded {done / 1e6:.0f}M tokens", err=True),
            )
