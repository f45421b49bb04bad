"""Runs a real OpenID Connect provider (Canaille) with two people, one group and its clients: a process of its own.

    python real_provider.py PORT REDIRECT_URI

It is no part of the tests' environment: `make provider` installs it into one of its own (requirements/provider.txt).
"""

from __future__ import annotations

import os
import sys
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from joserfc.jwk import JWKRegistry

PASSWORD = "correct horse battery staple"
CONSOLE, TOOL, API = "sordino-console", "sordino-cli", "sordino-api"
SECRET = "the console's secret at the provider"


class Quiet(WSGIRequestHandler):
    def log_request(self, *_: Any) -> None:
        """Nothing."""


def main(port: int, redirect_uri: str) -> None:
    """Serves until the process is ended."""
    key = JWKRegistry.generate_key("RSA", 2048)
    key.ensure_kid()
    app = create_app(
        config={
            "SECRET_KEY": os.urandom(16).hex(),
            "PREFERRED_URL_SCHEME": "http",
            "SERVER_NAME": f"localhost:{port}",
            "CANAILLE": {
                "DATABASE": "memory",
                "JAVASCRIPT": False,
                "ACL": {"DEFAULT": {"PERMISSIONS": ["use_oidc"]}},
            },
            "CANAILLE_OIDC": {"ACTIVE_JWKS": [key.as_dict(private=True)]},
        },
        env_file=None,
    )
    with app.app_context():
        people = [
            models.User(user_name=name, family_name=name, emails=[f"{name}@example.org"], password=PASSWORD)
            for name in ("olga", "rolf")
        ]
        for person in people:
            Backend.instance.save(person)
        Backend.instance.save(models.Group(display_name="sordino-operators", members=people[:1]))
        api = models.Client(client_id=API, client_name="the API", redirect_uris=[redirect_uri])
        Backend.instance.save(api)
        for name, terms in (
            (CONSOLE, {"client_secret": SECRET, "token_endpoint_auth_method": "client_secret_basic"}),
            (TOOL, {"token_endpoint_auth_method": "none", "audience": [api]}),
        ):
            client = models.Client(
                client_id=name,
                client_name=name,
                client_uri="http://localhost",
                redirect_uris=[redirect_uri],
                grant_types=["authorization_code"],
                response_types=["code"],
                scope=["openid", "groups"],
                id_token_signed_response_alg="RS256",
                **terms,
            )
            Backend.instance.save(client)
            if name == CONSOLE:
                client.audience = [client]
                Backend.instance.save(client)
    with make_server("localhost", port, app, handler_class=Quiet) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
