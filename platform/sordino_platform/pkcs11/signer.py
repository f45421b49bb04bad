"""A key in a PKCS#11 token, as a signer.

Every signature opens a session of its own, and closes it. It costs a login. In return, a removed token is noticed at
once, and one that came back is used at once. A federation signs only a few messages per round.

The PIN is read from its file for each login. This process does not offer a refused PIN again, and never uses the last
try that a token allows, because a coordinator that is restarted many times must not lock its own key.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sordino_platform.durable import read_secret
from sordino_platform.pkcs11.uri import Pkcs11Uri
from sordino_privacy.errors import ConfigurationError
from sordino_privacy.signing import SignerError

T = TypeVar("T")
MAX_PIN_BYTES: Final = 256
KEY_BYTES: Final = 32
ID_BYTES: Final = 8
# Two ways to name the curve to a token (PKCS#11 3.0, section 2.3.5): the OID 1.3.101.112, and its name.
CURVE_PARAMETERS: Final = (bytes.fromhex("06032b6570"), b"\x13\x0cedwards25519")
POINT_HEADER: Final = b"\x04\x20"  # an OCTET STRING of 32 bytes
# A module is initialised without its own locks (the library passes none), so only one call may run at a time.
ONE_CALL: Final = threading.Lock()
REFUSED_PINS: Final[set[bytes]] = set()


class Pkcs11Signer:
    """An Ed25519 key in a token. `public_key` is the expected key; another key is never used to sign."""

    __slots__ = ("_key", "_public_key")

    def __init__(self, key: Pkcs11Uri, public_key: bytes) -> None:
        """Does not contact the token: reading a status and serving completions need no token."""
        self._key, self._public_key = key, public_key

    @classmethod
    def of_key_pair(cls, key: Pkcs11Uri) -> Pkcs11Signer:
        """The key pair that a URI names. If there is none, it is made in the token: sensitive and never extractable.

        Raises SignerError when the token does not answer; ConfigurationError when the key there could be exported, or
        is not an Ed25519 key.
        """
        public = _asked(key, lambda session: _found(session, key) or _made(session, key), write=True)
        return cls(key, public)

    @property
    def public_key(self) -> bytes:
        """The 32 bytes of the public key (RFC 8032)."""
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        """The signature over `message`, 64 bytes, verified. Raises SignerError."""
        signature = _asked(self._key, lambda session: _signed(session, self._key, message))
        try:
            Ed25519PublicKey.from_public_bytes(self._public_key).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise SignerError(
                f"the {self._key} signs with another key than this identity's",
                hint="put the token in that holds the identity's key, or correct identity.uri",
            ) from None
        return signature

    def __repr__(self) -> str:
        return f"Pkcs11Signer({self._key})"


def _library() -> Any:
    try:
        import pkcs11
    except ImportError:
        raise ConfigurationError(
            "keys in a PKCS#11 token need the package python-pkcs11", hint="pip install 'sordino[pkcs11]'"
        ) from None
    return pkcs11


def _asked(key: Pkcs11Uri, ask: Callable[[Any], T], *, write: bool = False) -> T:
    """Calls `ask` with a session with the key's token; returns its result. Raises SignerError."""
    pkcs11 = _library()
    with ONE_CALL:
        try:
            try:
                with _session(pkcs11, key, write=write) as session:
                    return ask(session)
            except _lost(pkcs11):
                # A module whose token was removed may need a new start before it sees the token again. No session is
                # open.
                pkcs11.lib(str(key.module)).reinitialize()
                with _session(pkcs11, key, write=write) as session:
                    return ask(session)
        except pkcs11.NoSuchKey:
            raise _silent(key, "it holds no such key") from None
        except pkcs11.MultipleObjectsReturned:
            raise _silent(key, "more than one of its keys is meant: say its id too") from None
        except pkcs11.PKCS11Error as error:
            # The library's exceptions name what happened; the values that they quote are never shown.
            raise _silent(key, f"the token does not answer ({type(error).__name__})") from None


def _lost(pkcs11: Any) -> tuple[type[Exception], ...]:
    """The errors of a module for a token that was removed, or that was absent for a time."""
    return (
        pkcs11.DeviceError,
        pkcs11.DeviceRemoved,
        pkcs11.GeneralError,
        pkcs11.ObjectHandleInvalid,
        pkcs11.SessionHandleInvalid,
        pkcs11.SlotIDInvalid,
        pkcs11.TokenNotPresent,
        pkcs11.TokenNotRecognised,
    )


