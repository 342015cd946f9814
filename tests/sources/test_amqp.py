"""Messages from and to a broker that speaks AMQP: a real one, which goes away and comes back."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest

import rabbitmq
from piperkit.testing import Piper
from rabbitmq import Broker

Until = Callable[..., None]

APP = """
import sys
from piperkit import PiperDaemon
from piperkit.amqp import AmqpSink, AmqpSource
component, *argv = sys.argv[1:]
class Picky(AmqpSource):
    def message(self, data):
        return None if data == b"no use" else data
class Sorting(AmqpSink):
    def routing_key(self, message):
        return message.text
found = {"source": AmqpSource, "sink": AmqpSink, "picky": Picky, "sorting": Sorting}[component]()
PiperDaemon(name="it", argv=argv, components=[found], default_message_format="bytes").run()
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with rabbitmq.Broker() as broker:
        yield broker


@pytest.fixture
def start(piper: Piper, broker: Broker) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []

    def run(component: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", APP, component, *piper.options(f"--amqp-url={broker.url}", *options)]
        processes.append(subprocess.Popen(command))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()


def publish(broker: Broker, queue: str, *bodies: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2), mandatory=True)


def there(broker: Broker, queue: str) -> int | None:
    """How many messages a queue of the broker holds that nobody has; None where it is not there."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        try:
            return int(connection.channel().queue_declare(queue, passive=True).method.message_count)
        except pika.exceptions.ChannelClosedByBroker:
            return None


def taken(broker: Broker, queue: str) -> list[tuple[str, bytes]]:
    """All that is there, with its ids, and no more then."""
    found = []
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        while True:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return found
            found.append((properties.message_id, body))


@pytest.mark.slow
def test_source_takes_what_is_in_a_queue_and_acknowledges_what_is_on_the_disk(
    piper: Piper, broker: Broker, start: Callable[..., subprocess.Popen[bytes]], until: Until
) -> None:
    process = start("source", "--amqp-queue=first")
    until(lambda: there(broker, "first") is not None, "the queue to be made")
    bodies = [b"%d" % number for number in range(1200)]
    publish(broker, "first", *bodies)
    until(lambda: len(piper.out) == len(bodies), "the messages")
    assert piper.out == bodies
    process.terminate()
    assert process.wait(60) == 0
    until(lambda: there(broker, "first") == 0, "nothing to be left, nor to come back")


@pytest.mark.slow
def test_source_goes_on_when_the_broker_is_there_again(
    piper: Piper, broker: Broker, start: Callable[..., subprocess.Popen[bytes]], until: Until
) -> None:
    start("source", "--amqp-queue=second")
    until(lambda: there(broker, "second") is not None, "the queue to be made")
    publish(broker, "second", b"before")
    until(lambda: piper.out == [b"before"], "the first message")
    broker.stop()
    broker.start()
    publish(broker, "second", b"after")
    until(lambda: b"after" in piper.out, "the second message")
    log = Path(piper.directory / "daemon.log").read_text()
    assert log.count("the broker is away") == 1
    assert "Traceback" not in log


@pytest.mark.slow
def test_sink_publishes_each_message_with_its_id_and_waits_for_a_broker_that_is_away(
    piper: Piper, broker: Broker, start: Callable[..., subprocess.Popen[bytes]], until: Until
) -> None:
    ids = piper.queue_in.enqueue_many(b"%d" % number for number in range(500))
    process = start("sink", "--amqp-routing-key=third", "--batch-wait=0.1")
    until(lambda: there(broker, "third") == 500, "the messages")
    assert taken(broker, "third") == [(id, b"%d" % number) for number, id in enumerate(ids)]
    assert len(piper.out) == 500
    broker.stop()
    piper.put(b"later")
    until(lambda: "waiting for: AMQP" in Path(piper.directory / "daemon.log").read_text(), "the pause")
    assert piper.counts()["errors"] == 0
    broker.start()
    until(lambda: there(broker, "third") == 1, "the last message")
    process.terminate()
    assert process.wait(60) == 0


@pytest.mark.slow
def test_message_that_no_queue_gets_is_a_dead_letter_and_the_others_are_published_once(
    piper: Piper, broker: Broker, start: Callable[..., subprocess.Popen[bytes]], until: Until
) -> None:
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.queue_declare("bound", durable=True)
        channel.queue_bind("bound", "amq.direct", "bound")
    piper.put(b"bound", b"nowhere", b"bound")
    start("sorting", "--amqp-exchange=amq.direct", "--retry-min=0.1", "--retry-max=0.1", "--batch-wait=0.1")
    until(lambda: piper.counts()["errors"] == 1, "the dead letter")
    assert piper.errors == [
        (b"nowhere", "AMQP: no queue gets what goes to the exchange amq.direct with the routing key 'nowhere'")
    ]
    assert [body for _, body in taken(broker, "bound")] == [b"bound"] * 2


@pytest.mark.slow
def test_source_that_leaves_much_out_is_sent_what_follows(
    piper: Piper, broker: Broker, start: Callable[..., subprocess.Popen[bytes]], until: Until
) -> None:
    start("picky", "--amqp-queue=much")
    until(lambda: there(broker, "much") is not None, "the queue to be made")
    publish(broker, "much", *[b"no use"] * 1100, b"of use")
    until(lambda: piper.out == [b"of use"], "the message")


@pytest.mark.parametrize("url", ["amqp://me:secret@host/", "http://host/"])
def test_wrong_broker_ends_the_start_and_shows_no_password(piper: Piper, url: str) -> None:
    command = [sys.executable, "-c", APP, "source", *piper.options(), f"--amqp-url={url}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert "amqp_url" in done.stderr
    assert "secret" not in done.stderr + Path(piper.directory / "daemon.log").read_text()
