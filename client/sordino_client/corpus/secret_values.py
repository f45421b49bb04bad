"""Decides whether a literal looks like a credential, by its characters alone; other modules judge the code around it.

Two measures carry it. *Randomness*: the share of neighbouring characters that written words do not have beside each
other (`qx`, `7k`, `vB`). In 4,000 real source files 98.3 of 100 pairs of letters inside identifiers are among the 320
of `_WRITTEN`; in drawn letters 47 of 100 are. *Placeholders*: what documentation writes where a credential would be,
and the sample keys that vendors print in theirs.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter

# First letter, then every letter that often follows it.
_PAIRS = (
    "aabcdfgiklmnprstuvwxy baeijlorsuy cacehiklorstuy dadeilorstuwy eabcdefgilmnopqrstvwxy faefilorstuy"
    " gaeghilmnoprstu haeiortu iabcdefgklmnoprstvxz jaesu kaeilsw ladefilopstuvy mabeilmopstu nacdefgiklmnopstuvy"
    " oabcdefgiklmnoprstuvwx padehiloprstuy qu racdefgiklmnoprstuvwy sacdefghiklmnoprstuwy tacdefhilmnoprstuwxy"
    " uabcdefgilmnprst vaeio waehinorsw xaceiptx yeilmnoprst zae"
)
_WRITTEN = frozenset(pairs[0] + second for pairs in _PAIRS.split() for second in pairs[1:])

# The placeholder that masking writes. It is constant, because one as long as its credential would tell the length.
PLACEHOLDER = "<secret>"

_SAMPLE = re.compile(r"example|x{6,}|your[-_]", re.IGNORECASE)
_SAMPLE_WORD = re.compile(
    r"example|sample|placeholder|change[-_ ]?(?:me|this|it)|dummy|redacted|replace[-_ ]?(?:me|this)|insert[-_ ]"
    r"|your[-_ ]?\w*(?:key|token|secret|password)|not[-_ ]?(?:a[-_ ]?)?(?:real|secret)|todo|fixme|x{5,}|lorem"
    r"|abcdefgh|hijklmn|123456789|0123456|deadbeef|foobar|\*{3}|\.\.\.|0{8,}",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"<.*>?|\$?\{.*\}?|\[.*\]|\$\(.*|\$[A-Za-z_]\w*|%\w*%?|%\(\w+\)\w|@\w+@|.*\$\{.*|.*\{\{.*|x{3,}.*|\*+|\.{2,}|-+|_+|#+|\W{1,3}"
    r"|(?:my|your|the|some|test|fake|dummy|example|sample|new|old|db|user|bad|wrong|good)?[-_. ]?"
    r"(?:pass(?:word|wd|phrase|w)?|pwd|pw|secret|token|user(?:name)?|changeme|change[-_]me|example|placeholder|none|null"
    r"|nil|true|false|undefined|string|str|bytes|optional|required|foo|bar|baz|test|testing|admin|root|guest|postgres"
    r"|mysql|redacted|hidden|default|empty|value|key|letmein|p|s|a|b)[-_]?\d{0,4}|\d{1,4}|abc\d*|qwerty\w*|p[a@]ssw0rd",
    re.IGNORECASE,
)
# Words that name a credential, an algorithm or a format: a literal made of these is a name.
_NAMING = re.compile(
    r"passw(?:or)?d|passwd|passphrase|secret|token|credential|private|public|header|session|cookie|auth|bearer|csrf"
    r"|(?<![a-z])(?:key|keys|file|name|path|field|type|id|url|uri|field|input|form|label|hint|error|invalid)(?![a-z])",
    re.IGNORECASE,
)
_ALGORITHM = re.compile(
    r"(?<![A-Za-z0-9])(?:[A-Za-z]*(?:hmac|with|and))?(?:hmac|pbkdf|sha|md|aes|rsa|des|utf|oauth|x|pkcs|ed|curve|base|latin"
    r"|iso|hs|rs|es|ps|kerberos|p|s|v|tls|ssl|ipv|log|http|web|ecdh|ecdsa|secp|k8s|blake|ripemd|cp|ucs|int|uint|float|rc"
    r"|chacha|poly|argon|scrypt|bcrypt|level|part|step|node|host|server|user|test|win|x86_|amd|arm)[-_]?\d+[a-z]?\d*"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE,
)
# Sample keys from vendors' documentation, as SHA-256 digests. They belong to nobody, but if they were written out,
# every scanner that reads this repository would report them.
_SAMPLES = frozenset(
    (
        "2cafc0970149a84f3b9e62eaf169f36f59907a3b3e31f7b82e68c69cd27f7326",
        "f2d6ca16515033e5dce14eba840b979d27b5cbae24bb3e5bf484339667f86397",
        "3543c50b0cb9cea8e55eb1f529b79f043cb250d485fde7b66cabbb5183add7da",
        "7f75367e7881255134e1375e723d1dea8ad5f6a4fdb79d938df1f1754a830606",
        "0011cc25eb4320717494d2703e8cba85743e71b500283c21c8b88147992f9059",
        "aa6547439583c3a275d4542a0df6c1ad6a863971be9f2a2220f027cc02aef615",
    )
)

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_HEX = re.compile(r"(?:0x)?[0-9a-fA-F]+")
_REFERENCE = re.compile(r"[A-Za-z_$@][\w$]*(?:(?:(?:\.|::|->|/)[A-Za-z_$][\w$-]*)|[(\[][\w$'\", .]*[)\]])+")
_VERSION = re.compile(r"[\d.]+\.\d[\d.]*(?:\\x00)?")
_PATH = re.compile(
    r"(?:\.{0,2}/|~/|[A-Za-z]:\\).*|\w+://[^:@]*|[^=;]*\.(?:py|js|ts|go|rs|java|json|ya?ml|toml|pem|key|crt|txt|html?|xml|php"
    r"|rb|cfg|conf|ini|env|sock|log|md|sh|cs|c|h|cpp|svg|png|css)"
)


def bits_per_character(value: str) -> float:
    """Shannon entropy of the characters of a non-empty string, in bits (a random base64 key of 32 has about 4.5)."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


