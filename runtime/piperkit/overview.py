"""How queues do: how full they are, how much comes and goes, and who works on each; for lists, `top` and the page.

To look costs a bounded share of a processor, however much is in the queues: what took a while is used again for REUSE
times as long. What flows is told by the kernel, or by the daemons' own word in a database.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from piperkit import engines
from piperkit.errors import PiperError
from piperkit.flow import Flow
from piperkit.operating import Instance, Paused, View

REUSE = 20.0
#: Seconds that the oldest message may wait before that is a warning, and critical; as `piperctl check` by default.
_WARNING, _CRITICAL = 900.0, 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class QueueState:
    """A queue in one moment."""

    queue: str  #: its path or address
    parts: Mapping[str, int]  #: messages in each part
    oldest: float | None  #: seconds for which the oldest message in `incoming` has waited
    came: float | None  #: messages a second that came into it lately; None: not known
    went: float | None  #: that were settled
    paused: Paused | None
    instances: tuple[Instance, ...] | None  #: None: not for us to see
    wrong: str = ""  #: why it cannot be looked at now; then nothing else is known

    @property
    def name(self) -> str:
        """Without where it is."""
        return engines.short_name(self.queue)

    @property
    def alive(self) -> tuple[Instance, ...] | None:
        """The instances whose connection has not ended; None: not for us to see."""
        return None if self.instances is None else tuple(each for each in self.instances if each.alive)

    @property
    def lateness(self) -> str:
        """How bad the age of its oldest message is: "critical", "warning", or nothing."""
        age = self.oldest or 0.0
        return "critical" if age >= _CRITICAL else "warning" if age >= _WARNING else ""

    @property
    def failed(self) -> int:
        """Dead letters."""
        return self.parts.get("errors", 0)

    @property
    def waits(self) -> int:
        """Messages that wait for nothing but their turn."""
        return self.parts.get("incoming", 0)

    @property
    def works(self) -> int:
        """Messages that somebody works on."""
        return self.parts.get("pending", 0) + self.parts.get("outgoing", 0)


class Overview:
    """Looks at queues. `measure` and `look` may be called by different threads."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views = [*views]
        self._rates: dict[str, tuple[float | None, float | None]] = {}
        self._depths: dict[str, tuple[float, dict[str, tuple[int, float | None]]]] = {}  #: each until when it is used

    def look(self) -> list[QueueState]:
        """How all of them do now. What cannot be looked at says so."""
        return [self._state(view) for view in self._views]

    def measure(self, seconds: float, stopped: Callable[[], bool] = lambda: False) -> None:
        """Watch for so long what flows, for `look` to tell. Raises PiperError where the kernel cannot tell."""
        directories = [view for view in self._views if not engines.is_address(view.path)]
        for view in self._views:
            if engines.is_address(view.path):
                self._rates[view.path] = _told(view)
        if not directories:
            return
        flow = Flow([view.path for view in directories], ("incoming", "pending"))
        came: Counter[str] = Counter()
        went: Counter[str] = Counter()
        began = time.monotonic()
        try:
            for seen in flow.seen(began + seconds):
                if seen.part == "incoming" and seen.came:
                    came[seen.queue] += 1
                elif seen.part == "pending" and not seen.came:
                    went[seen.queue] += 1
                if stopped():
                    break
        finally:
            flow.close()
        passed = max(time.monotonic() - began, 1e-3)
        for view in directories:
            self._rates[view.path] = round(came[view.path] / passed, 1), round(went[view.path] / passed, 1)

    def _state(self, view: View) -> QueueState:
        came, went = self._rates.get(view.path, (None, None))
        try:
            depths = self._depths_of(view)
            made = depths["incoming"][1]
            there = view.instances()
            return QueueState(
                view.path,
                {part: number for part, (number, _) in depths.items()},
                None if made is None else max(0.0, time.time() - made),
                came,
                went,
                view.paused(),
                None if there is None else tuple(there),
            )
        except (OSError, PiperError) as error:
            return QueueState(view.path, {}, None, None, None, None, None, str(error))

    def _depths_of(self, view: View) -> dict[str, tuple[int, float | None]]:
        until, depths = self._depths.get(view.path, (0.0, {}))
        began = time.monotonic()
        if began >= until:
            depths = view.depths()
            ended = time.monotonic()
            self._depths[view.path] = ended + REUSE * (ended - began), depths
        return depths


def _told(view: View) -> tuple[float | None, float | None]:
    """What the instances on a queue in a database have told of themselves lately; what comes in, nobody tells."""
    try:
        rates = [each.rate for each in view.instances() or () if each.alive and each.rate is not None]
    except (OSError, PiperError):
        return None, None
    return None, round(sum(rates), 1) if rates else None
