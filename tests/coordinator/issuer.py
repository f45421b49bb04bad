"""An identity provider in a test's hand: real HTTP on loopback, real keys, and it says whatever a test wants.

It is for what an honest provider never does. The honest one is a real provider: see test_oidc_provider.py.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

KEYS = {
    "rsa": ("RS256", RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})),
    "ec": ("ES256", ECKey.generate_key("P-256", {"kid": "ec", "use": "sig"})),
    "ed": ("EdDSA", OKPKey.generate_key("Ed25519", {"kid": "ed", "use": "sig"})),
}
SUBJECT, GROUP = "u-1001", "sordino-operators"
AUDIENCE, CLIENT = "sordino-api", "sordino-console"


class Issuer:
    """`published` are the ids of the keys in its key set; `held` keeps its key set from being answered until it is set;
    `token` answers the token endpoint's form; `asked` counts requests by path."""

    def __init__(self) -> None:
        self.published = list(KEYS)
        self.keys: dict[str, Any] = {}
        self.held: threading.Event | None = None
        self.reached = threading.Event()
        self.asked = Counter[str]()
        self.forms: list[dict[str, str]] = []
        self.token: Any = {}
        self.discovery: dict[str, Any] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked[self.path] += 1
                if self.path == "/.well-known/openid-configuration":
                    self._say({**issuer.document(), **issuer.discovery})
                elif self.path == "/jwks":
                    issuer.reached.set()
                    if issuer.held is not None:
                        issuer.held.wait(60)
                    self._say(issuer.keys or issuer.key_set())

            def do_POST(self) -> None:
                issuer.asked[self.path] += 1
                length = int(self.headers["Content-Length"])
                issuer.forms.append(dict(parse_qsl(self.rfile.read(length).decode())))
                self._say(issuer.token)

            def _say(self, answer: Any) -> None:
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        if self.held is not None:
            self.held.set()
        self._server.shutdown()
        self._server.server_close()

    def document(self) -> dict[str, Any]:
        """Its discovery document."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
        }

    def key_set(self) -> dict[str, Any]:
        """Its public keys."""
        return {"keys": [KEYS[kid][1].as_dict(private=False) for kid in self.published]}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What an honest token for the API says; a claim changed to None is left out."""
        now = int(time.time())
        said = {
            "iss": self.url, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + 300, "groups": [GROUP], **changed
        }  # fmt: skip
        return {name: value for name, value in said.items() if value is not None}

    def issue(self, kid: str = "ec", header: Mapping[str, Any] | None = None, **changed: Any) -> str:
        """A token, signed with one of its keys."""
        algorithm, key = KEYS[kid]
        named = {"alg": algorithm, "kid": kid, **(header or {})}
        # As joserfc signs EdDSA today; providers still call it by this name.
        registry = None if algorithm != "EdDSA" else _registry()
        token: str = jwt.encode(
            named,
            self.claims(**changed),
            key,
            registry=registry,
            algorithms=None if registry else [algorithm],
        )
        return token

    def settings(self, **changed: Any) -> dict[str, Any]:
        """`[oidc]` for this provider."""
        return {
            "issuer": self.url, "client_id": CLIENT, "audience": AUDIENCE,
            "readers": ["sordino-readers"], "operators": [GROUP], **changed,
        }  # fmt: skip


def _registry() -> Any:
    from sordino_coordinator.oidc.tokens import AcceptedAlgorithms

    return AcceptedAlgorithms(algorithms=["EdDSA"])
