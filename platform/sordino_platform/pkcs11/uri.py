"""Names a key in a token by a URI of RFC 7512.

    pkcs11:token=sordino;object=acme?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/sordino/pin

A URI never contains a PIN, because URIs get into shell histories and logs: `pin-value` is refused, and `pin-source`
names the file that holds it. The URI must identify the token: a key is never looked for in a token that happens to be
present.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

from sordino_privacy.errors import ConfigurationError

SCHEME: Final = "pkcs11:"
MAX_URI_CHARACTERS: Final = 2048
EXAMPLE: Final = (
    "pkcs11:token=LABEL;object=LABEL?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/PATH"
)
PATH_NAMES: Final = frozenset({"token", "serial", "manufacturer", "model", "object", "id", "type"})
QUERY_NAMES: Final = frozenset({"module-path", "pin-source"})
# The characters of RFC 7512's pk11-path-res-avail and pk11-query-res-avail, and what is percent-encoded.
VALUE: Final = re.compile(r"(?:[A-Za-z0-9\-._~:\[\]@!$'()*+,=&/?|]|%[0-9A-Fa-f]{2})*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pkcs11Uri:
    """A key in a token. Attributes that are None are not compared; `text` is the whole URI, as it was written."""

    text: str
    token: str | None
    serial: bytes | None
    manufacturer: str | None
    model: str | None
    label: str | None
    id: bytes | None
    module: Path
    pin_file: Path

    @classmethod
    def parse(cls, text: str) -> Pkcs11Uri:
        """The key that a URI names. Raises ConfigurationError; the message holds no part of the URI's values."""
        if not text.startswith(SCHEME):
            raise _refused("it does not begin with pkcs11:")
        if len(text) > MAX_URI_CHARACTERS or not text.isascii():
            raise _refused(f"it has more than {MAX_URI_CHARACTERS} characters, or others than ASCII")
        path, _, query = text[len(SCHEME) :].partition("?")
        if "pin-value" in query:
            raise _refused("it holds a PIN, which does not belong there")
        where, how = _attributes(path, ";", PATH_NAMES), _attributes(query, "&", QUERY_NAMES)
        if how.keys() != QUERY_NAMES:
            raise _refused("it names no module-path, or no pin-source")
        if not {"token", "serial"} & where.keys():
            raise _refused("it names no token, neither by its label nor by its serial number")
        if not {"object", "id"} & where.keys():
            raise _refused("it names no key, neither by its label (object) nor by its id")
        if where.get("type", b"private") != b"private":
            raise _refused("it names an object that is no private key")
        return cls(
            text=text,
            token=_said(where, "token"),
            serial=where.get("serial"),
            manufacturer=_said(where, "manufacturer"),
            model=_said(where, "model"),
            label=_said(where, "object"),
            id=where.get("id"),
            module=_file(how["module-path"]),
            pin_file=_file(how["pin-source"].removeprefix(b"file:")),
        )

    def __str__(self) -> str:
        """The key and its token for a person: no path, and nothing secret."""
        token = self.token or (self.serial or b"").decode("ascii", "replace")
        return f"key {self.label or (self.id or b'').hex()} in token {token}"


def _attributes(text: str, separator: str, known: frozenset[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(separator) if text else ():
        name, equals, value = part.partition("=")
        if name not in known or not equals or not value:
            raise _refused("it has an attribute that is not known here, or one without a value")
        if name in found:
            raise _refused("it says one attribute twice")
        if VALUE.fullmatch(value) is None:
            raise _refused("it has a character that must be percent-encoded")
        found[name] = unquote_to_bytes(value)
    return found


def _said(found: dict[str, bytes], name: str) -> str | None:
    if name not in found:
        return None
    try:
        text = found[name].decode("utf-8")
    except UnicodeDecodeError:
        raise _refused("it has a name that is not UTF-8") from None
    if not text.isprintable():
        raise _refused("it has a name that cannot be printed")
    return text


def _file(value: bytes) -> Path:
    try:
        path = Path(value.decode("utf-8"))
    except UnicodeDecodeError:
        raise _refused("it has a path that is not UTF-8") from None
    if not path.is_absolute() or "\0" in str(path):
        raise _refused("module-path and pin-source are absolute paths; of a pipe or command no PIN is taken")
    return path


def _refused(why: str) -> ConfigurationError:
    return ConfigurationError(f"that PKCS#11 URI cannot be used: {why}", hint=f"it looks like {EXAMPLE}")