def is_sample(value: str) -> bool:
    """Whether a value that has a credential's shape is one that a vendor's documentation prints."""
    if _SAMPLE.search(value) is not None or len(set(value)) <= max(2, len(value) // 16):
        return True
    return hashlib.sha256(value.encode("utf-8", "replace")).hexdigest() in _SAMPLES


def is_placeholder(value: str) -> bool:
    """Whether a literal is one that documentation uses: `${PASSWORD}`, `<secret>`, `password`, `xxxx`, a sample key."""
    return (
        _PLACEHOLDER.fullmatch(value) is not None
        or _SAMPLE_WORD.search(value) is not None
        or is_sample(value)
    )


def randomness(value: str) -> float:
    """The share of neighbouring characters that written words do not have beside each other, 0 to 1.

    Letters are compared without case; a change from a lower to an upper case letter begins a new word and counts as
    written. | drawn from letters and digits | hex | words and identifiers |: 0.6 | 0.5 | under 0.15.
    """
    folded = value.lower()
    unwritten = counted = 0
    for at in range(len(value) - 1):
        first, second = folded[at], folded[at + 1]
        letters = first.isalpha() + second.isalpha()
        digits = first.isdigit() + second.isdigit()
        if letters + digits < 2:
            continue  # beside a dash or dot
        counted += 1
        if letters == 1:
            unwritten += 1
        elif letters == 2 and first + second not in _WRITTEN:
            new_word = value[at].islower() and value[at + 1].isupper()
            unwritten += not new_word
    return unwritten / counted if counted else 0.0


def looks_random(value: str, *, least: int = 20) -> bool:
    """Whether a run of characters was drawn rather than written: keys, tokens, digests."""
    if len(value) < least or is_placeholder(value) or any(map(str.isspace, value)):
        return False
    digits = sum(map(str.isdigit, value))
    if _HEX.fullmatch(value):
        return len(value) >= 24 and digits < len(value) and bits_per_character(value) >= 2.8
    if not digits and len(value) < 28:
        return False
    return bits_per_character(value) >= 3.2 and randomness(value) >= 0.3


def is_written(value: str) -> bool:
    """Whether a literal is a name, a sentence, a path or a reference in code, and so no credential."""
    if any(map(str.isspace, value)) or "\\u" in value or _VERSION.fullmatch(value) is not None:
        return True
    if (_REFERENCE.fullmatch(value) or _PATH.fullmatch(value)) and randomness(value) < 0.3:
        return True
    rest = _ALGORITHM.sub("", value)
    if _NAMING.search(value) is not None:
        return randomness(rest) < 0.3
    if rest.isalpha() and len(rest) < 12:
        return randomness(rest) < 0.6  # a short word or abbreviation may have letters that words seldom have
    return not any(map(str.isdigit, rest)) and randomness(rest) < 0.3


def may_be_password(value: str) -> bool:
    """For a literal that stands where a password does: anything that is neither a placeholder nor written text."""
    if len(value) < 4 or len(value) > 4096 or is_placeholder(value):
        return False
    if value.isdigit():
        return len(value) >= 6
    if dashed_words(value) >= 3 and _NAMING.search(value) is None:
        return True
    return not is_written(value)


def may_be_key(value: str) -> bool:
    """For a literal that stands where a key or token does: drawn, a UUID, or letters mixed with digits."""
    if len(value) < 8 or len(value) > 1 << 16 or is_placeholder(value) or is_written(value):
        return False
    if _UUID.fullmatch(value) or looks_random(value):
        return True
    return any(map(str.isdigit, value)) and (randomness(value) >= 0.2 or any(not c.isalnum() for c in value))


def is_hex(value: str) -> bool:
    """Whether these are hexadecimal digits, with or without `0x`."""
    return _HEX.fullmatch(value) is not None


def is_uuid(value: str) -> bool:
    """Whether this is a UUID in its usual form."""
    return _UUID.fullmatch(value) is not None


def dashed_words(value: str) -> int:
    """How many plain words stand in a passphrase such as `amber-canyon-tulip-onyx`, 0 for anything else."""
    parts = value.split("-")
    return len(parts) if all(part.isalpha() and len(part) > 2 for part in parts) else 0
