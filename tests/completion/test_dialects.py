"""Every dialect, by the request bodies that its clients are documented to send, against the real process."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sordino_client.completion.api.sentinels import TEMPLATES, Filled, split
from sordino_client.completion.context import Snippet
from sordino_client.completion.statistics import EndpointStatistics, read

PREFIX, SUFFIX = "def area(width, height):\n    return ", "\n\nprint(area(2, 3))\n"


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory, start: Callable[..., Any], release: Callable[..., Path]
) -> Any:
    state = tmp_path_factory.mktemp("dialects")
    release(state / "serving")
    return start(state)


def send(
    running: Any, method: str, path: str, body: Any = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", running.endpoint.port, timeout=30)
    fields = {
        "Authorization": f"Bearer {running.endpoint.token}",
        "Content-Type": "application/json",
        **headers,
    }
    connection.request(method, path, None if body is None else json.dumps(body), fields)
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response.status, data, {name.lower(): value for name, value in response.getheaders()}


@pytest.fixture(scope="module")
def expected(running: Any) -> str:
    """What the engine writes between the two, whoever asks."""
    answer = running.endpoint.ask(
        "POST", "/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 12}
    )
    return str(answer["choices"][0]["text"])


class TestLlamaCpp:
    BODY: dict[str, Any] = {  # noqa: RUF012 - what llama.vim sends
        "id_slot": 0,
        "input_prefix": PREFIX.rsplit("\n", 1)[0] + "\n",
        "input_suffix": SUFFIX,
        "input_extra": [{"text": "x", "time": 1, "filename": "a.py"}],
        "prompt": PREFIX.rsplit("\n", 1)[1],
        "n_predict": 12,
        "stop": [],
        "n_indent": 4,
        "top_k": 40,
        "top_p": 0.9,
        "stream": False,
        "samplers": ["top_k", "top_p", "infill"],
        "cache_prompt": True,
        "t_max_prompt_ms": 500,
        "t_max_predict_ms": 30000,
    }

    def test_infill_reads_prefix_and_prompt_as_one(self, running: Any, expected: str) -> None:
        status, data, _ = send(running, "POST", "/infill", self.BODY)
        assert status == 200
        assert b'"content":"' in data, "llama.vim looks for this text"
        answer = json.loads(data)
        assert answer["content"] == expected
        assert answer["timings"]["predicted_n"] >= 1
        assert answer["prompt"] == ""

    def test_response_fields_become_literal_keys(self, running: Any, expected: str) -> None:
        fields = ["content", "timings/prompt_n", "timings/predicted_ms", "truncated", "unknown/field"]
        _, data, _ = send(running, "POST", "/infill", self.BODY | {"response_fields": fields})
        answer = json.loads(data)
        assert set(answer) == {"content", "timings/prompt_n", "timings/predicted_ms", "truncated"}
        assert answer["content"] == expected

    def test_nothing_to_predict_only_warms(self, running: Any) -> None:
        text = "import another_module\n" * 8 + "x"
        body = self.BODY | {"input_prefix": text, "n_predict": 0, "response_fields": [""]}
        assert send(running, "POST", "/infill", body)[:2] == (200, b"{}")
        _, data, _ = send(running, "POST", "/infill", self.BODY | {"input_prefix": text, "n_predict": 1})
        assert json.loads(data)["timings"]["cache_n"] > 20

    def test_several_completions_are_an_array(self, running: Any, expected: str) -> None:
        _, data, _ = send(running, "POST", "/infill", self.BODY | {"n_cmpl": 3, "temperature": 0})
        answers = json.loads(data)
        assert isinstance(answers, list)
        assert answers[0]["content"] == expected

    def test_a_stream_joins_to_the_completion(self, running: Any, expected: str) -> None:
        _, data, headers = send(running, "POST", "/infill", self.BODY | {"stream": True})
        events = [json.loads(line[6:]) for line in data.decode().split("\n\n") if line]
        assert headers["content-type"].startswith("text/event-stream")
        assert "".join(event["content"] for event in events) == expected
        assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]

    def test_time_limits_end_a_completion(self, running: Any) -> None:
        body = self.BODY | {"n_predict": 200, "t_max_predict_ms": 0.001}
        assert json.loads(send(running, "POST", "/infill", body)[1])["tokens_predicted"] <= 3

    def test_health_and_props(self, running: Any) -> None:
        assert send(running, "GET", "/health")[:2] == (200, b'{"status":"ok"}')
        assert json.loads(send(running, "GET", "/props")[1])["default_generation_settings"]["n_ctx"] == 160


class TestTabby:
    def test_segments_are_completed_and_events_counted(self, running: Any, expected: str) -> None:
        body = {
            "language": "python",
            "segments": {
                "prefix": PREFIX,
                "suffix": SUFFIX,
                "filepath": "a.py",
                "clipboard": "x",
                "declarations": [],
            },
            "temperature": 0.2,
            "user": "someone",
        }
        answer = json.loads(send(running, "POST", "/v1/completions", body)[1])
        text = answer["choices"][0]["text"]
        assert text.startswith(expected[:4])
        before = running.endpoint.ask("GET", "/v1/statistics")
        for kind in ("view", "select", "dismiss", "a_kind_of_the_future"):
            event = {
                "type": kind,
                "completion_id": answer["id"],
                "choice_index": 0,
                "view_id": "1",
                "elapsed": 3,
            }
            assert send(running, "POST", "/v1/events", event)[:2] == (200, b"")
        after = running.endpoint.ask("GET", "/v1/statistics")
        assert [after[n] - before[n] for n in ("shown", "accepted", "dismissed")] == [1, 1, 1]
        assert after["accepted_characters"] - before["accepted_characters"] == len(text)

    def test_a_part_that_was_accepted_before_is_counted_once(self, running: Any, expected: str) -> None:
        answer = json.loads(send(running, "POST", "/v1/completions", {"prompt": PREFIX, "suffix": SUFFIX})[1])
        whole = len(answer["choices"][0]["text"])
        before = running.endpoint.ask("GET", "/v1/statistics")
        for kind, characters in (("partial", 3), ("select", whole - 3)):
            event = {"type": kind, "completion_id": answer["id"], "characters": characters}
            assert send(running, "POST", "/v1/events", event)[0] == 200
        after = running.endpoint.ask("GET", "/v1/statistics")
        assert after["accepted"] - before["accepted"] == 1
        assert after["accepted_characters"] - before["accepted_characters"] == whole

    def test_health_and_settings(self, running: Any) -> None:
        health = running.endpoint.ask("GET", "/v1/health")
        assert (health["model"], health["device"]) == ("sordino-1", "cpu")
        assert "git_describe" in health["version"]
        assert send(running, "POST", "/v1/health", {})[0] == 200
        assert running.endpoint.ask("GET", "/v1beta/server_setting") == {
            "disable_client_side_telemetry": True
        }


class TestMistral:
    BODY: dict[str, Any] = {"model": "codestral-latest", "prompt": PREFIX, "suffix": SUFFIX, "max_tokens": 12}  # noqa: RUF012

    def test_the_answer_has_the_shape_of_a_chat(self, running: Any, expected: str) -> None:
        answer = json.loads(send(running, "POST", "/v1/fim/completions", self.BODY)[1])
        assert answer["choices"][0]["message"] == {
            "role": "assistant",
            "content": expected,
            "tool_calls": None,
        }

    def test_a_stream_joins_to_the_completion(self, running: Any, expected: str) -> None:
        _, data, _ = send(running, "POST", "/v1/fim/completions", self.BODY | {"stream": True})
        lines = [line[6:] for line in data.decode().split("\n\n") if line]
        assert lines.pop() == "[DONE]"
        assert "".join(json.loads(line)["choices"][0]["delta"]["content"] for line in lines) == expected


class TestOllama:
    BODY: dict[str, Any] = {  # noqa: RUF012 - what Continue sends
        "model": "qwen2.5-coder:1.5b",
        "prompt": PREFIX,
        "suffix": SUFFIX,
        "raw": False,
        "options": {"num_predict": 12, "temperature": 0, "stop": ["<|endoftext|>"], "num_ctx": 8096},
        "keep_alive": 1800,
    }

    def test_generation_is_a_line_per_piece(self, running: Any, expected: str) -> None:
        _, data, headers = send(running, "POST", "/api/generate", self.BODY)
        pieces = [json.loads(line) for line in data.splitlines()]
        assert headers["content-type"] == "application/x-ndjson"
        assert "".join(piece["response"] for piece in pieces) == expected
        assert pieces[-1]["done"]
        assert pieces[-1]["eval_count"] >= 1

    def test_whole_answers_and_the_model(self, running: Any, expected: str) -> None:
        assert (
            json.loads(send(running, "POST", "/api/generate", self.BODY | {"stream": False})[1])["response"]
            == expected
        )
        assert json.loads(send(running, "GET", "/api/tags")[1])["models"][0]["name"] == "sordino-1"
        assert "insert" in json.loads(send(running, "POST", "/api/show", {"model": "x"})[1])["capabilities"]
        assert json.loads(send(running, "POST", "/api/generate", {"model": "x"})[1])["done_reason"] == "load"


class TestSentinels:
    @pytest.mark.parametrize("template", TEMPLATES)
    def test_each_template_is_filled_in(self, running: Any, expected: str, template: Any) -> None:
        prompt = f"{template.begin}{PREFIX}{template.hole}{SUFFIX}{template.end}"
        answer = running.endpoint.ask("POST", "/v1/completions", {"prompt": prompt, "max_tokens": 12})
        assert answer["choices"][0]["text"] == expected

    def test_codestral_puts_the_suffix_first(self) -> None:
        assert split("[SUFFIX]b[PREFIX]a", "") == Filled("a", "b")

    def test_what_precedes_describes_other_files(self) -> None:
        prompt = "<|repo_name|>r<|file_sep|>other.py\nx\n<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
        assert split(prompt, "") == Filled("a", "b", others=(Snippet(path="other.py", text="x\n"),))

    def test_the_file_that_is_completed_is_named_last(self) -> None:
        prompt = "<|repo_name|>r<|file_sep|>o.py\nx\n<|file_sep|>b.env\n<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>"
        assert split(prompt, "") == Filled("a", "b", "b.env", (Snippet(path="o.py", text="x\n"),))

    @given(st.lists(st.sampled_from([*(p for t in TEMPLATES for p in t), "[SUFFIX]", "x", "\n"]), max_size=6))
    def test_source_text_with_sentinels_is_source_text(self, parts: list[str]) -> None:
        text = "".join(parts)
        assert split("# about " + text + "\n", "") == Filled("# about " + text + "\n", "")
        assert split(text, "behind") == Filled(text, "behind")


class TestStatistics:
    def test_they_survive_a_restart_and_hold_numbers_only(self, tmp_path: Path) -> None:
        path = tmp_path / "statistics.json"
        day = ["2026-11-22"]
        statistics = EndpointStatistics(path, today=lambda: day[0])
        for n in range(100):
            statistics.latency(0.001 * (n + 1))
        statistics.event("shown", 0)
        statistics.event("accepted", 30)
        statistics.typed(70)
        statistics.outcome("line_complete")
        day[0] = "2026-11-23"
        statistics.event("shown", 0)
        statistics.save()
        found = read(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert (found["shown"], found["acceptance"], found["completed_ratio"]) == (2, 0.5, 0.3)
        assert found["reasons"] == {"line_complete": 1}
        assert found["latency_p50_ms"] == pytest.approx(50, rel=0.2)
        assert found["latency_p95_ms"] == pytest.approx(95, rel=0.2)
        assert [entry["day"] for entry in found["days"]] == ["2026-11-22", "2026-11-23"]

    @pytest.mark.parametrize("damage", ["", "{", "[]", '{"days": {"d": {}}}', '{"days": 7}'])
    def test_a_damaged_file_starts_anew(self, tmp_path: Path, damage: str) -> None:
        path = tmp_path / "statistics.json"
        path.write_text(damage)
        assert read(path)["requests"] == 0

    def test_the_page_is_open_but_its_figures_are_not(self, running: Any) -> None:
        for path in ("/", "/page.js", "/page.css"):
            status, data, headers = send(running, "GET", path, Authorization="")
            assert status == 200
            assert running.endpoint.token.encode() not in data
            assert "default-src 'none'" in headers["content-security-policy"]
        assert send(running, "GET", "/v1/statistics", Authorization="")[0] == 401
        assert send(running, "POST", "/", {}, Authorization="")[0] == 401

    def test_an_editor_can_ask_why_there_was_nothing(self, running: Any) -> None:
        editor = {"X-Sordino-Editor": "asks-why"}
        body = {"prompt": "x = 1", "stop": ["x", "="], "max_tokens": 1}
        _, _, headers = send(running, "POST", "/v1/completions", body, **editor)
        found = json.loads(send(running, "GET", "/v1/why", **editor)[1])
        assert found[0]["reason"] == headers["x-sordino-reason"]
        assert found[0]["explanation"]


@pytest.mark.parametrize(
    ("path", "secret"),
    [
        ("/home/ada/work/.env", True),
        ("C:\\work\\keys\\server.pem", True),
        ("/home/ada/.ssh/config", True),
        ("/home/ada/work/Account.java", False),
        ("/home/ada/work/secrets.py", False),
    ],
)
def test_editors_learn_which_files_never_get_completions(running: Any, path: str, secret: bool) -> None:
    assert running.endpoint.ask("POST", "/v1/secret-name", {"path": path}) == {"secret": secret}


@pytest.mark.slow
def test_schemathesis_finds_nothing(running: Any, tmp_path: Path) -> None:
    """Its own command with all its checks but one: we take what clients send, `"temperature": "0"` included, where
    the document promises numbers."""
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(running.endpoint.ask("GET", "/openapi.json")))
    command = [sys.executable, "-m", "schemathesis.cli", "run", str(document), "--no-color"]
    command += ["--url", f"http://127.0.0.1:{running.endpoint.port}", "--rate-limit", "40/s"]
    command += ["-H", f"Authorization: Bearer {running.endpoint.token}", "--max-examples", "8"]
    command += ["--exclude-checks", "negative_data_rejection"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout


def test_the_openapi_document_holds_what_is_answered(running: Any) -> None:
    """schemathesis: whatever the document allows is answered without a server error, as documented."""
    document = running.endpoint.ask("GET", "/openapi.json")
    assert {"/v1/completions", "/infill", "/api/generate", "/v1/fim/completions"} <= set(document["paths"])
    schema = schemathesis.openapi.from_dict(document)
    base = f"http://127.0.0.1:{running.endpoint.port}"
    # The purge and the builds have tests of their own.
    operations = schema.exclude(path_regex="/v1/memory").get_all_operations()

    for result in operations:
        operation = result.ok()  # type: ignore[union-attr] # an error raises here, and should

        @given(case=operation.as_strategy())
        @settings(max_examples=4, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        def probe(case: Any) -> None:
            headers = {"Authorization": f"Bearer {running.endpoint.token}"}
            response = case.call(base_url=base, headers=headers)
            assert response.status_code < 500, case.path

        probe()


def test_a_request_says_how_sure_a_text_must_be(running: Any) -> None:
    asked = {"prompt": "def transfer(amount):\n    return ", "max_tokens": 12, "path": "a.py"}
    answers = {
        show: running.endpoint.ask("POST", "/v1/completions", {**asked, "show": show})
        for show in ("all", "quiet")
    }
    assert answers["all"]["choices"][0]["text"]
    assert answers["quiet"]["choices"][0]["text"] == "", "random weights are sure of nothing"
    assert answers["quiet"]["sordino"]["reason"].startswith("nothing was likely enough")
    with_figures = running.endpoint.ask("POST", "/v1/completions", {**asked, "show": None, "logprobs": 1})
    assert with_figures["choices"][0]["text"] == answers["all"]["choices"][0]["text"]
