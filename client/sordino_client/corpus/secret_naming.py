"""What a variable, key or flag of this name holds: a password, a key or token, some key, or none of these.

strength("dbPassword") == PASSWORD
strength("API_TOKEN") == SECRET
strength("sort_key") == WEAK       # keys of dictionaries are called so, too
strength("password_field") == 0      # the name of something else
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


NAME = re.compile(r"[A-Za-z_$@][\w$]*(?:[.-][A-Za-z_$][\w$]*)*")
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PASSWORDS = _words("password passwd passwort pwd pass pw passphrase passcode userpass dbpass userpassword")
_SECRETS = _words(
    "secret secrets token tokens apikey apitoken authtoken accesskey accesstoken credential credentials creds"
)
_KEY_KINDS = _words(
    "api access secret private signing encryption encrypt master auth account shared session service app client crypto"
    " hmac jwt cipher aes license activation wallet tls ssl ssh deploy storage identity webhook stripe sendgrid google"
    " openai anthropic pgp gpg admin subscription consumer license symmetric storage rsa user bot"
)
_WEAK = _words(
    "key keys auth authorization authentication cookie session bearer salt otp totp seed sid signature sas dsn"
)
# Behind the word that tells, these change nothing; any other word makes a name of something else (`password_field`).
_FILLING = _words(
    "value val text string str plain raw default prod production staging dev live b64 base64 hex bytes main primary"
    " secondary old new current tmp env base literal hash"
)
PASSWORD, SECRET, WEAK = 3, 2, 1


def strength(name: str) -> int:
    """What a variable of this name holds: PASSWORD, SECRET (a key or token), WEAK (a key of some kind), or 0."""
    parts = [part.lower() for part in _PARTS.findall(name)]
    while parts and (parts[-1] in _FILLING or parts[-1].isdigit()):
        parts.pop()
    if not parts or "public" in parts:
        return 0
    last, before = parts[-1], parts[-2] if len(parts) > 1 else ""
    if (
        last in _PASSWORDS
        or (before == "pass" and last in {"word", "phrase"})
        or last.endswith(("password", "passwd", "passphrase"))
    ):
        return PASSWORD
    if last in _SECRETS or last.endswith(("secret", "token", "apikey")):
        return SECRET
    if last in {"key", "keys"} and (before in _KEY_KINDS or before in _SECRETS):
        return SECRET
    if last in {"base", "id", "url", "uri"} and before in {"key", "token", "secret"}:
        return WEAK
    return WEAK if last in _WEAK else 0
