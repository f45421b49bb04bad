"""Measures one contender on each member's held-out packages: the model alone, and the model with the memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sordino_client.completion.memory.measured import MeasuredMemory
from sordino_client.laboratory.federation_benchmark.profile import Profile
from sordino_client.laboratory.federation_benchmark.repositories import Repository
from sordino_platform.architecture import ModelConfig, Parameters
from sordino_platform.evaluation import Measurement, Plan
from sordino_platform.model import build_decoder
from sordino_platform.tokenizer import Tokenizer

# Windows overlap by a quarter of the context, a third cheaper than the half of `sordino eval`.
OVERLAP = 0.25
PROMPT_TOKENS, LINE_TOKENS = 256, 32
LAYERS = ("model", "with_memory")
Facts = dict[str, dict[str, Any]]


class Worth:
    """Measures contenders, all on the same tokens, cursors and memories."""

    def __init__(
        self, folder: Path, members: Mapping[str, Repository], tokenizer: Tokenizer, profile: Profile
    ) -> None:
        lined = Plan(
            tokens=profile.heldout_tokens,
            tokens_per_file=1500,
            lines=profile.heldout_lines,
            prompt_tokens=PROMPT_TOKENS,
            line_tokens=LINE_TOKENS,
            overlap=OVERLAP,
        )
        unlined = Plan(tokens=lined.tokens, tokens_per_file=lined.tokens_per_file, lines=0, overlap=OVERLAP)
        texts = {name: repository.texts() for name, repository in members.items()}
        self.members = tuple(members)
        self._memories = {
            name: MeasuredMemory(folder / name, repository.documents(), tokenizer)
            for name, repository in members.items()
        }
        self._each = {
            lines: {name: Measurement(tokenizer, {name: texts[name]}, plan) for name in texts}
            for lines, plan in ((True, lined), (False, unlined))
        }

    def of(
        self,
        config: ModelConfig,
        parameters: Parameters,
        *,
        members: Sequence[str] | None = None,
        layers: Sequence[str] = LAYERS,
        lines: bool = False,
    ) -> Facts:
        """Figures by layer and member. `lines` also completes lines, which doubles the cost."""
        found: Facts = {layer: {} for layer in layers}
        model = build_decoder(config, parameters).eval()
        for name in members or self.members:
            for layer in layers:
                memories = None if layer == "model" else self._memories
                found[layer][name] = _without_projects(
                    self._each[lines][name].of_model(model, memories=memories)
                )
        return found

    def of_memory(self) -> Facts:
        """Figures of the memory without any model, by member."""
        return {
            "memory": {
                name: _without_projects(self._each[True][name].of_memory(self._memories))
                for name in self.members
            }
        }


def _without_projects(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in figures.items() if key != "per_project"}
