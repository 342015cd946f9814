"""`Source`, for what comes from elsewhere: a file that grows, a socket, another program; it becomes messages.

A source enqueues into the daemon's own input queue, and from there on a message is as any other: it is processed, put
off or banished, and nothing is lost of it. What has come is enqueued and on the disk before the source is told so,
which is when it remembers how far it has got. So a crash between the two repeats messages, and never loses one.

It fetches only while messages can be processed: not while processing is paused, nor while the input queue is long.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from piperkit.component import Component, Result
from piperkit.config import Option
from piperkit.message import Contents, Message, Outcome

if TYPE_CHECKING:
    from piperkit.daemon import PiperDaemon


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
        self._pending: collections.deque[Contents] = collections.deque()  #: fetched, and not enqueued yet
        self._untold = False  #: something was enqueued since the last `fetched`
        self._more = True  #: the last fetch found something
        self._watched: int | None = None
        self._timer: Any = None
        self._trouble: str | None = None

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
        return not self._more

    # -- what pyzenkit sees ----------------------------------------------------------------------------------

    def get_events(self) -> list[dict[str, Any]]:
        return [
            *super().get_events(),
            self.gen_event_handler("start", self.cbk_event_fetch),
            self.gen_event_handler(self._fetch_event, self.cbk_event_fetch),
        ]

    @property
    def _fetch_event(self) -> str:
        return f"source_fetch_{id(self):x}"

    def cbk_event_fetch(self, daemon: PiperDaemon, args: Any) -> Result:
        """Fetch and enqueue what has come, if there may be more in the queue; and again at once, or later."""
        if self._timer is not None:
            daemon.queue.cancel(self._timer)
            self._timer = None
        if daemon.is_done():
            return daemon.FLAG_CONTINUE, args
        if daemon.filer.paused or daemon.filer.queue.count("incoming") >= daemon.c("source_limit"):
            self._later(daemon)
        elif not self._try_fetch(daemon):
            self._more = False  # as far as can be known: whoever waits for the end of all work does not wait for that
            self._later(daemon)
        elif self._more:
            daemon.queue.schedule(self._fetch_event)
        else:
            self._watch(daemon)
            self._later(daemon)
        return daemon.FLAG_CONTINUE, args

    def _try_fetch(self, daemon: PiperDaemon) -> bool:
        """Fetch, enqueue, and say so to the component; returns whether nothing failed. What failed is said once."""
        try:
            if not self._pending:
                self._pending.extend(self.fetch())
                self._more = bool(self._pending)
            self._untold = self._untold or self._more
            if self._untold:
                daemon.filer.enqueue_all(daemon, self._pending)
                self.fetched()
                self._untold = False
        except Exception as error:
            trouble = f"{type(error).__name__}: {error}"
            if trouble != self._trouble:
                daemon.logger.error("%s: fetching failed, and is tried again: %s", type(self).__name__, trouble)
            self._trouble = trouble
            return False
        if self._trouble is not None:
            daemon.logger.info("%s: fetching goes on", type(self).__name__)
            self._trouble = None
        return True

    def _later(self, daemon: PiperDaemon) -> None:
        self._timer = daemon.queue.schedule_after(daemon.c("source_wait"), self._fetch_event)

    def _watch(self, daemon: PiperDaemon) -> None:
        """Be called as soon as there is more. Not before: what is readable and not read would keep the loop awake."""
        fd = self.fileno()
        if fd is None or self._watched is not None:
            return

        def readable() -> None:
            daemon.unwatch(fd)
            self._watched = None
            daemon.queue.schedule(self._fetch_event)

        daemon.watch(fd, readable)
        self._watched = fd
