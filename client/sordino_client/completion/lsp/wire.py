"""JSON-RPC messages over a pipe, each with its length in front (LSP 3.17, "Base Protocol")."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from sordino_privacy.errors import LinkError

MAX_MESSAGE_BYTES: Final = 64 << 20
MAX_HEADER_BYTES: Final = 4096

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
NO_SUCH_METHOD: Final = -32601
INVALID_PARAMETERS: Final = -32602
INTERNAL_ERROR: Final = -32603
NOT_INITIALIZED: Final = -32002
CANCELLED: Final = -32800


async def read(reader: asyncio.StreamReader) -> Any:
    """The next message, None at the end of the pipe. Raises LinkError where it is no message, ValueError where a
    message is no JSON."""
    length, size = None, 0
    while True:
        try:
            line = await reader.readline()
        except ValueError as error:
            raise LinkError("the editor sent a header that is too long") from error
        size += len(line)
        if not line:
            return None
        if size > MAX_HEADER_BYTES:
            raise LinkError("the editor sent a header that is too long")
        name, colon, value = line.partition(b":")
        if not line.strip():
            break
        if name.strip().lower() == b"content-length" and colon and value.strip().isdigit():
            length = int(value.strip()[:12])
    if length is None or length > MAX_MESSAGE_BYTES:
        raise LinkError("the editor sent a message without a length, or one that is too long")
    try:
        body = await reader.readexactly(length)
    except asyncio.IncompleteReadError:
        return None
    return json.loads(body)


def frame(message: dict[str, Any]) -> bytes:
    """A message as it goes out. Half a surrogate pair stays escaped: editors count in UTF-16."""
    body = json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode()
    return b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
