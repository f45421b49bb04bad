"""Finds credentials by the code around them: a name, a key, a call, a header, a connection string.

Lines are found by the words of `_WORDS`; only those are looked at closely, one at a time:

* A *literal* in quotes on a line that names a credential. Directly behind the name (`password: str = "V"`,
  `'password' => 'V'`, `setPassword("V")`) anything that is not written text is one; farther away (`getenv(NAME, "V")`)
  it must look drawn or mix letters and digits.
* A *bare* value behind a name: YAML, shell, Dockerfile, command line flags, `key=value;` inside a literal.
* A value one to three lines below a name that is itself a value (`- name: API_TOKEN`, `variable "api_token"`).

What a value looks like is judged by `secret_values`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator

from sordino_client.corpus.secret_naming import NAME, PASSWORD, SECRET, WEAK, strength
from sordino_client.corpus.secret_rules import Span
from sordino_client.corpus.secret_syntax import (
    ASSIGNS,
    BARE,
    BASIC,
    CALL,
    COMMAND,
    CONFIGURATION,
    DEFAULTED,
    DIGEST,
    ELEMENT,
    HEADER,
    LITERAL,
    NAMES_IT,
    PAIR,
    PAIRED,
    VALUE_BELOW,
)
from sordino_client.corpus.secret_values import (
    dashed_words,
    is_placeholder,
    is_written,
    looks_random,
    may_be_key,
    may_be_password,
    randomness,
)

_WORDS = (
    "pass", "pwd", "secret", "token", "key", "cred", "auth", "cookie", "session", "login", "sign", "identified by",
    "getconnection", "_connect(", "connect(", "pdo(", "bearer", "-u ", "--user", "mysql", "dsn", "salt", "sshpass",
    "securestring", "sig=", "otp", "basic ",
)  # fmt: skip

_PUNCTUATION = re.compile(r"[(){}\[\];,]")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
# YAML's tags, `!Ref` and `!vault`.
_TAG = re.compile(r"![A-Za-z]+")
# A longer line is read in pieces that overlap.
_LONGEST, _OVERLAP = 4_000, 500
_LONGEST_GAP = 160


def contextual(text: str, folded: str, language: str) -> Iterator[Span]:
    """Every credential that its surroundings give away. `folded`: the text in lower case, as long as the text."""
    for start, end in _lines(text, folded):
        for at in range(start, max(end, start + 1), _LONGEST - _OVERLAP):
            for first, last, rule in _line(text[at : min(end, at + _LONGEST)], language):
                yield Span(start=at + first, end=at + last, rule=rule)
        line = text[start : min(end, start + _LONGEST)]
        if (named := NAMES_IT.match(line)) and (says := strength(named["name"])):
            yield from _below(text, end, says)


def _below(text: str, end: int, says: int) -> Iterator[Span]:
    """`value: V` in the three lines behind a line that names a credential."""
    at = end + 1
    for _ in range(3):
        stop = text.find("\n", at)
        stop = len(text) if stop < 0 else stop
        found = VALUE_BELOW.match(text[at : min(stop, at + 1000)])
        if found is not None and _judge(says)(found["secret"]):
            yield _span(at, found, "secret", "assigned-secret")
        if stop >= len(text):
            return
        at = stop + 1


def _lines(text: str, folded: str) -> list[tuple[int, int]]:
    """Where the lines that hold one of the words begin and end, in order."""
    found: dict[int, int] = {}
    for word in _WORDS:
        at = folded.find(word)
        while at >= 0:
            start = text.rfind("\n", 0, at) + 1
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            found[start] = end
            at = folded.find(word, end)
    return sorted(found.items())


def _judge(says: int) -> Callable[[str], bool]:
    return {PASSWORD: may_be_password, SECRET: may_be_key, WEAK: _weak}[says]


def _weak(value: str) -> bool:
    return looks_random(value, least=16) or (
        may_be_key(value) and len(value) >= 16 and randomness(value) >= 0.25
    )


def _far(value: str, says: int) -> bool:
    """For a literal on the line of a name, but not assigned to it."""
    if says == PASSWORD and may_be_password(value) and not _name_like(value):
        return len(value) >= 8 or any(map(str.isdigit, value))
    if not may_be_key(value) or _PUNCTUATION.search(value) is not None:
        return False
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def _line(line: str, language: str) -> Iterator[tuple[int, int, str]]:
    names = [(m.end(), says, m) for m in NAME.finditer(line) if (says := strength(m[0]))]
    literals = [(m, m.lastindex or 1) for m in LITERAL.finditer(line)]
    for expression, rule in ((HEADER, "authorization-header"), (COMMAND, "command-line")):
        for match in expression.finditer(line):
            for group, value in match.groupdict().items():
                if (
                    value
                    and group not in {"user", "flag"}
                    and not _reference(value)
                    and may_be_password(value)
                ):
                    yield (*match.span(group), rule)
    for match in BASIC.finditer(line):
        if _is_basic(match["secret"]):
            yield (*match.span("secret"), "authorization-header")
    for match in ELEMENT.finditer(line):
        if (
            (says := strength(match["name"]))
            and not _reference(match["secret"])
            and _judge(says)(match["secret"])
        ):
            yield (*match.span("secret"), "assigned-secret")
    for match in PAIR.finditer(line):
        inside = any(m.start() < match.start("secret") < m.end() for m, _ in literals)
        value = match["secret"]
        listed = (
            inside or line[match.start()] in "?&" or (line.count("=") > 2 and len(PAIRED.findall(line)) > 2)
        )
        if may_be_password(value) if listed else not _reference(value) and _config(value, language):
            yield (*match.span("secret"), "connection-string-password")
    if names:
        yield from _literals(line, names, literals)
        yield from _bare(line, names, literals, language)
    if literals and (call := CALL.search(line)) is not None:
        behind = [(m, group) for m, group in literals if m.start() >= call.start()]
        statement = call[0].lower().startswith(("identified", "with", "password", "secure"))
        for literal, number in behind if statement else behind[1:]:
            if may_be_password(literal[number]) and not _name_like(literal[number]):
                yield (*literal.span(number), "call-argument")


def _literals(
    line: str, names: list[tuple[int, int, re.Match[str]]], literals: list[tuple[re.Match[str], int]]
) -> Iterator[tuple[int, int, str]]:
    for match, group in literals:
        value = match[group].strip("()\\\"' ")
        if not value or strength(value):
            continue
        start = match.start(group) + match[group].find(value)
        span = (start, start + len(value), "assigned-secret")
        end, says = max(((end, says) for end, says, _ in names if end <= match.start()), default=(0, 0))
        near = says and match.start() - end <= _LONGEST_GAP
        if near and ASSIGNS.fullmatch(line, end, match.start()) is not None and _judge(says)(value):
            yield span
            continue
        most = max((says for end, says, _ in names if not match.start() < end < match.end()), default=0)
        if most >= SECRET and _far(value, most) and not DIGEST.search(line[: match.start()]):
            yield span


def _bare(
    line: str,
    names: list[tuple[int, int, re.Match[str]]],
    literals: list[tuple[re.Match[str], int]],
    language: str,
) -> Iterator[tuple[int, int, str]]:
    for end, says, name in names:
        found = DEFAULTED.match(line, end)
        if found is None:
            found = BARE.match(line, end)
        if found is None:
            continue
        value = found["secret"].rstrip(".,:/")
        inside = any(m.start() < found.start("secret") < m.end() for m, _ in literals)
        spaced = "operator" in found.groupdict() and found["operator"].isspace()
        if spaced and not (
            line.lstrip().startswith(("ENV", "ARG")) or line[max(0, name.start() - 2) : name.start()] == "--"
        ):
            continue
        if _reference(value) or not _judge(says)(value):
            continue
        if inside or language in CONFIGURATION or _config(value, language):
            yield found.start("secret"), found.start("secret") + len(value), "assigned-secret"


def _config(value: str, language: str) -> bool:
    """Whether a value without quotes is one in this language: in code it must look drawn, or it is an expression."""
    if language in CONFIGURATION:
        return may_be_password(value)
    return looks_random(value, least=24 if _IDENTIFIER.fullmatch(value) else 16)


def _is_basic(value: str) -> bool:
    """Whether this is a user and a password as RFC 7617 encodes them."""
    try:
        user, colon, password = base64.b64decode(value + "=" * (-len(value) % 4)).decode().partition(":")
    except ValueError:
        return False
    return bool(colon) and user.isprintable() and len(password) > 3 and not is_placeholder(password)


def _reference(value: str) -> bool:
    return (
        value.startswith(("$", "{", "@{", "<"))
        or "${" in value
        or "{{" in value
        or _TAG.fullmatch(value) is not None
    )


def _name_like(value: str) -> bool:
    if _PUNCTUATION.search(value) is not None:
        return True  # code between two literals, where a line's quotes do not pair
    if dashed_words(value) >= 4:
        return False
    return is_written(value) or is_placeholder(value) or ("/" in value and randomness(value) < 0.3)


def _span(offset: int, match: re.Match[str], group: str, rule: str) -> Span:
    start, end = match.span(group)
    return Span(start=offset + start, end=offset + end, rule=rule)
