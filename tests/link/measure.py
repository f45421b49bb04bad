"""Two processes that measure their memory: `python -m tests.link.measure coordinator MEMBERS SIZE DIRECTION`.

The coordinator starts the members as one child process, passes one message of SIZE bytes per member in the DIRECTION
(down: to the members, up: from them), and prints as JSON how far both processes' peaks of resident memory rose.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.link.pki import Authority, name_in

from sordino_platform.link import ClientTls, LinkClient, LinkServer, Reply, Request, ServerTls

PATIENCE = 120.0


def resident(peak: bool = False) -> int:
    """Bytes of this process that are, or at most were, in memory."""
    name = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def coordinate(members: int, size: int, direction: str) -> None:
    """Runs the exchange and prints the figures."""
    authority = Authority("measure")
    names = [f"member-{n}" for n in range(members)]
    server = LinkServer(
        "127.0.0.1:0",
        tls=ServerTls(**authority.issue("coordinator")),
        identify=name_in,
        admit=lambda _: None,
    )
    server.start()
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.link.measure", "members", str(server.port), str(size), direction],
        stdin=subprocess.PIPE,
    )
    materials = [{k: v.decode() for k, v in authority.issue(name).items()} for name in names]  # type: ignore[attr-defined]
    assert child.stdin is not None
    child.stdin.write(json.dumps(materials).encode())
    child.stdin.close()
    try:
        end = time.monotonic() + PATIENCE
        while len(server.connected()) < members:
            assert time.monotonic() < end
            time.sleep(0.01)
        payload = bytes(range(256)) * (size // 256) if direction == "down" else b""
        before = resident()
        for name in names:
            server.send(name, payload, deadline_seconds=PATIENCE)
        for _ in names:
            reply = server.receive(PATIENCE)
            assert isinstance(reply, Reply)
            assert reply.payload.nbytes == (size if direction == "up" else 1)
            del reply
        grown = resident(peak=True) - before
        server.send(names[0], b"?", deadline_seconds=PATIENCE)
        answer = server.receive(PATIENCE)
        assert isinstance(answer, Reply)
        threads = threading.active_count()
        print(json.dumps({"coordinator": grown, "members": int(bytes(answer.payload)), "threads": threads}))
    finally:
        child.kill()
        child.wait()


def participate(port: int, size: int, direction: str) -> None:
    """All members, as threads of this process, until it is killed."""
    result = bytes(range(256)) * (size // 256) if direction == "up" else b"."
    before = 0

    def answer(request: Request) -> bytes:
        if bytes(request.payload[:2]) == b"?":
            return str(resident(peak=True) - before).encode()
        return result

    threads = []
    for material in json.load(sys.stdin):
        tls = ClientTls(**{name: pem.encode() for name, pem in material.items()})
        client = LinkClient(f"127.0.0.1:{port}", tls=tls, handler=answer)
        threads.append(threading.Thread(target=client.run, daemon=True))
    before = resident()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    if sys.argv[1] == "coordinator":
        coordinate(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    else:
        participate(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
