"""`AmqpSource` and `AmqpSink`: for neighbours that speak AMQP 0-9-1, such as RabbitMQ; by pika, with `piperkit[amqp]`.

The connection has a thread of its own, so that it answers the broker however long a component takes. A message is
acknowledged when it is in the daemon's queue, and taken out of that when the broker has confirmed it: a crash, or a
lost connection, repeats some of them, and loses none. Nothing is ever requeued as a way to wait: brokers count that,
and some delete what was requeued too often. While processing pauses, nothing is acknowledged, and the broker keeps the
rest.
"""

from __future__ import annotations

import collections
import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pika
import pika.exceptions

from piperkit.batch import BatchComponent
from piperkit.errors import ConfigError
from piperkit.host import Host
from piperkit.message import Contents, Message, Outcome, Reject, Unavailable
from piperkit.option import Option
from piperkit.source import Source

#: Messages that the broker sends before the first of them is acknowledged.
PREFETCH = 500
#: What is wrong before the first attempt to connect has ended.
NOT_YET = "it is not connected yet"
#: Seconds between two attempts to connect, and for which a batch waits for its confirmations.
_AGAIN, _CONFIRMED = 1.0, 60.0
#: A quorum queue, from which nothing is deleted since it was delivered too often.
_QUEUE = {"x-queue-type": "quorum", "x-delivery-limit": -1}


class Broker:
    """A connection to a broker, in a thread of its own; made anew when it is lost.

    url: amqp://USER@HOST:PORT/VHOST. password_file: holds the password. queue: is made where it is missing, as a quorum
    queue. ready: called in the thread with each new channel.
    """

    def __init__(self, url: str, password_file: str | None, queue: str | None, ready: Callable[[Any], None]) -> None:
        self._parameters = parameters(url, password_file)
        self._queue = queue
        self._ready = ready
        self._connection: Any = None
        self.channel: Any = None  #: the open one; None: there is none
        self.trouble = NOT_YET
        self.changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="amqp", daemon=True)
        self._thread.start()

    def do(self, what: Callable[[Any], None]) -> None:
        """Have something done with the channel, in the thread, if there is one then."""
        connection = self._connection

        def doing() -> None:
            if self.channel is not None:
                what(self.channel)

        with contextlib.suppress(pika.exceptions.AMQPError, AttributeError):  # it is being closed in this moment
            connection.ioloop.add_callback_threadsafe(doing)

    def reset(self) -> None:
        """Make another connection."""
        self.do(lambda channel: channel.connection.close())

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._stopping = True
        self.reset()
        self._thread.join(5.0)

    # -- in the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            self._connection = pika.SelectConnection(
                self._parameters,
                on_open_callback=self._connected,
                on_open_error_callback=self._ended,
                on_close_callback=self._ended,
            )
            try:
                self._connection.ioloop.start()
            except Exception as error:  # whatever a broker has sent: it is a lost connection
                self._lost(error)
            for _ in range(10):
                if not self._stopping:
                    time.sleep(_AGAIN / 10)

    def _connected(self, connection: Any) -> None:
        if self._queue is None:
            self._work(connection)
        else:
            connection.channel(on_open_callback=self._look)

    def _look(self, channel: Any) -> None:
        """Whether the queue is there, as it is; if not, the broker closes the channel."""

        def looked(closed: Any, reason: Any) -> None:
            if getattr(reason, "reply_code", 0) == 404:
                channel.connection.channel(on_open_callback=self._make)
            else:
                self._go_on(channel.connection, reason)

        channel.add_on_close_callback(looked)
        channel.queue_declare(self._queue, passive=True, callback=lambda _: channel.close())

    def _make(self, channel: Any) -> None:
        channel.add_on_close_callback(lambda closed, reason: self._go_on(channel.connection, reason))
        channel.queue_declare(self._queue, durable=True, arguments=_QUEUE, callback=lambda _: channel.close())

    def _go_on(self, connection: Any, reason: BaseException) -> None:
        """A channel of ours was closed: as we wanted, or since something is wrong."""
        if not connection.is_open:
            return
        if isinstance(reason, pika.exceptions.ChannelClosedByClient):
            self._work(connection)
        else:
            self._lost(reason)
            connection.close()

    def _work(self, connection: Any) -> None:
        def opened(channel: Any) -> None:
            channel.add_on_close_callback(self._closed)
            self._ready(channel)
            with self.changed:
                self.channel, self.trouble = channel, ""
                self.changed.notify_all()

        connection.channel(on_open_callback=opened)

    def _closed(self, channel: Any, reason: BaseException) -> None:
        self._lost(reason)
        if channel.connection.is_open:
            channel.connection.close()

    def _ended(self, connection: Any, reason: BaseException) -> None:
        self._lost(reason)
        connection.ioloop.stop()

    def _lost(self, reason: BaseException) -> None:
        with self.changed:
            if self.channel is not None or self.trouble == NOT_YET:
                self.trouble = f"{type(reason).__name__}: {reason}".removesuffix(": ")
            self.channel = None
            self.changed.notify_all()


