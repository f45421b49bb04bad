"""Fill-in-the-middle written into the prompt, as clients do for models with such tokens.

The sentinels are delimiters of a whole prompt, never tokens: they are found only where a prompt *ends* in the form of
one template, and what lies between them is plain text to the tokenizer. Source code that merely contains
`<fim_prefix>` is source code.
"""

from __future__ import annotations

from typing import NamedTuple


class _Template(NamedTuple):
    begin: str
    hole: str
    end: str


TEMPLATES = (
    _Template("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, SantaCoder
    _Template("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    _Template("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek
    _Template("<PRE> ", " <SUF>", " <MID>"),  # CodeLlama
)
CODESTRAL_SUFFIX, CODESTRAL_PREFIX = "[SUFFIX]", "[PREFIX]"


def split(prompt: str, suffix: str) -> tuple[str, str]:
    """The text before and behind the cursor. A prompt without the form of a template is all before it."""
    if suffix:
        return prompt, suffix  # the client speaks of both sides already: nothing in its text is a delimiter
    for template in TEMPLATES:
        if prompt.endswith(template.end):
            inner = prompt.removesuffix(template.end)
            # What stands before the first sentinel describes other files (`<|repo_name|>...`).
            _, begin, rest = inner.partition(template.begin)
            before, hole, behind = rest.rpartition(template.hole)
            if begin and hole:
                return before, behind
    if prompt.startswith(CODESTRAL_SUFFIX) and CODESTRAL_PREFIX in prompt:
        behind, _, before = prompt.removeprefix(CODESTRAL_SUFFIX).partition(CODESTRAL_PREFIX)
        return before, behind
    return prompt, suffix
