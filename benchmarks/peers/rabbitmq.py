"""RabbitMQ by pika: consume, publish, and acknowledge what the broker has confirmed, from one quorum queue to another.

256 are on the way at a time. See `stopwatch`.
"""

from __future__ import annotations

import pika

from stopwatch import Stopwatch, arguments

PREFETCH = 256

options = arguments()
watch = Stopwatch(options.count)
parameters = pika.URLParameters(options.queue)
durable = pika.BasicProperties(delivery_mode=2)


def declare(channel, then) -> None:
    channel.queue_declare(
        "in", durable=True, arguments={"x-queue-type": "quorum"},
        callback=lambda _: channel.queue_declare(
            "out", durable=True, arguments={"x-queue-type": "quorum"}, callback=lambda _: then()
        ),
    )  # fmt: skip


class Mover:
    """Moves messages on; each is acknowledged when the broker has confirmed its successor."""

    def __init__(self, channel) -> None:
        self.channel = channel
        self.sent = 0
        self.tags: dict[int, int] = {}
        self.confirmed = 0
        channel.confirm_delivery(self.on_confirm)

    def begin(self) -> None:
        watch.ready()
        if options.verb == "enqueue":
            for _ in range(options.count):
                self.channel.basic_publish("", "in", b"x" * options.size, durable)
                self.sent += 1
        else:
            self.channel.basic_qos(prefetch_count=PREFETCH)
            self.channel.basic_consume("in", self.on_message)

    def on_message(self, channel, method, properties, body) -> None:
        channel.basic_publish("", "out", body, durable)
        self.sent += 1
        self.tags[self.sent] = method.delivery_tag

    def on_confirm(self, frame) -> None:
        tag = frame.method.delivery_tag
        first = self.confirmed + 1 if frame.method.multiple else tag
        for number in range(first, tag + 1):
            if number in self.tags:
                self.channel.basic_ack(self.tags.pop(number))
            if watch.lap():
                self.channel.connection.close()
        self.confirmed = max(self.confirmed, tag)


def opened(connection) -> None:
    def ready(channel) -> None:
        mover = Mover(channel)
        declare(channel, mover.begin)

    connection.channel(on_open_callback=ready)


connection = pika.SelectConnection(
    parameters, on_open_callback=opened, on_close_callback=lambda connection, reason: connection.ioloop.stop()
)
connection.ioloop.start()
watch.report()
