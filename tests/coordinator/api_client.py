"""Somebody who talks to the operator's API of one coordinator's folder, over real TLS."""

from __future__ import annotations

import json
import socket
import ssl
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from sordino_coordinator.control.api import Endpoints
from sordino_coordinator.control.audit import AuditLog
from sordino_coordinator.control.callers import token_of
from sordino_coordinator.control.server import ApiServer
from sordino_coordinator.oidc.settings import OidcSettings
from sordino_coordinator.settings import load_coordinator_settings
from sordino_platform.identity import Identity

SECONDS = 30


class Operator:
    """Somebody who talks to the API of one folder. `counted` are the outcomes that the metric would count."""

    def __init__(self, hub: Path, *, oidc: OidcSettings | None = None) -> None:
        self.hub, self.counted = hub, Counter[str]()
        identity = Identity.load(hub)
        endpoints = Endpoints(
            folder=hub,
            defaults=load_coordinator_settings(hub).model_copy(update={"oidc": oidc}),
            audit=AuditLog(hub, key=identity.signing_key),
        )
        self.server = ApiServer(
            "127.0.0.1:0", endpoints, on_request=lambda outcome: self.counted.update([outcome])
        )
        self.trust = ssl.create_default_context(cadata=identity.charter.tls_authority.pem.decode())
        self.certificate: bytes | None = None

    def connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.server.port), timeout=SECONDS)
        return self.trust.wrap_socket(plain, server_hostname="127.0.0.1")

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, token: str | None = "", **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON of one request; `token` "" is the right one, None is none."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["Authorization"] = f"Bearer {token or token_of(self.hub)}"
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=SECONDS)
        connection.sock = self.connect()
        self.certificate = connection.sock.getpeercert(binary_form=True)
        connection.request(method, path, body=body, headers=sent)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text.startswith((b"{", b"[")) else text
