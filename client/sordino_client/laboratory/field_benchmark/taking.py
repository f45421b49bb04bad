"""What a member takes from the federation, and the gain.

The product's own method chooses, and the gain is measured on files that were not used for the choice.

A member's held-out files are in two parts. One part is for the report and is measured with every contender. The other
part is for the choice (sordino_client.completion.taking), made with the member's own memory: the share with which the
member's own model moves towards its own model on the federation, and whether it reads the shared memory. A newcomer
with eight files has no code to hold out, so it has no choice and takes everything.

The mean of two trained models is better than one, whatever they were trained on. The contender `base own twice` shows
how much of the gain comes from this averaging only. It is the member's own model on the public base, moved by the same
share towards a second training of that model with other random numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from sordino_client.completion.taking.choice import SHARES, Taking, best_of, candidates
from sordino_client.laboratory.federation_benchmark.stages import Facts
from sordino_client.laboratory.field_benchmark.knowledge import Remembered
from sordino_client.laboratory.field_benchmark.paired import Files
from sordino_client.laboratory.field_benchmark.party import Party, heldout_plan
from sordino_client.laboratory.field_benchmark.profile import FieldProfile
from sordino_platform.architecture import ModelConfig, Parameters, Vector
from sordino_platform.evaluation import Measurement, measured_texts
from sordino_platform.model import build_decoder
from sordino_platform.tokenizer import Tokenizer
from sordino_privacy.counts import SharedMemory
from sordino_privacy.errors import DataError

TAKEN, TWICE = "taken", "base own twice"
# The choice uses this many tokens for each reported one.
CHOOSING = 2


def between(alone: Parameters, federated: Parameters, share: float) -> dict[str, Vector]:
    """The weighted mean of two models: `share` 0 is the first, 1 the second."""
    return {name: (1 - share) * value + share * federated[name] for name, value in alone.items()}


def choose_and_measure(
    party: Party,
    alone: Parameters,
    again: Parameters,
    federated: Parameters,
    shared: SharedMemory,
    config: ModelConfig,
    tokenizer: Tokenizer,
    profile: FieldProfile,
    *,
    on_progress: Callable[[str], None],
) -> Facts:
    """Chooses on files that are not in the report, then measures the choice once on files that are.

    `alone` and `federated` are the party's own models, own adapters folded in; `again` is `alone` trained with other
    random numbers. Raises DataError when all held-out files are in the report.
    """
    texts = party.heldout.texts()
    reported = measured_texts(texts, tokenizer, heldout_plan(profile, profile.heldout_tokens))
    choosing = [text for text in texts if text not in reported]
    own = party.memories["all"]
    assert own is not None
    memories = {False: Remembered(own), True: Remembered(own.with_shared(shared))}

    def measured(
        files: Sequence[str], tried: Sequence[Taking], tokens: int, *, towards: Parameters = federated
    ) -> dict[Taking, Files]:
        measurement = Measurement(tokenizer, {party.name: files}, heldout_plan(profile, tokens))
        found = {}
        for one in tried:
            model = build_decoder(config, between(alone, towards, one.share)).eval()
            memory = memories[one.shared_memory]
            columns = measurement.columns_of_model(model, memories={party.name: memory})
            found[one] = Files.of(columns[party.name])
        return found

    try:
        # Own adapters are new here, and every figure that is compared with this one has them too.
        ways = [one for one in candidates(shares=SHARES, own=True, shared_memory=True) if one.own]
        tried = measured(choosing, ways, CHOOSING * profile.heldout_tokens)
    except DataError as error:
        raise DataError(f"{party.name} holds out no more than is reported", hint=error.hint) from error
    bits = {one: files.bits_per_byte for one, files in tried.items()}
    taking = best_of(bits)
    on_progress(f"{party.name}: takes {taking.share:g}, shared memory {taking.shared_memory}")
    (taken,) = measured(texts, [taking], profile.heldout_tokens).values()
    control = replace(taking, shared_memory=False)
    (twice,) = measured(texts, [control], profile.heldout_tokens, towards=again).values()
    return {
        "figures": {"all": {TAKEN: asdict(taken), TWICE: asdict(twice)}},
        "taken": {
            "taking": asdict(taking),
            "files": len(next(iter(tried.values())).bits),
            "tokens": sum(next(iter(tried.values())).tokens),
            "tried": [asdict(one) | {"bits_per_byte": value} for one, value in bits.items()],
        },
    }
