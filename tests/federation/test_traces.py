"""What leaves in a trace: steps, times, numbers of a closed list. Against a real OTLP receiver, by gRPC."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.federation.inprocess import InProcessGrid, found_in, opened, store_update

from sordino_coordinator.federation import Federation
from sordino_coordinator.rounds import Outcome
from sordino_coordinator.strategy import SecureFedAvg
from sordino_platform.flower.phases import Phase
from sordino_platform.machine.sockets import loopback
from sordino_platform.tracing import (
    ATTRIBUTES,
    RESOURCE,
    UNTRACED,
    TracedStep,
    allowed,
    open_traces,
    root_id,
    trace_id,
)
from sordino_privacy.errors import DataError
from sordino_privacy.secagg.coordinator import mustering

pytest.importorskip("opentelemetry.sdk", reason="needs the extra `traces`")
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service_grpc

RUN = 7
SECRETS = ("def rotate_the_billing_keys", "billing_secrets.py", "a-branch-of-alder")


class Collector(service_grpc.TraceServiceServicer):  # type: ignore[misc]  # generated, untyped
    """Keeps what it is sent, as bytes and parsed."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.spans: list[Any] = []
        self.resources: list[Any] = []
        self._guard = threading.Lock()

    def Export(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._guard:
            self.raw.append(request.SerializeToString())
            for group in request.resource_spans:
                self.resources.append(group.resource)
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return service.ExportTraceServiceResponse()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def collector() -> Iterator[tuple[str, Collector]]:
    server, kept = grpc.server(futures.ThreadPoolExecutor(2)), Collector()
    service_grpc.add_TraceServiceServicer_to_server(kept, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", kept
    server.stop(0).wait()


def attributes(holder: Any) -> dict[str, int | str]:
    return {
        one.key: one.value.int_value if one.value.HasField("int_value") else one.value.string_value
        for one in holder.attributes
    }


def run_round(
    place: Path,
    address: str,
    *,
    members_too: bool = True,
    absent: str | None = None,
    trained: tuple[str, ...] = (),
) -> None:
    """One round of five members, traced to `address`; who is in `trained` trains for real."""
    of_members: dict[str, object] = {"traces": address if members_too else ""}
    if trained:
        code = place.parent / SECRETS[2]
        code.mkdir()
        for number in range(16):
            text = "".join(f"{SECRETS[0]}_{number}_{line}(x):\n    return x\n" for line in range(30))
            (code / f"{number}_{SECRETS[1]}").write_text(text)
        of_members |= {"repositories": [str(code)], "minimum_units": 1, "heldout_share": 0.0}
    found_in(place, of_members=of_members, traces=address)
    federation = Federation.open(place / "coordinator")
    federation.trace()
    with opened(place) as members:
        grid = InProcessGrid(members, run=RUN)
        if absent is not None:
            grid.absent = {(Phase.UPLOAD.message_type, absent)}
        for index, (name, member) in enumerate(members.items()):
            if name not in trained:
                store_update(member, federation, 1, 0.001 * (1 + index))
        SecureFedAvg(federation).one_round(grid)
    federation.traces.close()
    federation.rounds.close()


def test_a_round_is_one_trace_of_both_sides_and_holds_nothing_but_what_is_listed(
    collector: tuple[str, Collector], tmp_path: Path
) -> None:
    address, kept = collector
    run_round(tmp_path / "federation", address, absent="elm")

    held = {phase.value for phase in Phase} - {Phase.MUSTER, Phase.SOUND}  # five members need no muster
    of_coordinator = {*held, "open", "release", "round"}
    of_members = {f"member.{phase}" for phase in held}
    assert {span.name for span in kept.spans} == of_coordinator | of_members
    (root,) = kept.named("round")
    assert int.from_bytes(root.trace_id) == trace_id(RUN, 1)
    assert int.from_bytes(root.span_id) == root_id(RUN, 1)
    assert not root.parent_span_id
    assert {span.trace_id for span in kept.spans} == {root.trace_id}
    assert {span.parent_span_id for span in kept.spans if span is not root} == {root.span_id}

    facts = attributes(root)
    assert facts["sordino.outcome"] == Outcome.COMPLETED
    assert facts["sordino.dropouts"] == 1
    (uploads,) = kept.named("masked_input")
    assert attributes(uploads) == {"sordino.attempt": 0, "sordino.asked": 5, "sordino.answered": 4}
    assert len(kept.named("member.survivors")) == 4
    for step in kept.spans:
        assert root.start_time_unix_nano <= step.start_time_unix_nano <= step.end_time_unix_nano

    assert {key for span in kept.spans for key in attributes(span)} <= ATTRIBUTES
    assert {key for resource in kept.resources for key in attributes(resource)} == RESOURCE
    assert {attributes(one)["sordino.party"] for one in kept.resources} >= {"alder", "coordinator"}
    assert not any(
        span.events or span.links or span.trace_state or span.status.message for span in kept.spans
    )
    sent = b"".join(kept.raw)
    for name in (str(tmp_path), "federation/members", "member.toml", "elm ltd", "sqlite"):
        assert name.encode() not in sent


def test_a_large_cohort_is_mustered_and_its_muster_traced(
    collector: tuple[str, Collector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mustering, "MUSTERED_ABOVE", 2)  # five members are one
    address, kept = collector
    run_round(tmp_path / "federation", address)
    every = {phase.value for phase in Phase}
    assert {span.name for span in kept.spans} == {
        *every, *(f"member.{phase}" for phase in every), "open", "release", "round"
    }  # fmt: skip


@pytest.mark.slow
def test_a_member_that_trains_sends_no_name_and_no_line_of_its_code(
    collector: tuple[str, Collector], tmp_path: Path
) -> None:
    address, kept = collector
    run_round(tmp_path / "federation", address, trained=("alder",))
    (whole,) = [span for span in kept.named("member.train") if any(
        inner.parent_span_id == span.span_id for inner in kept.spans
    )]  # fmt: skip
    within = [span.name for span in kept.spans if span.parent_span_id == whole.span_id]
    assert sorted(within) == ["member.compute", "member.prepare", "member.quantise"]
    sent = b"".join(kept.raw)
    for text in SECRETS:
        assert text.encode() not in sent


def test_an_error_leaves_its_mark_and_no_text(collector: tuple[str, Collector]) -> None:
    address, kept = collector
    traces = open_traces(address, authority=None, federation="f", role="member", name="alder")
    with pytest.raises(DataError), traces.step(TracedStep.MEMBER_PREPARE, run=1, round=1):
        raise DataError(f"cannot read {SECRETS[1]}", hint=SECRETS[0])
    traces.close()
    (span,) = kept.spans
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert not span.status.message
    assert not span.events
    assert not any(text.encode() in b"".join(kept.raw) for text in SECRETS)


def test_no_text_passes_and_no_name_that_is_not_listed() -> None:
    facts: dict[str, Any] = {
        "round": 3,
        "outcome": Outcome.COMPLETED,
        "asked": "def f():",
        "outcome2": Outcome.OPEN,
    }
    assert allowed(facts) == {"sordino.round": 3, "sordino.outcome": "completed"}
    assert allowed({"outcome": "a text"}) == {}  # type: ignore[dict-item]
    assert allowed({"asked": True}) == {}
    assert allowed({"round": 1.5}) == {}  # type: ignore[dict-item]


def test_nothing_is_taken_from_the_environment_or_the_machine(
    collector: tuple[str, Collector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=builder,secret=x")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "other")
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "process,host,os")
    address, kept = collector
    traces = open_traces(address, authority=None, federation="f", role="member", name="alder")
    with traces.step(TracedStep.MEMBER_RESULT, run=1, round=1):
        pass
    traces.close()
    (resource,) = kept.resources
    assert set(attributes(resource)) == RESOURCE
    assert attributes(resource)["service.name"] == "sordino-member"


def test_without_an_address_there_are_none() -> None:
    assert open_traces("", authority=None, federation="f", role="member", name="alder") is UNTRACED


def test_a_collector_that_is_gone_holds_no_round_up(tmp_path: Path) -> None:
    with loopback(0) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"  # bound, and nobody listens
        run_round(tmp_path / "federation", address, members_too=False)
    federation = Federation.open(tmp_path / "federation" / "coordinator")
    assert federation.releases.head().number == 1
    federation.rounds.close()
    shutil.rmtree(tmp_path / "federation")
