"""`sordino client audit`: measures on this machine what the training engine claims. Light to import."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sordino_privacy.dpsgd import TrainingPlan
from sordino_privacy.errors import SordinoError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from sordino_privacy.audit.canaries import CanaryResult
    from sordino_privacy.dpsgd.engine import PrivateTraining
    from sordino_privacy.dpsgd.gradients import WindowLosses

CANARY_TOKENS = 64
FAILED = 12


class AuditError(SordinoError):
    """The running engine does not do what it claims. Nothing may be trained with it."""

    exit_code = FAILED


def audit(
    noise_multiplier: float = typer.Option(1.0, help="The plan's noise, in units of the clip."),
    sampling_rate: float = typer.Option(0.1, help="The plan's sampling rate."),
    steps: int = typer.Option(20, help="Noisy steps of the one-run audit."),
    canaries: int = typer.Option(128, min=0, help="Canaries of the one-run audit; 0 leaves it out."),
    shares: int = typer.Option(
        3,
        min=0,
        max=64,
        help="Honest members whose shares carry the noise, where it is distributed; 0: not audited.",
    ),
    picture: Path | None = typer.Option(None, help="Write the findings as a PNG."),
    as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON on stdout."),
) -> None:
    """Audits the private training engine of this installation: noise, clip, sampler, an attack with canaries, and
    the same of a count of phrases; and both with noise in shares, in a sum of the fewest members.

    Exit code 12 when a claim does not hold. Reads no repository and trains nothing that is kept.

    Example: sordino client audit --picture audit.png
    """
    plan = TrainingPlan(
        sampling_rate=sampling_rate,
        noise_multiplier=noise_multiplier,
        clip_norm=0.5,
        steps=steps,
        windows_per_unit=2,
        window=CANARY_TOKENS,
        learning_rate=0.5,
        optimiser="sgd",
        delta=1e-6,
        expected_units=32,
    )
    result, scores = run_audit(plan, canaries, shares)
    if picture is not None:
        draw(picture, result, scores)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _print(result)
    if not result["passed"]:
        raise AuditError(
            "the private training engine does not do what it claims",
            hint="do not train with this installation; compare it with a fresh one and report the findings",
        )


def run_audit(
    plan: TrainingPlan, canaries: int, shares: int
) -> tuple[dict[str, Any], tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None]:
    """The mechanism audit, and the one-run audit when `canaries` is above 0, on a small decoder with random weights;
    with the noise in `shares` too, unless that is 0 (1 share is the whole noise).

    Returns the findings as JSON and, for the picture, the canaries' scores and which were in.
    """
    import numpy as np
    import torch

    from sordino_client.training.loop import window_losses
    from sordino_platform.architecture import ModelConfig
    from sordino_platform.model import Decoder
    from sordino_privacy.accounting import SampledGaussian, epsilon
    from sordino_privacy.audit.counts import audit_counts
    from sordino_privacy.audit.mechanism import audit_mechanism
    from sordino_privacy.audit.one_run import audit_run
    from sordino_privacy.audit.report import AuditReport
    from sordino_privacy.audit.shares import audit_shared_counts, audit_shared_run, audit_shares, released
    from sordino_privacy.counts import CountPlan
    from sordino_privacy.dpsgd.engine import PrivateTraining
    from sordino_privacy.keystream import Keystream

    def engine(model: nn.Module, plan: TrainingPlan, losses: WindowLosses) -> PrivateTraining:
        return PrivateTraining(model, plan, window_losses=losses, keystream=Keystream.from_system())

    config = ModelConfig(vocabulary=512, context=CANARY_TOKENS, layers=2, heads=4, width=64, hidden=128)
    keystream = Keystream.from_system()

    def random_unit(rows: int) -> Tensor:
        words = keystream.words(rows * (CANARY_TOKENS + 1)) % np.uint64(config.vocabulary)
        return torch.from_numpy(words.astype(np.int32)).view(rows, CANARY_TOKENS + 1)

    trained = audit_mechanism(engine, plan, Decoder(config), window_losses, [random_unit(1), random_unit(2)])
    count = CountPlan(
        phrases=100,
        largest_count=30,
        noise_multiplier=plan.noise_multiplier,
        delta=plan.delta,
        salt=int(keystream.words(1)[0] >> 2),
    )
    findings = [*trained.findings, *audit_counts(count)]
    if shares:
        findings += [*audit_shares([engine] * shares, plan), *audit_shared_counts([released] * shares, count)]
    report = AuditReport(findings=tuple(findings))
    claimed = epsilon([SampledGaussian.of(plan)], plan.delta)
    result: dict[str, Any] = {
        **report.as_json(),
        "claimed_epsilon": claimed.value,
        "delta": plan.delta,
        "one_run": None,
        "one_run_in_shares": None,
    }
    if not canaries:
        return result, None
    units = [random_unit(1) for _ in range(canaries)]
    verdict, scores, inserted = audit_run(engine, plan, Decoder(config), window_losses, [], units, keystream)
    result["one_run"] = judged(verdict, claimed.value)
    if shares:
        found, _, _, claim = audit_shared_run(
            [engine] * shares, plan, Decoder(config), window_losses, units, keystream
        )
        result["one_run_in_shares"] = judged(found, claim)
    runs = [result[name] for name in ("one_run", "one_run_in_shares") if result[name] is not None]
    result["passed"] = report.passed and all(run["passed"] for run in runs)
    return result, (scores, inserted)


def judged(verdict: CanaryResult, claimed: float) -> dict[str, Any]:
    """The epsilon that the attack proved beside the claimed one."""
    return {**asdict(verdict), "claimed": claimed, "passed": verdict.lower <= claimed}


def draw(
    path: Path, result: dict[str, Any], scores: tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]] | None
) -> None:
    """The findings as bars inside their ranges and, where there were canaries, what an attacker sees of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [finding["name"] for finding in result["findings"]]
    for row, finding in enumerate(result["findings"]):
        # Each range is drawn as 0 to 1.
        width = finding["high"] - finding["low"]
        place = (finding["measured"] - finding["low"]) / width
        left.plot(min(max(place, -0.5), 1.5), row, "o", color="tab:green" if finding["passed"] else "tab:red")
    left.axvspan(0, 1, alpha=0.15, color="tab:green")
    left.set(yticks=range(len(names)), yticklabels=names, xlim=(-0.6, 1.6), xticks=[0, 1])
    left.set_xticklabels(["lower end", "upper end"])
    left.set_title("mechanism: each measure\nwithin its claimed range")
    if scores is not None:
        values, inserted = scores
        right.hist([values[inserted], values[~inserted]], bins=24, label=["canaries that were in", "out"])
        one = result["one_run"]
        right.set_title(
            f"one run: area under the curve {one['area']:.2f},\n"
            f"epsilon {one['lower']:.2f} proven of {one['claimed']:.2f} claimed"
        )
        right.set(xlabel="fall of the canary's loss, nats per token", ylabel="canaries")
        right.locator_params(axis="x", nbins=6)
        right.legend()
    figure.savefig(path, format="png", dpi=110)


def _print(result: dict[str, Any]) -> None:
    for finding in result["findings"]:
        span = f"[{finding['low']:.5f}, {finding['high']:.5f}]"
        typer.echo(
            f"{_mark(finding)} {finding['name']:25} {finding['measured']:10.5f}  in {span}  {finding['what']}"
        )
    for name in ("one_run", "one_run_in_shares"):
        if one := result[name]:
            proven = f"epsilon {one['lower']:.2f} proven by attack, {one['claimed']:.2f} claimed"
            typer.echo(
                f"{_mark(one)} {name:25} {proven}; AUC {one['area']:.3f} of {one['canaries']} canaries"
            )


def _mark(checked: dict[str, Any]) -> str:
    return "ok    " if checked["passed"] else "FAILED"
