"""The console's sign-in: authorization code with PKCE (RFC 6749, 7636, 9207; OpenID Connect Core 3.1).

What belongs to one sign-in (state, nonce, verifier) is sealed into a cookie of the browser that began it, under a key
of this process, so that whoever begins a thousand of them fills no memory here. Each is good for ten minutes and for
one answer. Where a browser is sent afterwards is never taken from a request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, quote, urlencode

from cryptography.fernet import Fernet, InvalidToken

from sordino_coordinator.oidc.provider import OidcProvider, ProviderSilentError
from sordino_coordinator.oidc.settings import OidcSettings
from sordino_coordinator.oidc.tokens import Principal, TokenRefusedError, TokenVerifier

LOGIN_SECONDS: Final = 600
MAX_QUERY_CHARACTERS: Final = 8192
MAX_FIELDS: Final = 16
REMEMBERED: Final = 4096
RANDOM_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Where to send the browser, and what it must bring back as its cookie."""

    url: str
    cookie: str


class ConsoleLogin:
    """Signs operators in by the provider. `clock` is seconds since 1970. Any thread may ask."""

    def __init__(
        self,
        settings: OidcSettings,
        *,
        clock: Callable[[], float] = time.time,
        provider: OidcProvider | None = None,
    ) -> None:
        """Reads the client's secret. Raises ConfigurationError, StorageError."""
        self._settings, self._clock, self._secret = settings, clock, settings.secret()
        self._provider = provider or OidcProvider(settings)
        self._tokens = TokenVerifier(settings, self._provider, clock=clock)
        self._seal = Fernet(Fernet.generate_key())
        self._lock, self._answered = threading.Lock(), dict[str, None]()
        self.session_minutes: int = settings.session_minutes

    def begin(self) -> Beginning:
        """A new sign-in. Raises ProviderSilentError."""
        endpoint = self._provider.discovered().authorization_endpoint
        state, nonce, verifier = (secrets.token_urlsafe(RANDOM_BYTES) for _ in range(3))
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._settings.redirect_uri,
            "scope": " ".join(self._settings.scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        kept = json.dumps([state, nonce, verifier]).encode()
        return Beginning(
            url=f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}",
            cookie=self._seal.encrypt_at_time(kept, int(self._clock())).decode(),
        )

    def finish(self, query: str, cookie: str) -> Principal:
        """The person who came back from the provider. Raises TokenRefusedError (nobody was signed in),
        ProviderSilentError."""
        state, nonce, verifier = self._opened(cookie)
        if len(query) > MAX_QUERY_CHARACTERS:
            raise TokenRefusedError("that is no answer of the provider")
        try:
            said = parse_qs(query, max_num_fields=MAX_FIELDS, errors="strict", strict_parsing=True)
        except ValueError:
            raise TokenRefusedError("that is no answer of the provider") from None
        if any(len(values) != 1 for values in said.values()):
            raise TokenRefusedError("that is no answer of the provider")
        given = {name: values[0] for name, values in said.items()}
        if not hmac.compare_digest(given.get("state", "").encode(), state.encode()):
            raise TokenRefusedError("that answer belongs to another sign-in")
        self._once(state)
        if given.get("iss", self._settings.issuer) != self._settings.issuer:
            raise TokenRefusedError("that answer is another provider's")
        if "error" in given or not given.get("code"):
            raise TokenRefusedError("the provider did not sign this person in")
        return self._tokens.signed_in(self._redeemed(given["code"], verifier), nonce=nonce)

    def _opened(self, cookie: str) -> tuple[str, str, str]:
        """What was sealed when this browser began."""
        try:
            kept = self._seal.decrypt_at_time(cookie.encode(), LOGIN_SECONDS, int(self._clock()))
        except (InvalidToken, UnicodeEncodeError):
            raise TokenRefusedError("this browser began no sign-in, or longer than ten minutes ago") from None
        state, nonce, verifier = json.loads(kept)
        return state, nonce, verifier

    def _once(self, state: str) -> None:
        """Accepts one answer for each sign-in. The oldest sign-ins are forgotten long after their ten minutes, or
        earlier if there are very many; the provider, too, takes a code only once."""
        with self._lock:
            if state in self._answered:
                raise TokenRefusedError("that answer was given before")
            self._answered[state] = None
            while len(self._answered) > REMEMBERED:
                del self._answered[next(iter(self._answered))]

    def _redeemed(self, code: str, verifier: str) -> str:
        """The ID token that a code is good for."""
        settings, secret = self._settings, self._secret
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": settings.redirect_uri,
            "client_id": settings.client_id,
            "code_verifier": verifier,
        }
        # RFC 6749, section 2.3.1: both are form-encoded before they are put into the header.
        auth = None if secret is None else (quote(settings.client_id, safe=""), quote(secret, safe=""))
        token = self._provider.post(self._provider.discovered().token_endpoint, form, auth=auth).get(
            "id_token"
        )
        if not isinstance(token, str):
            raise ProviderSilentError(
                "the identity provider gave no ID token", hint="its client must allow openid"
            )
        return token