@contextlib.contextmanager
def _session(pkcs11: Any, key: Pkcs11Uri, *, write: bool) -> Iterator[Any]:
    """A session with the token, logged in."""
    token = _token(pkcs11, key)
    pin = _pin(key)
    told = hashlib.sha256(b"\0".join((str(key).encode(), bytes(token.serial), pin.encode()))).digest()
    flags = token.flags
    if flags & pkcs11.TokenFlag.USER_PIN_LOCKED:
        raise _silent(key, "its PIN is locked")
    if flags & pkcs11.TokenFlag.USER_PIN_FINAL_TRY or told in REFUSED_PINS:
        raise _silent(
            key, "it refused this PIN before, and is not asked again, so that it does not lock itself"
        )
    try:
        session = token.open(user_pin=pin, rw=write)
    except (pkcs11.PinIncorrect, pkcs11.PinLenRange, pkcs11.PinInvalid):
        REFUSED_PINS.add(told)
        pkcs11.lib(str(key.module)).reinitialize()  # ends the session that was opened to log in
        raise _silent(key, f"it refused the PIN in {key.pin_file}") from None
    try:
        yield session
    finally:
        with contextlib.suppress(pkcs11.PKCS11Error):
            session.close()


def _token(pkcs11: Any, key: Pkcs11Uri) -> Any:
    """The one token that a URI names."""
    if not key.module.is_file():
        raise _silent(key, f"the PKCS#11 module {key.module} is not there")
    library = pkcs11.lib(str(key.module))
    found = _matching(library, key)
    if not found:
        library.reinitialize()  # a module may list the tokens of the time when it was loaded; no session is open now
        found = _matching(library, key)
    if len(found) != 1:
        raise _silent(
            key, "the token is not there" if not found else "more than one token is meant: say its serial too"
        )
    return found[0]


def _matching(library: Any, key: Pkcs11Uri) -> list[Any]:
    return [
        token
        for token in library.get_tokens(token_label=key.token, token_serial=key.serial)
        if key.manufacturer in (None, token.manufacturer_id) and key.model in (None, token.model)
    ]


def _pin(key: Pkcs11Uri) -> str:
    try:
        pin = read_secret(key.pin_file, limit=MAX_PIN_BYTES).decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{key.pin_file} does not hold a PIN") from None
    if not pin:
        raise ConfigurationError(f"{key.pin_file} does not hold a PIN")
    return pin


def _signed(session: Any, key: Pkcs11Uri, message: bytes) -> bytes:
    pkcs11 = _library()
    private = session.get_key(
        object_class=pkcs11.ObjectClass.PRIVATE_KEY,
        key_type=pkcs11.KeyType.EC_EDWARDS,
        label=key.label,
        id=key.id,
    )
    return bytes(private.sign(message, mechanism=pkcs11.Mechanism.EDDSA))


def _found(session: Any, key: Pkcs11Uri) -> bytes | None:
    """The public key of the existing pair; None when there is none."""
    pkcs11 = _library()
    try:
        private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=key.label, id=key.id)
    except pkcs11.NoSuchKey:
        return None
    if private.key_type is not pkcs11.KeyType.EC_EDWARDS:
        raise ConfigurationError(f"the {key} is no Ed25519 key")
    if private[pkcs11.Attribute.EXTRACTABLE] or not private[pkcs11.Attribute.SENSITIVE]:
        raise ConfigurationError(
            f"the {key} could be exported",
            hint="name a key that is not there yet: it is made in the token, and stays there",
        )
    public = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=key.label, id=key.id)
    return _point(public[pkcs11.Attribute.EC_POINT], key)


def _made(session: Any, key: Pkcs11Uri) -> bytes:
    """A new key pair in the token; its public key."""
    pkcs11 = _library()
    kind, attribute = pkcs11.KeyType.EC_EDWARDS, pkcs11.Attribute
    for number, curve in enumerate(CURVE_PARAMETERS, 1):
        terms = session.create_domain_parameters(kind, {attribute.EC_PARAMS: curve}, local=True)
        try:
            public, _ = terms.generate_keypair(
                mechanism=pkcs11.Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
                id=key.id or secrets.token_bytes(ID_BYTES),
                label=key.label or "sordino",
                store=True,
                private_template={
                    attribute.SENSITIVE: True,
                    attribute.EXTRACTABLE: False,
                    attribute.PRIVATE: True,
                    attribute.SIGN: True,
                },
            )
        except (pkcs11.DomainParamsInvalid, pkcs11.AttributeValueInvalid, pkcs11.ArgumentsBad):
            if number == len(CURVE_PARAMETERS):
                raise
            continue
        return _point(public[attribute.EC_POINT], key)
    raise AssertionError("unreachable")


def _point(value: bytes, key: Pkcs11Uri) -> bytes:
    """The public key in CKA_EC_POINT: its 32 bytes, which some tokens wrap in an OCTET STRING."""
    point = bytes(value)
    if len(point) == KEY_BYTES + len(POINT_HEADER) and point.startswith(POINT_HEADER):
        point = point[len(POINT_HEADER) :]
    if len(point) != KEY_BYTES:
        raise ConfigurationError(f"the {key} is no Ed25519 key")
    return point


def _silent(key: Pkcs11Uri, why: str) -> SignerError:
    return SignerError(
        f"the {key} does not sign: {why}",
        hint="put the token in, and see that its PIN file is right; no other key is used in its place",
    )