def parameters(url: str, password_file: str | None) -> Any:
    """What pika needs. Raises ConfigError, which shows no password."""
    try:
        if not url.startswith(("amqp://", "amqps://")):
            raise ValueError
        found = pika.URLParameters(url)
    except Exception as error:
        raise ConfigError(f"amqp_url must be such as amqp://user@host/vhost: {type(error).__name__}") from None
    if "@" in url and ":" in url.split("//", 1)[-1].split("@", 1)[0]:
        raise ConfigError(
            "amqp_url has a password in it, which others could see; put it into a file: amqp_password_file"
        )
    user = found.credentials.username if "@" in url else "guest"
    password = "guest"
    if password_file:
        try:
            with open(password_file, encoding="utf-8") as file:
                password = file.read(4096).rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"amqp_password_file: {password_file} cannot be read: {error}") from None
    found.credentials = pika.PlainCredentials(user, password)
    if "heartbeat" not in url:
        found.heartbeat = 30
    return found


class AmqpSource(Source):
    """Takes messages out of a queue of a broker.

    The queue is made where it is missing: a quorum queue. Overwrite `message` to leave some out, or change them.
    """

    amqp_url = Option(str, "amqp://localhost/", help="broker: amqp://user@host/vhost, or amqps://", fixed=True)
    amqp_password_file = Option(str, None, kind="path", help="file with the password; not set: guest's", fixed=True)
    amqp_queue = Option(str, "{name}", help="queue of the broker; made where it is missing", fixed=True)

    def setup(self, daemon: Host) -> None:
        self.__logger = daemon.logger
        self.__received: collections.deque[tuple[Any, int, bytes]] = collections.deque()
        self.__arrived = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.__last: dict[Any, int] = {}  #: by channel, the last delivery that `fetch` has returned
        self.__said = ""
        self.__broker = Broker(self.amqp_url, self.amqp_password_file, self.amqp_queue, self.__ready)

    def message(self, data: bytes) -> Contents | None:
        """What was received as a message; None: nothing."""
        return data

    def fileno(self) -> int | None:
        return self.__arrived

    def fetch(self) -> list[Contents]:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.__arrived)
        trouble = self.__broker.trouble
        if trouble not in (self.__said, NOT_YET):
            if trouble:
                self.__logger.warning("%s: the broker is away: %s", type(self).__name__, trouble)
            elif self.__said:
                self.__logger.warning("%s: the broker is there again", type(self).__name__)
            self.__said = trouble
        found: list[Contents] = []
        while self.__received and len(found) < PREFETCH:
            channel, tag, data = self.__received.popleft()
            if channel is not self.__broker.channel:
                continue  # of a connection that is lost: it comes again
            self.__last[channel] = tag
            if (contents := self.message(data)) is not None:
                found.append(contents)
        if not found:
            self.fetched()  # what is left out is acknowledged, too, or the broker would send no more at last
        return found

    def fetched(self) -> None:
        last, self.__last = self.__last, {}
        for channel, tag in last.items():
            if channel is self.__broker.channel:
                self.__broker.do(lambda there, tag=tag: there.basic_ack(tag, multiple=True))  # type: ignore[misc]

    def teardown(self, daemon: Host) -> None:
        self.__broker.close()
        os.close(self.__arrived)

    def __ready(self, channel: Any) -> None:
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(self.amqp_queue, self.__deliver)

    def __deliver(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.__received.append((channel, method.delivery_tag, body))
        os.eventfd_write(self.__arrived, 1)


class AmqpSink(BatchComponent):
    """Publishes messages to an exchange of a broker, or by the default exchange to a queue.

    A message that no queue gets is rejected. Its id is the AMQP message's, too, by which a reader knows it again.
    """

    trial = True  # by --action try: then nothing is published

    amqp_url = Option(str, "amqp://localhost/", help="broker: amqp://user@host/vhost, or amqps://", fixed=True)
    amqp_password_file = Option(str, None, kind="path", help="file with the password; not set: guest's", fixed=True)
    amqp_exchange = Option(str, "", help="exchange; none: the default one, and routing keys are names of queues")
    amqp_routing_key = Option(
        str, "{name}", help="routing key; by default a queue, made where it is missing", fixed=True
    )

    def setup(self, daemon: Host) -> None:
        self.__number = 0  #: of the last message that was published by this channel
        self.__unconfirmed: set[int] = set()
        self.__refused = False
        self.__returned: set[str] = set()
        queue = None if self.amqp_exchange else self.amqp_routing_key
        self.__broker = Broker(self.amqp_url, self.amqp_password_file, queue, self.__ready)

    def routing_key(self, message: Message) -> str:
        """Where a message goes."""
        return self.amqp_routing_key

    def contents(self, message: Message) -> bytes:
        """What is published of a message."""
        return message.data

    def process_batch(self, messages: Sequence[Message]) -> Sequence[Outcome | None] | None:
        """Publish the messages; they are gone from the queue only when the broker has confirmed them."""
        if self.is_trial:
            return None
        broker = self.__broker
        sent = [(message.id, self.routing_key(message), self.contents(message)) for message in messages]
        with broker.changed:
            if broker.channel is None:
                broker.changed.wait(2 * _AGAIN)
            if broker.channel is None:
                raise Unavailable(f"AMQP: {broker.trouble}")
            first = self.__number + 1
            self.__number += len(sent)
            self.__unconfirmed = set(range(first, self.__number + 1))
            self.__refused = False
            self.__returned.clear()
            broker.do(lambda channel: self.__publish(channel, sent))
            done = broker.changed.wait_for(lambda: broker.channel is None or not self.__unconfirmed, _CONFIRMED)
            if broker.channel is None:
                raise Unavailable(f"AMQP: {broker.trouble}")
            if not done or self.__refused:
                broker.reset()  # so that no late confirmation is taken for another batch's
                raise Unavailable(f"AMQP: the broker {'has refused it' if done else 'does not confirm'}")
            returned = set(self.__returned)
        if returned and len(messages) == 1:
            where = f"the exchange {self.amqp_exchange}" if self.amqp_exchange else "the default exchange"
            raise Reject(f"AMQP: no queue gets what goes to {where} with the routing key {sent[0][1]!r}")
        # Those that no queue got fail, and come alone then.
        return [None if message.id in returned else message.commit() for message in messages]

    def teardown(self, daemon: Host) -> None:
        self.__broker.close()

    def __ready(self, channel: Any) -> None:
        self.__number = 0
        channel.add_on_return_callback(self.__on_return)
        channel.confirm_delivery(self.__on_confirm)

    def __publish(self, channel: Any, sent: Sequence[tuple[str, str, bytes]]) -> None:
        for id, key, data in sent:
            properties = pika.BasicProperties(delivery_mode=2, message_id=id[:255])
            channel.basic_publish(self.amqp_exchange, key, data, properties, mandatory=True)

    def __on_return(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        with self.__broker.changed:
            self.__returned.add(properties.message_id)

    def __on_confirm(self, frame: Any) -> None:
        """Not always in order: what no queue gets is confirmed at once."""
        tag = frame.method.delivery_tag
        with self.__broker.changed:
            self.__refused = self.__refused or isinstance(frame.method, pika.spec.Basic.Nack)
            multiple = frame.method.multiple
            self.__unconfirmed = {each for each in self.__unconfirmed if each > tag or (each < tag and not multiple)}
            self.__broker.changed.notify_all()
