"""The `sordino` command: loads the sub-commands that the installed packages offer, and turns errors into one line.

Sub-commands are entry points of the group `sordino.commands`: a function becomes a command, a Typer app a group.
Only the sub-command that is asked for is imported, so `sordino --help` stays fast.

Exit codes: 0 success, 1 a bug, 2 usage, 3 configuration, 4 data, 5 privacy budget, 6 link, 7 port in use, 8 storage,
9 protocol refusal, 10 training, 11 rounds, 130 interrupted (Ctrl-C), 143 terminated.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points, version
from typing import Any

import click
import typer
from typer.core import TyperGroup

from sordino_privacy.errors import SordinoError

GROUP, BENCHMARKS = "sordino.commands", "sordino.benchmarks"
INTERRUPTED, BUG = 130, 1

# The help lines of a listing, so that listing the commands imports none of them. A test compares them with the entry
# points.
SUMMARIES = {
    "charter": "The federation's constitution: new, add, sign, show, diff, verify",
    "base": "The models to train on and to serve: list, add, show, remove",
    "client": "A member's machine: join, up, status, ledger, adapt, corpus, audit",
    "complete": "Completes code at FILE:LINE:COL",
    "coordinator": "The federation's server: up, status, rounds, pause, pace, rollback, audit, follow, takeover",
    "demo": "Runs a whole federation on this machine: real processes, real TLS, real repositories",
    "simulate": "What a federation would gain and cost: virtual members on Flower's simulation engine",
    "lab": "Keeps a federation running on this machine, for trying things, until Ctrl-C",
    "doctor": "Checks clock, keys, certificate, disk, ports, TLS, budget; explains each failure",
    "eval": "Measures a model on held-out code: bits per byte, accuracy, exact match",
    "corpus": "Fetches and cleans the public corpora",
    "lsp": "The language server, for editors that speak LSP",
    "serve": "Completions for one person, without a federation",
    "pretrain": "Trains the public base model",
    "identity": "Keys and certificates: new, request, approve, renew, retire",
    "train": "Stand-alone training on your own repositories, with a live loss graph",
    "bench": "Measures speed and quality, side by side with peers",
    "federation": "Founds a federation: a plan, join codes, one approval",
    "join": "Joins a federation with a join code, and runs",
}

BENCHMARK_SUMMARIES = {
    "dp": "Private training, beside plain PyTorch and stock Opacus: time, memory, accounting",
    "completion": "The completion engine and endpoint, beside torch and llama.cpp",
    "secagg": "Secure aggregation, beside Flower's SecAgg+ and the speed of the cipher",
    "crowd": "A thousand members on one coordinator: rounds, dropouts, reconnections, memory",
    "typing": "What completions save someone who types, and how much wrong text they show",
    "base": "What the public base is made of: vocabulary, pre-tokenization, size at equal arithmetic",
    "secrets": "What the credential rules miss and what they take wrongly, beside other scanners",
    "poisoning": "How far a backdoor of one lying member gets, round by round, under each defence",
    "federation": "Real projects as members, of one field or of many: is a federation worth its privacy?",
}


class LazyCommands(TyperGroup):
    """A group whose commands are entry points of `entry_group`, imported when they are used."""

    entry_group = GROUP
    summaries = SUMMARIES

    @property
    def found(self) -> dict[str, EntryPoint]:
        """Entry points by command name."""
        return {
            entry.name: entry
            for entry in sorted(entry_points(group=self.entry_group), key=lambda entry: entry.name)
        }

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self.found)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.found.get(cmd_name)
        return None if entry is None else as_command(cmd_name, entry.load(), self.summaries)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.summaries[name]) for name in self.list_commands(ctx)])


class LazyBenchmarks(LazyCommands):
    """The benchmarks that the installed packages offer."""

    entry_group = BENCHMARKS
    summaries = BENCHMARK_SUMMARIES


class PlainHelp(click.HelpFormatter):
    """Typer escapes `[` for rich even where rich does not print: this takes the escapes out again."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        plain = [(first, second.replace("\\[", "[")) for first, second in rows]
        super().write_dl(plain, col_max, col_spacing)


click.Context.formatter_class = PlainHelp


def as_command(name: str, target: Any, summaries: Mapping[str, str] = SUMMARIES) -> click.Command:
    """A click command from a Typer app (a group) or from a function annotated for Typer (one command)."""
    if isinstance(target, typer.Typer):
        command = typer.main.get_command(target)
    else:
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, help=target.__doc__)(target)
        command = typer.main.get_command(single)
    command.name = name
    command.short_help = summaries.get(name)
    return command


app = typer.Typer(
    cls=LazyCommands,
    name="sordino",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train one code-completion model together, without showing anyone your code.\n\n"
    "Begin with `sordino demo`, which runs a whole federation on this machine in a few minutes.",
)


bench = typer.Typer(
    cls=LazyBenchmarks,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measures speed and quality, side by side with peers, in one run. Quote the ratios: machines are noisy.",
)


@bench.callback()
def measure() -> None:
    """A group even while no benchmark is installed."""


@app.callback(invoke_without_command=True)
def root(
    show_version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Handles `--version`."""
    if show_version:
        typer.echo(f"sordino {version('sordino')}")
        raise typer.Exit


def main() -> None:
    """Runs the command line. Every error that sordino raises on purpose becomes one line, a hint and its exit code."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command line; returns the exit code."""
    try:
        result = app(arguments, prog_name="sordino", standalone_mode=False)
    except SordinoError as error:
        complain(error.message, error.hint)
        return error.exit_code
    except click.exceptions.Abort:
        complain("interrupted")
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has closed it (`| head`), so nobody would read an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        complain(
            describe(error),
            "free some space or choose another folder, then run the command again: nothing was lost",
        )
        return 8
    code = result if isinstance(result, int) else 0
    if code == INTERRUPTED:  # Typer turns Ctrl-C into this code, and says nothing
        complain("interrupted")
    return code


def describe(error: OSError) -> str:
    """One line for an operating-system error: what failed, and on which file."""
    where = f": {error.filename}" if error.filename else ""
    return f"{(error.strerror or type(error).__name__).lower()}{where}"


def complain(message: str, hint: str = "") -> None:
    """Prints `error: ...` and `what to do: ...` on stderr, in colour on a terminal."""
    typer.secho(f"error: {message}", fg=typer.colors.RED, err=True)
    if hint:
        typer.secho(f"what to do: {hint}", err=True)


if __name__ == "__main__":
    main()
