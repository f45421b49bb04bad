"""The endpoint as its own process: what it answers, whom it refuses, what it leaves behind."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from tests.loaded import loaded_by

from sordino_client.completion import asking
from sordino_client.laboratory.completion_benchmark import endpoint as bench
from sordino_privacy.errors import LinkError

SECRET = "s3ntinel_in_the_prompt"
ENDLESS = 4096
SYSTEM_PYTHON = Path("/usr/bin/python3")


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Any], release: Callable[..., Path]
) -> Any:
    state = tmp_path_factory.mktemp("endpoint")
    release(state / "serving", 1)
    return start(state)


def raw(running: Any, head: str, body: bytes = b"") -> tuple[int, bytes]:
    """One request, byte by byte as given; the status and the whole reply."""
    with socket.create_connection(("127.0.0.1", running.endpoint.port), timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        reply = b""
        while chunk := connection.recv(65536):
            reply += chunk
    return int(reply.split(b" ", 2)[1]), reply


def counted(running: Any, name: str, label: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", running.endpoint.port)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {running.endpoint.token}"})
    text = connection.getresponse().read().decode()
    connection.close()
    line = next(line for line in text.splitlines() if line.startswith(name + "{") and f'"{label}"' in line)
    return float(line.rsplit(" ", 1)[1])


def post(running: Any, **headers: str) -> str:
    """The head of a good completion request, with some headers replaced (None leaves one out)."""
    body = json.dumps({"prompt": "import o"})
    fields = {
        "Host": "127.0.0.1",
        "Authorization": f"Bearer {running.endpoint.token}",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
    }
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\n".join(["POST /v1/completions HTTP/1.1", *lines])


BODY = json.dumps({"prompt": "import o"}).encode()


class TestGuard:
    def test_a_good_request_is_answered(self, running: Any) -> None:
        for host in (
            "127.0.0.1",
            "localhost",
            f"127.0.0.1:{running.endpoint.port}",
            "[::1]",
            "[::1]:80",
            "LOCALHOST:1",
        ):
            assert raw(running, post(running, Host=host), BODY)[0] == 200
        assert raw(running, post(running, Origin="vscode-webview://1"), BODY)[0] == 200

    @pytest.mark.parametrize(
        ("reason", "status", "headers"),
        [
            ("host", 421, {"Host": "evil.example"}),
            ("host", 421, {"Host": "127.0.0.1.evil.example"}),
            ("host", 421, {"Host": "127.0.0.1:x"}),
            ("host", 421, {"Host": "[::1].evil"}),
            ("host", 421, {"Host": ""}),
            ("origin", 403, {"Origin": "https://evil.example"}),
            ("origin", 403, {"Origin": "null"}),
            ("origin", 403, {"Origin": "http://127.0.0.1"}),
            ("origin", 403, {"Sec_Fetch_Site": "cross-site"}),
            ("origin", 403, {"Sec_Fetch_Site": "same-site"}),
            ("token", 401, {"Authorization": None}),
            ("token", 401, {"Authorization": "Bearer "}),
            ("token", 401, {"Authorization": "Bearer wrong"}),
            ("content_type", 415, {"Content_Type": "text/plain"}),
            ("content_type", 415, {"Content_Type": "application/x-www-form-urlencoded"}),
            ("content_type", 415, {"Content_Type": None}),
            ("size", 413, {"Content_Length": "99999999"}),
            ("size", 413, {"Content_Length": "9" * 19}),
        ],
    )
    def test_a_foreign_request_is_refused_and_counted(
        self, running: Any, reason: str, status: int, headers: dict[str, Any]
    ) -> None:
        before = counted(running, "sordino_http_rejected_total", reason)
        assert raw(running, post(running, **headers), BODY)[0] == status
        assert counted(running, "sordino_http_rejected_total", reason) == before + 1

    def test_two_hosts_are_refused(self, running: Any) -> None:
        head = post(running) + "\nHost: evil.example"
        assert raw(running, head, BODY)[0] in {400, 421}

    def test_an_endless_body_is_cut_off(self, running: Any) -> None:
        head = post(running, Content_Length=None, Transfer_Encoding="chunked")  # type: ignore[arg-type]
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with socket.create_connection(("127.0.0.1", running.endpoint.port), timeout=20) as connection:
            connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
            sent = 0
            with contextlib.suppress(OSError):
                while sent < ENDLESS:
                    connection.sendall(chunk)
                    sent += 1
            assert sent < ENDLESS

    def test_the_token_is_needed_for_every_path(self, running: Any) -> None:
        for path in ("/v1/models", "/metrics", "/v1/health", "/openapi.json", "/nothing"):
            status, _ = raw(running, f"GET {path} HTTP/1.1\nHost: 127.0.0.1\nConnection: close")
            assert status == 401

    def test_the_unix_socket_and_the_secrets_are_the_owners_alone(self, running: Any) -> None:
        for name in ("completion.sock", "token", "completion.json"):
            assert (running.state / name).stat().st_mode & 0o777 == 0o600
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(running.state / "completion.sock"))
            connection.sendall(
                post(running, Host="localhost").replace("\n", "\r\n").encode() + b"\r\n\r\n" + BODY
            )
            assert connection.recv(12) == b"HTTP/1.1 200"

    def test_no_other_address_listens(self, running: Any) -> None:
        lines = Path(f"/proc/{running.process.pid}/net/tcp").read_text().splitlines()[1:]
        port = f"{running.endpoint.port:04X}"
        bound = [
            line.split()[1] for line in lines if line.split()[3] == "0A" and line.split()[1].endswith(port)
        ]
        assert bound == [f"0100007F:{port}"]


class TestOpenAI:
    @pytest.fixture
    def client(self, running: Any) -> OpenAI:
        return OpenAI(
            base_url=f"http://127.0.0.1:{running.endpoint.port}/v1",
            api_key=running.endpoint.token,
            max_retries=0,
        )

    def test_the_official_client_completes(self, client: OpenAI) -> None:
        model = client.models.list().data[0].id
        answer = client.completions.create(
            model=model, prompt="def f(x):\n    return ", suffix="\n", max_tokens=6, n=2, logprobs=2
        )
        assert answer.model == "sordino-1"
        assert len(answer.choices) >= 1
        first = answer.choices[0]
        assert first.logprobs is not None
        assert "".join(first.logprobs.tokens or []).startswith(first.text)

    def test_a_stream_gives_the_same_text(self, client: OpenAI) -> None:
        request: dict[str, Any] = {"model": "any", "prompt": "class A:\n    def b(self", "max_tokens": 12}
        whole = client.completions.create(**request).choices[0]
        pieces = list(client.completions.create(**request, stream=True))
        assert "".join(piece.choices[0].text for piece in pieces) == whole.text
        assert pieces[-1].choices[0].finish_reason == whole.finish_reason

    def test_echo_is_refused_clearly(self, running: Any) -> None:
        with pytest.raises(LinkError, match="echo is not offered"):
            running.endpoint.ask("POST", "/v1/completions", {"prompt": SECRET, "echo": True})

    @pytest.mark.parametrize(
        "body",
        [
            {"prompt": 7},
            {"prompt": ["a", "b"]},
            {"prompt": [1, 2]},
            {"max_tokens": -1},
            {"temperature": 3},
            {"n": 1000},
            {"stop": [""]},
            {"logprobs": 99},
            [],
            "text",
        ],
    )
    def test_what_cannot_be_understood_is_named_and_not_quoted(self, running: Any, body: Any) -> None:
        if isinstance(body, dict):
            body = {"prompt": SECRET} | body
        with pytest.raises(LinkError, match="not understood") as caught:
            running.endpoint.ask("POST", "/v1/completions", body)
        assert SECRET not in str(caught.value)

    def test_unknown_fields_and_models_are_ignored(self, running: Any) -> None:
        request = {
            "prompt": "x",
            "model": "gpt-99",
            "user": "u",
            "best_of": 1,
            "frequency_penalty": 0.1,
            "novel": {},
        }
        assert running.endpoint.ask("POST", "/v1/completions", request)["model"] == "sordino-1"

    def test_the_answer_says_why_it_is_as_it_is(self, running: Any) -> None:
        answer = running.endpoint.ask(
            "POST", "/v1/completions", {"prompt": "x = (", "stop": ["\n", "", "a"][0:1]}
        )
        assert answer["sordino"]["reason"]
        assert 0 <= answer["sordino"]["confidence"] <= 1


def test_a_refusal_reaches_a_client_that_is_still_sending(running: Any) -> None:
    """Closing with a body unread would reset the connection under the answer."""
    head = post(running, Content_Type="text/plain").replace("\n", "\r\n").encode() + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.endpoint.port), timeout=20) as connection:
        connection.sendall(head)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert select.select([connection], [], [], 20)[0]  # it has answered before it was sent the body
        for byte in BODY:
            connection.sendall(bytes([byte]))
            time.sleep(0.005)
        reply = b""
        while chunk := connection.recv(65536):
            reply += chunk
    assert reply.split(b" ", 2)[1] == b"415"
    assert reply.endswith(b'"code":"content_type"}}')


def test_the_newest_request_of_an_editor_wins(running: Any) -> None:
    statuses: list[int] = []

    def ask(prompt: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", running.endpoint.port, timeout=30)
        headers = {
            "Authorization": f"Bearer {running.endpoint.token}",
            "Content-Type": "application/json",
            "X-Sordino-Editor": "one",
        }
        body = json.dumps({"prompt": prompt, "max_tokens": 80, "multiline": True, "n": 8})
        connection.request("POST", "/v1/completions", body, headers)
        statuses.append(connection.getresponse().status)
        connection.close()

    threads = [threading.Thread(target=ask, args=("x = " * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= 1
    assert running.endpoint.ask("POST", "/v1/completions", {"prompt": "x"})["choices"]


def test_who_hangs_up_is_not_written_for(running: Any) -> None:
    before = counted(running, "sordino_completion_requests_total", "cancelled")
    body = json.dumps({"prompt": "x = [\n", "max_tokens": 200, "n": 8, "multiline": True}).encode()
    head = post(running, Content_Length=str(len(body))).replace("\n", "\r\n").encode()
    deadline = time.monotonic() + 60
    # So small a model may have answered before the hang-up is seen: sooner or later one is not.
    while counted(running, "sordino_completion_requests_total", "cancelled") == before:
        assert time.monotonic() < deadline
        with socket.create_connection(("127.0.0.1", running.endpoint.port)) as connection:
            connection.sendall(head + b"\r\n\r\n" + body)
        time.sleep(0.05)  # more often, and the asking itself would be too many requests
    assert running.endpoint.ask("POST", "/v1/completions", {"prompt": "x"})["choices"]


@pytest.mark.skipif(
    os.getuid() != 0 or not SYSTEM_PYTHON.exists(),
    reason="only root can act as another user, with a Python of all",
)
def test_another_user_of_the_machine_reaches_nothing(running: Any) -> None:
    program = """
