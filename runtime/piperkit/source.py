"""`Source`, for what comes from elsewhere: a file that grows, a socket, another program; it becomes messages.

A source enqueues into the daemon's own input queue, and from there on a message is as any other: it is processed, put
off or banished, and nothing is lost of it. What has come is enqueued and on the disk before the source is told so,
which is when it remembers how far it has got. So a crash between the two repeats messages, and never loses one.

It fetches only while messages can be processed: not while processing is paused, nor while the input queue is long, nor
while an operator has that paused, be it to drain what comes after.
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
    """Subclass it and write `fetch`, and `fetched` where there is something to remember.

    It is asked for more as long as it has more, then every `source_wait` seconds, or as soon as `fileno` is readable.
    Several instances of a daemon fetch each on its own: what only one may read needs one instance.
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
        """What has come since the last call, a message each, in order; nothing where nothing has. It must not wait.

        Of much, return a part: the next call follows soon. It is not called again before what it returned is enqueued.
        Raising is logged, and it is called again later.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method fetch()")

    def fetched(self) -> None:
        """All that `fetch` has returned is enqueued, and on the disk: the time to remember how far that was.

        Raising is logged, and it is called again later.
        """

    def fileno(self) -> int | None:
        """A descriptor that is readable when there is more to fetch, such as a socket's; None: there is none."""
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
