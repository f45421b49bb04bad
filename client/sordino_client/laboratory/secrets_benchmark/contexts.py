"""The places of credentials in code: templates by language.

In a template `$V` is the literal's text and `$snake`, `$camel`, `$Pascal`, `$UPPER` or `$kebab` the name of the
variable or key. A template without a name takes only values that are recognised by their shape, unless it is a `call`
whose own words say what its argument is. `block` templates may hold a value of several lines.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTemplate:
    """One template. `number` is its index among the templates of its language."""

    language: str
    number: int
    template: str
    block: bool
    call: bool

    @property
    def name(self) -> str:
        """Language and number. Unique."""
        return f"{self.language}-{self.number}"

    @property
    def named(self) -> bool:
        """Whether the template has a name that says what the value is."""
        return any(mark in self.template for mark in ("$snake", "$camel", "$Pascal", "$UPPER", "$kebab"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Language:
    """A language's file suffix (or whole file name), the code around a planted line, and its templates."""

    name: str
    suffix: str
    before: str
    after: str
    templates: tuple[str, ...]
    calls: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()

    @property
    def contexts(self) -> tuple[CodeTemplate, ...]:
        """The templates in their order: single lines, calls, blocks."""
        kinds = [(t, False, False) for t in self.templates]
        kinds += [(t, False, True) for t in self.calls] + [(t, True, False) for t in self.blocks]
        return tuple(
            CodeTemplate(language=self.name, number=n, template=t, block=block, call=call)
            for n, (t, block, call) in enumerate(kinds)
        )