import http.client, socket, sys
state, port = sys.argv[1:]
for attempt in (lambda: open(state + "/token"), lambda: open(state + "/completion.json"),
                lambda: socket.socket(socket.AF_UNIX).connect(state + "/completion.sock")):
    try:
        attempt()
        sys.exit("reached")
    except PermissionError:
        pass
connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
connection.request("GET", "/v1/models")
print(connection.getresponse().status)
"""
    # A folder that the other user may enter, so that it is the files' own modes that refuse.
    with open_to_others(running.state):
        done = subprocess.run(
            [SYSTEM_PYTHON, "-I", "-c", program, str(running.state), str(running.endpoint.port)],
            capture_output=True,
            text=True,
            user=65534,
            group=65534,
            extra_groups=[],
        )
    assert (done.stdout.strip(), done.stderr) == ("401", "")


@contextlib.contextmanager
def open_to_others(folder: Path) -> Iterator[None]:
    """Makes a folder and those above it enterable for everybody, for a while."""
    modes = {path: path.stat().st_mode & 0o7777 for path in (folder, *folder.parents)}
    before = {path: mode for path, mode in modes.items() if not mode & 0o001}
    try:
        for path, mode in before.items():
            path.chmod(mode | 0o001)
        yield
    finally:
        for path, mode in before.items():
            path.chmod(mode)


def test_no_model_yet_is_said_and_a_release_is_picked_up(
    tmp_path: Path, start: Callable[..., Any], release: Callable[..., Path]
) -> None:
    running = start(tmp_path / "state")
    with pytest.raises(LinkError, match="no model yet"):
        running.endpoint.ask("POST", "/v1/completions", {"prompt": "x"})
    release(running.state / "serving", 1)
    assert running.endpoint.ask("POST", "/v1/completions", {"prompt": "x"})["model"] == "sordino-1"
    release(running.state / "serving", 2)
    deadline = time.monotonic() + 20
    while running.endpoint.ask("POST", "/v1/completions", {"prompt": "x"})["model"] != "sordino-2":
        assert time.monotonic() < deadline
    broken = release(running.state / "serving", 3)
    (broken / "model.safetensors").write_bytes(b"damaged")
    while "digest" not in running.endpoint.ask("GET", "/v1/health")["reason"]:
        assert time.monotonic() < deadline
    answer = running.endpoint.ask("POST", "/v1/completions", {"prompt": "x"})
    assert answer["model"] == "sordino-2"


def test_it_ends_cleanly_and_tells_nobody_what_it_saw(
    tmp_path: Path, start: Callable[..., Any], release: Callable[..., Path]
) -> None:
    state = tmp_path / "state"
    release(state / "serving", 1)
    running = start(state)
    running.endpoint.ask("POST", "/v1/completions", {"prompt": SECRET, "suffix": SECRET})
    with pytest.raises(LinkError):
        running.endpoint.ask("POST", "/v1/completions", {"prompt": [SECRET], "n": -1})
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == 0
    assert not (state / "completion.json").exists()
    assert not (state / "completion.sock").exists()
    assert asking.find_endpoint(state) is None
    for path in state.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert SECRET.encode() not in data, path
            assert path.name == "token" or running.endpoint.token.encode() not in data, path


def test_the_benchmark_times_all_the_tokens_it_asks_for(
    tmp_path: Path, start: Callable[..., Any], release: Callable[..., Path]
) -> None:
    """Whatever the endpoint holds to be worth a look: by itself it shows nothing of random weights."""
    state = tmp_path / "state"
    release(state / "serving")
    quiet = start(state, "--show", "quiet").endpoint
    written = [bench._asked(quiet, f"def f{n}(a):\n    return ", tokens=6)[1]["usage"] for n in range(4)]
    assert max(usage["completion_tokens"] for usage in written) == 6


def test_a_second_endpoint_on_one_folder_is_refused(running: Any) -> None:
    command = [sys.executable, "-m", "sordino_client.completion", "--state", str(running.state)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert second.returncode == 7
    assert "already runs" in second.stderr


def test_a_token_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 43)
    (tmp_path / "token").chmod(0o644)
    command = [sys.executable, "-m", "sordino_client.completion", "--state", str(tmp_path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 3
    assert "other users" in refused.stderr


def test_a_port_in_use_is_one_clear_line(running: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sordino_client.completion", "--state", str(tmp_path)]
    refused = subprocess.run(
        [*command, "--port", str(running.endpoint.port)], capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 7
    assert "cannot be used" in refused.stderr


def test_the_process_holds_no_torch_no_flower_and_no_grpc(running: Any) -> None:
    mapped = Path(f"/proc/{running.process.pid}/maps").read_text()
    assert "onnxruntime" in mapped
    for foreign in ("torch", "grpc", "flwr"):
        assert f"/{foreign}/" not in mapped
    modules = loaded_by("sordino_client.completion.server", "sordino_client.completion.complete_command")
    assert not modules & {"torch", "flwr", "grpc", "opacus", "matplotlib", "scipy"}


@pytest.mark.slow
def test_a_thousand_requests_twenty_at_once_are_all_answered_or_told_to_wait(
    running: Any, sources: str
) -> None:
    found = bench.load(running.endpoint, running.process.pid, sources)
    assert (found["stress_ok"], found["stress_error"]) == (1000, 0)
    assert found["stress_told_to_wait"] > 0
    assert found["stress_growth_mb"] < 20, "the statistics and the caches are bounded"


def test_an_idle_endpoint_uses_no_processor_time(running: Any) -> None:
    process = Path(f"/proc/{running.process.pid}")

    def ticks() -> int:
        fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def wakes() -> int:
        lines = [line for task in process.glob("task/*/status") for line in task.read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))

    # The traffic of the tests before is written down and cleared away at the next look around, within 5 seconds.
    time.sleep(6)
    ran, woken = ticks(), wakes()
    time.sleep(4)
    assert ticks() - ran <= 1, f"of {4 * os.sysconf('SC_CLK_TCK')}"
    time.sleep(6)
    assert wakes() - woken <= 24, "to look around twice a second would be 20 more than there are"
