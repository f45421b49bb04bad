"""Many TLS handshakes at once, at a server whose certificate may be renewed while it runs, in a process of its own."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.link.pki import Authority, Material, name_in

from sordino_platform.link import LinkServer, ServerTls

THREADS, HANDSHAKES = 64, 1500


def serve(folder: Path) -> None:
    """The server: its TLS material is read anew at each handshake, as a coordinator's is."""

    def tls() -> ServerTls:
        return ServerTls.load(key=folder / "key.pem", certificate=folder / "cert.pem", ca=folder / "ca.pem")

    server = LinkServer("127.0.0.1:0", tls=tls, identify=name_in, admit=lambda _: None)
    server.start()
    print(server.port, flush=True)
    threading.Event().wait()


def write(folder: Path, material: Material) -> None:
    for name, pem in (("key", material["key"]), ("cert", material["certificate"]), ("ca", material["ca"])):
        whole = folder / f"{name}.new"
        whole.write_bytes(pem)
        whole.chmod(0o600)
        whole.replace(folder / f"{name}.pem")


def shake(port: int, context: ssl.SSLContext) -> bytes:
    """One handshake; the certificate that the server showed."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        return secured.getpeercert(binary_form=True) or b""


def test_a_storm_of_handshakes_leaves_the_server_standing_and_a_renewal_is_shown(tmp_path: Path) -> None:
    authority = Authority("storm")
    write(tmp_path, authority.issue("coordinator"))
    member = authority.issue("member")
    (tmp_path / "member-key").write_bytes(member["key"])
    (tmp_path / "member-certificate").write_bytes(member["certificate"])
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    context.load_cert_chain(tmp_path / "member-certificate", tmp_path / "member-key")
    context.set_alpn_protocols(["h2"])
    process = subprocess.Popen(
        [sys.executable, "-c", f"from tests.link.test_storm import *; serve(Path({str(tmp_path)!r}))"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with ThreadPoolExecutor(THREADS) as pool:
            shown = set(pool.map(lambda _: shake(port, context), range(HANDSHAKES)))
        assert process.poll() is None
        assert len(shown) == 1
        write(tmp_path, authority.issue("coordinator"))
        deadline = time.monotonic() + 60
        while shake(port, context) in shown:
            assert time.monotonic() < deadline
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close() if process.stdout else None
