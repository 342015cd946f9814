"""What a daemon tells Prometheus about itself, and under which names.

Names follow https://prometheus.io/docs/practices/naming/ and what
https://prometheus.io/docs/practices/instrumentation/ says of offline processing. Every series has the label `daemon`,
and with --paralel also `process`, so that the files of several daemons can lie in one directory.

Nothing is counted for the sake of metrics but the time in processing. The rest is read when somebody asks: numbers that
the filer keeps anyway, and what the queue says of itself. That happens in another thread than the daemon's (see
`exposition`), so this reads plain numbers and `Queue.survey`, which any thread may do; it calls nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from piperkit.daemon.runlog import VERSIONS
from piperkit.filer import FilerDaemonComponent, names
from piperkit.naming import is_ours, moment
from piperkit.pause import Pause

#: Seconds, the upper ends of the histogram's buckets: from a file that is passed on to half an hour's work.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

#: Seconds, of a message's whole way: it may wait for a day.
LATENCY_BUCKETS = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600)

#: The outcomes of messages, and what the filer counts them as.
_OUTCOMES = {
    "committed": names.COMMITTED,
    "canceled": names.CANCELED,
    "dispatched": names.DISPATCHED,
    "banished": names.BANISHED,
    "retried": names.RETRIED,
    "postponed": names.POSTPONED,
    "returned": names.RETURNED,
}
#: Other counters, what the filer counts, and what they say.
_COUNTERS = {
    "piper_messages_enqueued": (names.ENQUEUED, "Messages that this daemon put into its own queue."),
    "piper_messages_claimed": (names.FETCHED, "Messages claimed."),
    "piper_messages_updated": (names.UPDATED, "Messages whose contents were replaced."),
    "piper_messages_duplicated": (names.DUPLICATED, "Copies put into other queues."),
    "piper_messages_recovered": (names.RECOVERED, "Claims of dead instances that were given back or finished."),
    "piper_attempts": (names.ATTEMPTS, "Times that a message was given to a component."),
    "piper_operation_failures": (names.ERRORS, "Operations on a queue that failed."),
}


def registry(name: str, filer: FilerDaemonComponent, process: str | None) -> CollectorRegistry:
    """All that is told of a daemon whose queue is open; `process` tells instances apart."""
    labels = {"daemon": name} | ({"process": process} if process else {})
    found = CollectorRegistry(auto_describe=False)
    found.register(_Collector(filer, labels))

    def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, list(labels), buckets=buckets, registry=found).labels(*labels.values())

    processing = "Time from giving a message to a component until it was settled."
    filer.desk.processed = histogram("piper_processing_seconds", processing, BUCKETS).observe
    if filer.parts.settings.out_dir is None:
        ending = (
            "Time from when a message was created, by its id, until it ended in this daemon, which has no next queue."
        )
        latency = histogram("piper_latency_seconds", ending, LATENCY_BUCKETS)

        def ended(id: str) -> None:
            if is_ours(id):
                latency.observe(max(0.0, time.time() - moment(id)))

        filer.desk.ended = ended
    return found


class _Collector(Collector):
    """Reads the daemon's numbers when it is asked."""

    def __init__(self, filer: FilerDaemonComponent, labels: dict[str, str]) -> None:
        self._filer = filer
        self._queue = filer.queue
        self._labels = labels
        self._started = time.time()

    def collect(self) -> Iterator[Metric]:
        yield from self._of_the_work()
        yield from self._of_the_queues()
        yield self._gauge("piper_build_info", "Versions that it runs with; always 1.", [(VERSIONS, 1)])

    def _of_the_work(self) -> Iterator[Metric]:
        counts = self._filer.statistics_cur
        yield self._counter(
            "piper_messages",
            "Messages settled, by what became of them.",
            [({"outcome": outcome}, counts.get(key, 0)) for outcome, key in _OUTCOMES.items()],
        )
        for name, (key, text) in _COUNTERS.items():
            yield self._counter(name, text, [({}, counts.get(key, 0))])
        waiting, in_work = self._filer.parts.claims.counts()
        yield self._gauge(
            "piper_claims",
            "Messages that this instance has claimed: those in work, and those that wait for their turn.",
            [({"state": "in_work"}, in_work), ({"state": "waiting"}, waiting)],
        )
        pause = self._filer.parts.waiting.pause
        yield self._gauge(
            "piper_paused",
            "Whether it claims nothing for the time being (1), by what it waits for.",
            [({"reason": reason.value}, int(reason is pause)) for reason in Pause],
        )
        yield self._gauge(
            "piper_start_timestamp_seconds", "When it started, in seconds since the epoch.", [({}, self._started)]
        )
        last = self._filer.desk.last_settled
        yield self._gauge(
            "piper_last_processed_timestamp_seconds",
            "When a message was last settled, in seconds since the epoch; missing before the first one.",
            [] if last is None else [({}, time.time() - (time.monotonic() - last))],
        )

    def _of_the_queues(self) -> Iterator[Metric]:
        survey = self._queue.survey()
        now = time.time()
        places = [({"queue": found.queue, "part": found.part}, found) for found in survey.depths]
        readable = [(labels, found) for labels, found in places if found.messages is not None]
        yield self._gauge(
            "piper_queue_readable",
            "Whether this part of the queue could be counted (1); if not, it is missing from the others.",
            [(labels, int(found.messages is not None)) for labels, found in places],
        )
        yield self._gauge(
            "piper_queue_messages",
            "Messages in this part of the queue.",
            [(labels, found.messages or 0) for labels, found in readable],
        )
        yield self._gauge(
            "piper_queue_oldest_message_age_seconds",
            "Age of the oldest message in this part of the queue, since it was first written; 0 if there is none.",
            [(labels, 0 if found.oldest is None else max(0.0, now - found.oldest)) for labels, found in readable],
        )
        yield self._gauge(
            "piper_queue_limit_messages",
            "Messages in the output queue at which processing pauses; missing where there is no limit.",
            [({"queue": "output"}, self._filer.parts.settings.out_limit)] if self._limited() else [],
        )
        spaces = [({"queue": found.queue}, found) for found in survey.spaces]
        yield self._gauge(
            "piper_queue_filesystem_avail_bytes",
            "Space on the file system of the queue that is free for others than root.",
            [(labels, found.available) for labels, found in spaces],
        )
        yield self._gauge(
            "piper_queue_filesystem_size_bytes",
            "Size of the file system of the queue.",
            [(labels, found.size) for labels, found in spaces],
        )

        counted = survey.instances
        yield self._gauge(
            "piper_queue_instances",
            "Instances on all machines that work on the queue, and those that have vanished; missing for a directory.",
            [] if counted is None else [({"state": "alive"}, counted[0]), ({"state": "gone"}, counted[1])],
        )

    def _limited(self) -> bool:
        return self._filer.parts.settings.is_limited

    def _counter(self, name: str, text: str, samples: list[tuple[dict[str, str], float]]) -> Metric:
        return self._filled(CounterMetricFamily(name, text), f"{name}_total", samples)

    def _gauge(self, name: str, text: str, samples: list[tuple[dict[str, str], float]]) -> Metric:
        return self._filled(GaugeMetricFamily(name, text), name, samples)

    def _filled(self, metric: Metric, name: str, samples: list[tuple[dict[str, str], float]]) -> Metric:
        for labels, value in samples:
            metric.add_sample(name, {**self._labels, **labels}, value)
        return metric
