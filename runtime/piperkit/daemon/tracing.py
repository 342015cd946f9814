"""Spans for OpenTelemetry, of the messages that `history` keeps: one for each attempt at a message in each daemon.

Nothing travels with a message: its trace is known by its id and arrival, which all daemons that it passes share. So
what several of them send is one trace. Attributes follow
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/. Spans are sent in batches by a thread; where
the collector is away they are dropped, and messages know nothing of it.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

#: Seconds that the collector has for an answer, and so for what a daemon has left when it stops.
_PATIENCE = 2
#: What an attempt that ends so has not succeeded with.
_FAILED = ("banished", "put off", "waits")


class Spans:
    """Sends spans to an OTLP/HTTP endpoint.

    name: the daemon's. endpoint: such as http://localhost:4318/v1/traces.
    """

    def __init__(self, name: str, endpoint: str) -> None:
        resource = Resource.create({"service.name": name, "service.instance.id": str(os.getpid())})
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_PATIENCE)))
        self._tracer = self._provider.get_tracer("piperkit")

    def send(self, facts: dict[str, Any], arrived: float | None) -> None:
        """A message was settled. facts: what its line in the history says. arrived: seconds since the epoch."""
        end = time.time_ns()
        start = end - int(facts.get("took", 0.0) * 1e9)
        queue, what = str(facts["queue"]), str(facts["what"])
        span = self._tracer.start_span(
            f"process {os.path.basename(queue)}",
            context=set_span_in_context(NonRecordingSpan(origin(str(facts["id"]), arrived))),
            kind=SpanKind.CONSUMER,
            start_time=start,
            attributes={
                "messaging.system": "piperkit",
                "messaging.operation.type": "process",
                "messaging.destination.name": queue,
                "messaging.message.id": str(facts["id"]),
                "piper.outcome": what,
                **{f"piper.{key}": facts[key] for key in ("attempt", "to", "delay") if key in facts},
                **({} if arrived is None else {"piper.waited": max(0.0, start / 1e9 - arrived)}),
            },
        )
        if what in _FAILED:
            span.set_status(StatusCode.ERROR, str(facts.get("reason", what)))
        span.end(end)

    def close(self) -> None:
        """Send what is left, if the collector takes it in a moment."""
        self._provider.shutdown()


def origin(id: str, arrived: float | None) -> SpanContext:
    """What all spans of a message have in common."""
    digest = hashlib.sha256(f"{id} {arrived or 0:.6f}".encode(errors="surrogateescape")).digest()
    return SpanContext(
        trace_id=int.from_bytes(digest[:16], "big"),
        span_id=int.from_bytes(digest[16:24], "big"),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )
