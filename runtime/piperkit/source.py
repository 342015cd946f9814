"""`Source`, which makes messages of data from elsewhere, such as a growing file, a socket or another program.

A source enqueues into the daemon's own input queue. From there on its messages are like any others: they are processed,
deferred or banished, and none is lost. What was fetched is enqueued and on the disk before the source is told so, and
only then does it record its position. A crash between the two repeats messages, but never loses one.

It fetches only while messages can be processed: not while processing is paused, not while the input queue is long, and
not while an operator has paused fetching, for instance to drain the daemons behind it.
"""

from __future__ import annotations

import collections
import select
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from piperkit.component import Component
from piperkit.config import Option
from piperkit.host import Host, Result, Timer
from piperkit.message import Contents, Failure, Message, Outcome


class Source(Component):
    """Subclass it and write `fetch`, and `fetched` if there is a position to record.

    As long as it has more, it is asked for more; then every `source_wait` seconds, or as soon as `fileno` is readable.
    Each instance of a daemon fetches by itself, so what only one process may read needs a single instance.
    """

    options: ClassVar[tuple[Option, ...]] = (
        Option("source_wait", float, 1.0, "time between looks for what has come", unit="seconds", minimum=0.01),
        Option(
            "source_limit",
            int,
            1000,
            "messages in the input queue at which fetching pauses",
            unit="messages",
            minimum=1,
        ),
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.__pending: collections.deque[Contents] = collections.deque()  #: fetched, and not enqueued yet
        self.__untold = False  #: something was enqueued since the last `fetched`
        self.__more = True  #: the last fetch found something
        self.__watched: int | None = None
        self.__in_vain = False  #: it was readable, and there was nothing to fetch
        self.__timer: Timer | None = None
        self.__trouble: str | None = None
        self.__held = False  #: an operator has it fetch nothing

    def fetch(self) -> Iterable[Contents]:
        """Return what has arrived since the last call, as messages in order; nothing if there is nothing. Do not wait.

        If there is much, return a part: the next call follows soon. It is not called again before what it returned is
        enqueued. An exception is logged, and it is called again later.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method fetch()")

    def fetched(self) -> None:
        """Called when all that `fetch` has returned is enqueued and on the disk: the time to record the position.

        An exception is logged, and it is called again later.
        """

    def fileno(self) -> int | None:
        """A descriptor that becomes readable when there is more to fetch, such as a socket's; None if there is none."""
        return None

    def process(self, message: Message) -> Outcome | None:
        """Pass on what was fetched."""
        return message.commit()

    def idle(self) -> bool:
        """Whether there was nothing to fetch when it last looked."""
        return not self.__more

    # -- what pyzenkit sees ----------------------------------------------------------------------------------

    def get_events(self) -> list[dict[str, Any]]:
        return [
            *super().get_events(),
            self.gen_event_handler("start", self.cbk_event_fetch),
            self.gen_event_handler(self.__event(), self.cbk_event_fetch),
        ]

    def __event(self) -> str:
        return f"source_fetch_{id(self):x}"

    def cbk_event_fetch(self, daemon: Host, args: Any) -> Result:
        """Fetch and enqueue what has come, if there may be more in the queue; and again at once, or later."""
        if self.__timer is not None:
            daemon.queue.cancel(self.__timer)
        if daemon.is_done():
            return daemon.FLAG_CONTINUE, args
        self.__timer = daemon.queue.schedule_after(daemon.c("source_wait"), self.__event())  # whatever happens now
        if daemon.filer.paused or self.__is_held(daemon):
            self.__more = False
            return daemon.FLAG_CONTINUE, args
        try:
            if daemon.filer.queue.count("incoming") < daemon.c("source_limit"):
                self.__fetch(daemon)
                if self.__more:
                    daemon.queue.schedule(self.__event())
                else:
                    self.__watch(daemon)
        except BaseException as error:
            self.__more = False  # as far as can be known: whoever waits for the end of all work does not wait for that
            text = Failure.of(error).reason
            if text != self.__trouble:
                daemon.logger.error("%s: fetching failed, and is tried again: %s", type(self).__name__, text)
            self.__trouble = text
        else:
            if self.__trouble is not None:
                daemon.logger.info("%s: fetching goes on", type(self).__name__)
                self.__trouble = None
        return daemon.FLAG_CONTINUE, args

    def __is_held(self, daemon: Host) -> bool:
        """Whether an operator has it fetch nothing; said when that begins, and when it ends."""
        paused = daemon.filer.queue.paused()
        if (paused is not None) != self.__held:
            self.__held = paused is not None
            daemon.logger.info(f"{type(self).__name__}: fetching {f'pauses: {paused}' if paused else 'goes on'}")
        return self.__held

    def __fetch(self, daemon: Host) -> None:
        """Fetch, enqueue, and say so to the component."""
        if not self.__pending:
            found = self.fetch()
            if isinstance(found, str | bytes | Mapping):
                raise TypeError(f"fetch() returned {found!r:.80}; it must return a list of messages")
            self.__pending.extend(found)
            self.__more = bool(self.__pending)
            self.__in_vain = self.__in_vain and not self.__more
        self.__untold = self.__untold or self.__more
        if self.__untold:
            daemon.filer.enqueue_all(self.__pending)
            self.fetched()
            self.__untold = False

    def __watch(self, daemon: Host) -> None:
        """Be called as soon as there is more. Not before: what is readable and not read would keep the loop awake.

        Where it stays readable and nothing is there to fetch (its writer is gone, say), the next look has to do.
        """
        fd = self.fileno()
        if self.__watched is not None and fd != self.__watched:
            daemon.unwatch(self.__watched)
            self.__watched = None
        if fd is None or self.__watched is not None:
            return
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if poll.poll(0):
            if not self.__in_vain:
                daemon.queue.schedule(self.__event())  # it has come in this moment, perhaps
            self.__in_vain = True
            return
        self.__in_vain = False

        def readable() -> None:
            daemon.unwatch(fd)
            self.__watched = None
            daemon.queue.schedule(self.__event())

        daemon.watch(fd, readable)
        self.__watched = fd
