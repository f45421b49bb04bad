"""The thread that serves the console beside the link and the metrics."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from sordino_coordinator.console.access import Access, console_token
from sordino_coordinator.console.guard import ConsoleGuard
from sordino_coordinator.console.pages import Pages
from sordino_coordinator.console.state import StateReader
from sordino_coordinator.control.audit import Action
from sordino_coordinator.federation import Federation
from sordino_coordinator.metrics import Refused
from sordino_coordinator.oidc import console_login
from sordino_coordinator.settings import CoordinatorSettings
from sordino_platform.durable import read_secret
from sordino_platform.link.address import parse_address
from sordino_platform.telemetry import log
from sordino_platform.web.callers import LOOPBACK
from sordino_platform.web.server import Server
from sordino_privacy.errors import ConfigurationError, PortInUseError

LOOK_SECONDS: Final = 15.0
STOP_SECONDS: Final = 5.0


class Console:
    """Serves from construction until `stop`; sessions live by `clock`, in seconds that only rise. Raises
    ConfigurationError, PortInUseError, StorageError."""

    def __init__(self, federation: Federation, *, clock: Callable[[], float] = time.monotonic) -> None:
        settings = federation.settings
        host, port = parse_address(settings.console)
        secure = settings.console_tls is not None
        require_private(host, secure=secure)
        oidc = settings.oidc
        takes_token = oidc is None or oidc.static_tokens
        token = console_token(federation.folder) if takes_token else None
        login = console_login(oidc) if oidc is not None and oidc.console_url else None
        tls = tls_arguments(settings)
        self._reader = StateReader(federation)
        self._socket = listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        counter = federation.metrics.console_refused

        def refused(reason: Refused) -> None:
            counter.labels(reason.value).inc()

        # Cookies know no ports: two consoles on one machine need two names.
        cookie = f"__Host-sordino-{self.port}" if secure else f"sordino-{self.port}"
        self._pages = Pages(
            self._reader,
            Access(token, clock=clock),
            cookie=cookie,
            secure=secure,
            refused=refused,
            login=login,
            takes_token=takes_token,
            opened=lambda by: federation.note(lambda: federation.audit.append(Action.CONSOLE_OPENED, by=by)),
        )
        hosts = {*LOOPBACK, bracketed(host), *(name.lower() for name in settings.console_hosts)}
        guard = ConsoleGuard(self._pages.app(), hosts=frozenset(hosts), secure=secure, refused=refused)
        self._server = Server(guard, keep_alive=15, grace=1, **tls)
        try:
            self._server.config.load()  # here, and not in the thread: a certificate that cannot be used is said now
        except (OSError, ssl.SSLError) as error:
            self._socket.close()
            raise ConfigurationError(
                f"the console's certificates cannot be used: {error}",
                hint="console_tls holds a private key and its certificate chain in PEM",
            ) from error
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        self._thread.start()
        log().info("console", address=f"{'https' if secure else 'http'}://{bracketed(host)}:{self.port}/")

    def stop(self) -> None:
        """Closes the port and ends every session."""
        self._server.end()
        self._thread.join(STOP_SECONDS)
        self._reader.close()

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        async def watch() -> None:
            # Rates of failures are seen only by looking regularly, whether or not a browser is open.
            while True:
                await self._pages.look()
                await asyncio.sleep(LOOK_SECONDS)

        watching = asyncio.create_task(watch())
        try:
            await self._server.serve([self._socket])
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching


def require_private(host: str, *, secure: bool) -> None:
    """Raises ConfigurationError when the token and the pages would cross a network in the clear."""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host != "localhost" and not secure:
        raise ConfigurationError(
            f"the console on {host} would send its token over the network unencrypted",
            hint="set console_tls, or keep it on 127.0.0.1 and reach it with `ssh -L`",
        )


def tls_arguments(settings: CoordinatorSettings) -> dict[str, Any]:
    """uvicorn's arguments for HTTPS, and for clients with certificates only. Raises ConfigurationError."""
    pem, authority = settings.console_tls, settings.console_client_authority
    if pem is None:
        if authority is not None:
            raise ConfigurationError(
                "console_client_authority needs console_tls", hint="set both, or remove the one"
            )
        return {}
    read_secret(pem)  # refuses a key that others can read
    if authority is None:
        return {"ssl_certfile": str(pem)}
    return {
        "ssl_certfile": str(pem),
        "ssl_ca_certs": str(authority),
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }


def bracketed(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host.lower()


def listen(host: str, port: int) -> socket.socket:
    """The console's port. Raises PortInUseError."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise PortInUseError(
            f"port {port} on {host} cannot be used for the console: {error.strerror}",
            hint="set another `console` in coordinator.toml, or port 0 for any free one",
        ) from error
