"""`[oidc]` of coordinator.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from sordino_platform.durable import read_secret
from sordino_platform.settings import SettingsModel
from sordino_privacy.errors import ConfigurationError

Algorithm = Literal["RS256", "ES256", "EdDSA"]
CALLBACK: Final = "/oidc/callback"
LOOPBACK_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})
MAX_SECRET_BYTES: Final = 4096

OIDC_COMMENTS: Final = {
    "issuer": "The provider, exactly as its discovery document names itself.",
    "client_id": "What the provider calls this coordinator's console.",
    "client_secret": "A file (mode 0600) with the console's secret; none for a public client.",
    "console_url": "Where browsers reach the console; the provider sends them back to this and /oidc/callback.",
    "audience": "The audience of tokens for the API; empty: the API takes none.",
    "authority": "The authority (PEM) of the provider's certificate [the system's].",
    "claim": "The claim that lists a person's groups.",
    "readers": "Groups that may read.",
    "operators": "Groups that may read and give orders.",
    "scopes": "What the console asks the provider for.",
    "algorithms": "The signatures that are accepted: of RS256, ES256 and EdDSA.",
    "skew_seconds": "How far the provider's clock may be from this one.",
    "session_minutes": "After so long a person signs in at the console anew, and their groups are looked at again.",
    "static_tokens": "Whether console.token and operator.token stay good beside the provider.",
}


class OidcSettings(SettingsModel):
    """See OIDC_COMMENTS and docs/guides/enterprise.md."""

    issuer: str = Field(max_length=512)
    client_id: str = Field(min_length=1, max_length=255, pattern=r"^[!-~]+$")
    client_secret: Path | None = None
    console_url: str = Field("", max_length=512)
    audience: str = Field("", max_length=255, pattern=r"^[!-~]*$")
    authority: Path | None = None
    claim: str = Field("groups", min_length=1, max_length=255)
    readers: list[str] = Field(default_factory=list, max_length=64)
    operators: list[str] = Field(default_factory=list, max_length=64)
    scopes: list[str] = Field(default_factory=lambda: ["openid"], max_length=16)
    algorithms: list[Algorithm] = Field(["RS256", "ES256", "EdDSA"], min_length=1, max_length=3)
    skew_seconds: int = Field(30, ge=0, le=120)
    # The groups of a person who is signed in are not asked for again: this bounds how long a lost right still works.
    session_minutes: int = Field(30, ge=1, le=720)
    static_tokens: bool = True

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        require_safe_url(self.issuer, what="issuer")
        if self.console_url:
            url = require_safe_url(self.console_url, what="console_url")
            if url.rstrip("/") != url or urlsplit(url).path:
                raise ValueError("console_url has no path, and no slash at its end")
        if not (self.console_url or self.audience):
            raise ValueError("set console_url for the console, audience for the API, or both")
        if self.audience == self.client_id:
            raise ValueError(
                "audience must not be client_id: whoever signs in to the console would carry an order's token"
            )
        if not (self.readers or self.operators):
            raise ValueError("name a group in readers or operators: without one nobody may do anything")
        if any(not group for group in (*self.readers, *self.operators)):
            raise ValueError("a group has a name")
        if "openid" not in self.scopes or any(not s.isascii() or set(s) & set(' "\\') for s in self.scopes):
            raise ValueError("scopes are words, one of them openid")
        return self

    @property
    def redirect_uri(self) -> str:
        """The one address to which the provider may send a browser back."""
        return self.console_url + CALLBACK

    def secret(self) -> str | None:
        """The console's secret at the provider. Raises ConfigurationError (others can read its file), StorageError."""
        if self.client_secret is None:
            return None
        secret = read_secret(self.client_secret, limit=MAX_SECRET_BYTES).decode("utf-8", "replace").strip()
        if not secret:
            raise ConfigurationError(f"{self.client_secret} holds no secret")
        return secret


def require_safe_url(text: str, *, what: str) -> str:
    """`text`, if it is an https URL without credentials, query or fragment, or http on this machine's loopback.

    Raises ValueError.
    """
    url = urlsplit(text)
    plain = url.scheme == "http" and url.hostname in LOOPBACK_HOSTS
    if not text.isascii() or not (url.scheme == "https" or plain) or not url.hostname:
        raise ValueError(f"{what} is an https:// URL (http:// only on loopback)")
    if url.username is not None or url.password is not None or "?" in text or "#" in text:
        raise ValueError(f"{what} has no user, query or fragment")
    return text
