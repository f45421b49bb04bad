"""`python -m sordino_client.completion --state DIR [--port N] [--repo DIR]...`: a member's completion endpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sordino_client.completion import server
from sordino_client.completion.ending import tell_and_end
from sordino_platform import telemetry
from sordino_platform.machine.processes import end_when_stdin_closes
from sordino_privacy.errors import SordinoError

# `sordino serve` looks every few seconds whether an agent takes its place.
PATIENCE_SECONDS = 20.0


def main() -> int:
    """Runs until it is told to end; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m sordino_client.completion", description=__doc__)
    parser.add_argument(
        "--state", type=Path, required=True, help="folder for the token, the models and the socket"
    )
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes any free one")
    parser.add_argument(
        "--repo",
        type=Path,
        action="append",
        default=[],
        help="a repository to remember locally; may be repeated",
    )
    parser.add_argument(
        "--precision",
        choices=("int8", "int7", "float32"),
        default="int8",
        help="the first to try: a model or processor that does not bear it is served in the next",
    )
    parser.add_argument(
        "--layers",
        choices=("both", "model", "memory"),
        default="both",
        help="what answers; one alone is for measuring",
    )
    parser.add_argument(
        "--show",
        choices=("quiet", "balanced", "eager", "all"),
        default="balanced",
        help="how sure a text must be to be shown, where a request does not say",
    )
    parser.add_argument(
        "--heldout-share",
        type=float,
        default=None,
        help="what a member's training holds out of the repositories: it chooses what is taken of the federation",
    )
    parser.add_argument("--while-stdin", action="store_true", help="end when stdin closes: for the agent")
    arguments = parser.parse_args()
    telemetry.configure_logging()
    if arguments.while_stdin:
        end_when_stdin_closes()
    try:
        server.serve(
            arguments.state.absolute(),
            port=arguments.port,
            repositories=[path.absolute() for path in arguments.repo],
            precision=arguments.precision,
            patience=PATIENCE_SECONDS,
            layers=arguments.layers,
            show=arguments.show,
            heldout_share=arguments.heldout_share,
        )
    except SordinoError as error:
        return tell_and_end(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
