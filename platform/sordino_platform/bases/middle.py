"""How a base fills in the middle. Its convention is recognised by tokens that only such bases have.

    family           order that it was trained on                                          known by
    qwen2.5-coder    <|fim_prefix|> P <|fim_suffix|> S <|fim_middle|>                      <|file_sep|>
    codegemma        <|fim_prefix|> P <|fim_suffix|> S <|fim_middle|>                      <|file_separator|>
    granite          <fim_prefix> P <fim_suffix> S <fim_middle>, from 4 on with bars       <reponame> or <|reponame|>
    starcoder2       <fim_prefix> P <fim_suffix> S <fim_middle>                            <file_sep>
    deepseek-coder   <｜fim▁begin｜> P <｜fim▁hole｜> S <｜fim▁end｜>                        these three
    codestral        [SUFFIX] S [PREFIX] P                                                 these two
    sordino          <|suffix|> S <|prefix|> P <|middle|>                                  the base that ships

Sources: the model cards of these families, and mistral-common for Codestral. Any other base completes from the prefix
alone; the local memory still reads the suffix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Family = Literal[
    "qwen2.5-coder", "codegemma", "granite", "starcoder2", "deepseek-coder", "codestral", "sordino"
]
# A suffix that comes first does not change while someone types, so what was computed for it can be reused.
Order = Literal["prefix-suffix-middle", "suffix-prefix"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FillInTheMiddle:
    """Token numbers of a base's convention. `middle` is None when the prefix comes last, with nothing after it. `stops`
    are tokens that end the middle, besides the base's end of text. Raises ValueError when the suffix comes last but
    there is no `middle`.
    """

    family: Family
    order: Order
    prefix: int
    suffix: int
    middle: int | None
    stops: frozenset[int]

    def __post_init__(self) -> None:
        if self.middle is None and self.order == "prefix-suffix-middle":
            raise ValueError("after the suffix, a middle token asks for the middle")

    def prompt(self, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
        """The prompt after which the base writes the text between `prefix` and `suffix`."""
        asked = [] if self.middle is None else [self.middle]
        if self.order == "suffix-prefix":
            return [self.suffix, *suffix, self.prefix, *prefix, *asked]
        return [self.prefix, *prefix, self.suffix, *suffix, *asked]

    @property
    def overhead(self) -> int:
        """How many tokens of the context the convention itself takes."""
        return 2 if self.middle is None else 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Convention:
    family: Family
    prefix: str
    suffix: str
    middle: str | None
    # One of these must exist too, because families share the first three.
    marks: tuple[str, ...]
    stops: tuple[str, ...] = ()


_BARS = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
_PLAIN = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")
_CONVENTIONS = (
    _Convention(
        family="codegemma",
        prefix=_BARS[0],
        suffix=_BARS[1],
        middle=_BARS[2],
        marks=("<|file_separator|>",),
        stops=("<|file_separator|>",),
    ),
    _Convention(
        family="qwen2.5-coder",
        prefix=_BARS[0],
        suffix=_BARS[1],
        middle=_BARS[2],
        marks=("<|file_sep|>",),
        stops=("<|endoftext|>", "<|im_end|>", "<|file_sep|>", "<|repo_name|>", "<|fim_pad|>"),
    ),
    _Convention(
        family="granite",
        prefix=_BARS[0],
        suffix=_BARS[1],
        middle=_BARS[2],
        marks=("<|reponame|>", "<|filename|>"),
        stops=("<|end_of_text|>", "<|filename|>", "<|reponame|>", "<|fim_pad|>"),
    ),
    _Convention(
        family="granite",
        prefix=_PLAIN[0],
        suffix=_PLAIN[1],
        middle=_PLAIN[2],
        marks=("<reponame>", "<filename>"),
        stops=("<|endoftext|>", "<|end_of_text|>", "<filename>", "<reponame>", "<fim_pad>"),
    ),
    _Convention(
        family="starcoder2",
        prefix=_PLAIN[0],
        suffix=_PLAIN[1],
        middle=_PLAIN[2],
        marks=("<file_sep>",),
        stops=("<|endoftext|>", "<file_sep>", "<repo_name>", "<fim_pad>"),
    ),
    _Convention(
        family="deepseek-coder",
        prefix="<｜fim▁begin｜>",
        suffix="<｜fim▁hole｜>",
        middle="<｜fim▁end｜>",
        marks=("<｜fim▁end｜>",),
        stops=("<｜end▁of▁sentence｜>", "<|EOT|>"),
    ),
    _Convention(
        family="codestral",
        prefix="[PREFIX]",
        suffix="[SUFFIX]",
        middle=None,
        marks=("[PREFIX]",),
        stops=("</s>", "[MIDDLE]"),
    ),
)


def convention(controls: Mapping[str, int]) -> FillInTheMiddle | None:
    """The convention of a base whose control tokens are `controls` (text to number); None: prefix only."""
    for known in _CONVENTIONS:
        needed = [known.prefix, known.suffix, *([known.middle] if known.middle else [])]
        if not all(text in controls for text in needed) or not any(m in controls for m in known.marks):
            continue
        marks = [controls[text] for text in needed]
        return FillInTheMiddle(
            family=known.family,
            order="suffix-prefix" if known.middle is None else "prefix-suffix-middle",
            prefix=controls[known.prefix],
            suffix=controls[known.suffix],
            middle=None if known.middle is None else controls[known.middle],
            stops=frozenset([*marks, *(controls[text] for text in known.stops if text in controls)]),
        )
    return None
