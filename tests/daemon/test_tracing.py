"""Spans: a collector sees one trace of a message that passes two daemons."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import apps
from piperkit.dirq import DirectoryQueue
from piperkit.testing import Piper

pytestmark = pytest.mark.slow


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans."""

    spans: list[tuple[str, Span]]

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in request.resource_spans:
            name = next(each.value.string_value for each in resource.resource.attributes if each.key == "service.name")
            self.spans += [(name, span) for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, Span]]]]:
    """Its address, and what it has seen."""
    spans: list[tuple[str, Span]] = []
    handler = type("Handler", (Collector,), {"spans": spans})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
        server.shutdown()


def value(span: Span, key: str) -> str:
    return next(each.value.string_value for each in span.attributes if each.key == key)


def test_messages_way_through_two_daemons_is_one_trace(
    piper: Piper, collector: tuple[str, list[tuple[str, Span]]]
) -> None:
    endpoint, spans = collector
    with DirectoryQueue(piper.directory / "in") as queue:
        queue.enqueue("hello", "a")
        queue.enqueue("reject no", "b")
    options = [f"--traces-endpoint={endpoint}", "--history=all"]
    piper.run(lambda argv: apps.build("upper", argv), *options)
    more = [f"--queue-in-dir={piper.directory}/out", f"--queue-out-dir={piper.directory}/end"]
    piper.run(lambda argv: apps.build("echo", argv), *options, *more)
    ways = {(name, value(span, "messaging.message.id"), value(span, "piper.outcome")) for name, span in spans}
    assert ways == {("upper", "a", "committed"), ("upper", "b", "banished"), ("echo", "a", "committed")}
    traces = {value(span, "messaging.message.id"): set[bytes]() for _, span in spans}
    for _, span in spans:
        traces[value(span, "messaging.message.id")].add(span.trace_id)
        assert span.start_time_unix_nano <= span.end_time_unix_nano
    assert [len(traces["a"]), len(traces["b"])] == [1, 1]
    assert traces["a"] != traces["b"]
    (failed,) = [span for _, span in spans if value(span, "messaging.message.id") == "b"]
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "no")


def test_collector_that_is_away_costs_nothing_but_spans(piper: Piper) -> None:
    piper.put("hello")
    piper.run(lambda argv: apps.build("upper", argv), "--traces-endpoint=http://127.0.0.1:9/v1/traces", "--history=all")
    assert piper.out == [b"HELLO"]


def test_address_that_is_none_is_refused(piper: Piper) -> None:
    assert piper.run(lambda argv: apps.build("upper", argv), "--traces-endpoint=localhost:4318") == 78
