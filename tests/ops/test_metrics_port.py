"""The metrics port answers a scraper, and no page of a browser on the same machine."""

from __future__ import annotations

import contextlib
import http.client
import socket
from collections import Counter
from collections.abc import Iterator

import pytest

from sordino_client.metrics import MemberMetrics
from sordino_platform.web.connections import ROOM
from sordino_platform.web.metrics import MetricsServer

SECRET = "0.0625"


class Observed:
    def __init__(self) -> None:
        metrics = MemberMetrics()
        metrics.train_loss.set(float(SECRET))
        self.refused: Counter[str] = Counter()
        self.server = MetricsServer(
            metrics.metrics, port=0, refused=lambda reason: self.refused.update([reason])
        )

    def ask(self, path: str = "/metrics", *, method: str = "GET", **headers: str) -> tuple[int, str]:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        ) as door:
            door.putrequest(method, path, skip_host=True)
            for name, value in {"Host": "localhost:1", **headers}.items():
                door.putheader(name.replace("_", "-"), value)
            door.endheaders()
            answer = door.getresponse()
            return answer.status, answer.read().decode()


@pytest.fixture
def observed() -> Iterator[Observed]:
    made = Observed()
    yield made
    made.server.stop()


def test_a_scraper_gets_the_figures(observed: Observed) -> None:
    status, text = observed.ask()
    assert status == 200
    assert f"sordino_train_loss {SECRET}" in text
    assert observed.ask("/")[0] == 404
    assert observed.ask(method="POST")[0] == 404


@pytest.mark.parametrize(
    ("reason", "headers"),
    [
        ("host", {"Host": "evil.example"}),
        ("host", {"Host": "127.0.0.1.evil.example:9100"}),
        ("host", {"Host": ""}),
        ("origin", {"Origin": "https://evil.example"}),
        ("origin", {"Origin": "null"}),
        ("origin", {"Origin": "http://127.0.0.1:1"}),
        ("origin", {"Sec_Fetch_Site": "cross-site"}),
        ("origin", {"Sec_Fetch_Site": "same-site"}),
    ],
)
def test_a_page_in_the_browser_gets_none_and_is_counted(
    observed: Observed, reason: str, headers: dict[str, str]
) -> None:
    status, text = observed.ask(**headers)
    assert status in {421, 403}
    assert SECRET not in text
    assert observed.refused == {reason: 1}


def test_half_sent_requests_do_not_keep_the_scraper_out(observed: Observed) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(2 * ROOM):
            one = socket.create_connection(("127.0.0.1", observed.server.port), timeout=60)
            opened.enter_context(one).sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        assert observed.ask()[0] == 200
