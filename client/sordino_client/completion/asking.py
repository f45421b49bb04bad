"""Lets another program on this machine reach the endpoint: port from `completion.json`, token from `token`."""

from __future__ import annotations

import asyncio
import http.client
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sordino_platform import durable
from sordino_privacy.errors import LinkError, StorageError

TIMEOUT_SECONDS = 30.0
MAX_ANSWER_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A running endpoint. `token` never appears in a `repr`."""

    host: str
    port: int
    token: str

    def __repr__(self) -> str:
        return f"Endpoint({self.host}:{self.port})"

    def ask(self, method: str, path: str, document: Any = None) -> Any:
        """The JSON answer to one request. Raises LinkError, with the endpoint's own reason where it gave one."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=TIMEOUT_SECONDS)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, None if document is None else json.dumps(document), headers)
            response = connection.getresponse()
            answer = json.loads(response.read(MAX_ANSWER_BYTES))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise LinkError(
                "the completion endpoint does not answer", hint="is the member's agent running?"
            ) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise LinkError(f"the completion endpoint refused: {_said(answer)}")
        return answer

    async def ask_async(self, path: str, document: Any, *, editor: str) -> Any:
        """`ask("POST", ...)` on the event loop. Cancelling hangs up, which withdraws the request. Raises LinkError."""
        try:
            reader, writer = await asyncio.open_connection(self.host, self.port)
        except OSError as error:
            raise LinkError("the completion endpoint does not answer") from error
        body = json.dumps(document).encode()
        head = (
            f"POST {path} HTTP/1.0\r\nHost: {self.host}\r\nAuthorization: Bearer {self.token}\r\n"
            f"X-Sordino-Editor: {editor}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            writer.write(head.encode() + body)
            await writer.drain()
            status, _, rest = (await reader.read(-1)).partition(b"\r\n")
            answered = rest.partition(b"\r\n\r\n")[2]
            document = json.loads(answered) if answered else None
            if status.split(b" ")[1:2] != [b"200"]:
                raise LinkError(_said(document))
            return document
        except (OSError, ValueError) as error:
            raise LinkError("the completion endpoint does not answer") from error
        finally:
            writer.close()


def read(state: Path) -> Endpoint | None:
    """The endpoint whose files lie in this state folder, or None; whether it still runs is not asked.

    Raises ConfigurationError for a token file that others can read.
    """
    try:
        document = json.loads(durable.read_file(state / "completion.json", limit=4096))
        port = int(document["port"])
        token = durable.read_secret(state / "token", limit=256).decode("ascii").strip()
    except (StorageError, ValueError, KeyError, TypeError):
        return None
    return Endpoint(host="127.0.0.1", port=port, token=token)


def find_endpoint(state: Path) -> Endpoint | None:
    """The endpoint that runs on this state folder, or None. Raises ConfigurationError for an unsafe token file."""
    endpoint = read(state)
    if endpoint is None:
        return None
    try:
        endpoint.ask("GET", "/v1/models")
    except LinkError:
        return None  # the file of an endpoint that was killed
    return endpoint


def _said(answer: Any) -> str:
    """The endpoint's own reason for a refusal."""
    said = answer.get("error") if isinstance(answer, dict) else None
    return str(said.get("message")) if isinstance(said, dict) else "without a reason"
