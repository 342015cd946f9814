"""Where log lines go, and how they look.

In the foreground they go to the terminal, or to the journal with their priority (sd-daemon(3)); besides, or else, to
the log file if there is one; in the background without a log file, to the system's log. `log_format` is text or json.

A line that is about a message carries the message's id, its queue and which attempt it is, in either format. Whatever
is logged while an event of a message is handled is about that message, a component's own lines too.

A fault that repeats is logged once, and then counted; see `Repeats`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from piperkit.errors import ExitStatus, PiperError
from piperkit.text import harmless

#: Seconds after which a fault that still repeats is logged again, with how often that was.
PERIOD = 60.0
#: How many different faults are logged in a period by one call in the program: their texts may hold anything.
FAULTS_MAX = 10
#: What a line about a message says besides; the keys of `extra`.
FACTS = ("message_id", "queue", "attempt")


class LogFileError(PiperError):
    """The log file cannot be written."""

    exit_status = ExitStatus.CANNOT_CREATE


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    found = {key: getattr(record, key) for key in FACTS if getattr(record, key, None) is not None}
    return {key: harmless(value) if isinstance(value, str) else value for key, value in found.items()}


class TextFormatter(logging.Formatter):
    """Lines for people; what one is about stands at the end of its first line. Its further lines are indented, so that
    none of them can be taken for another one.
    """

    def format(self, record: logging.LogRecord) -> str:
        first, *more = map(harmless, super().format(record).split("\n"))
        if facts := ", ".join(f"{key}={value}" for key, value in _facts(record).items()):
            first = f"{first} [{facts}]"
        return "\n    ".join([first, *more])


class JournalFormatter(logging.Formatter):
    """What another formatter makes, each line beginning with its priority, as syslog(3) counts them."""

    _PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in self._PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in self._inner.format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (seconds since the epoch), level, name, pid, message, and what it is about."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._daemon = name

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "name": self._daemon,
            "pid": record.process,
            "message": "\n".join(map(harmless, record.getMessage().split("\n"))),
        }
        line |= _facts(record)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Sound(logging.Filter):
    """Replaces a line that cannot be put together by one that says so; passes every line."""

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            record.getMessage()
        except Exception as error:
            record.msg = f"{record.msg!r:.200} cannot be logged: {type(error).__name__}"
            record.args = None
        return True


class About(logging.Filter):
    """Adds to a line what it is about, where it does not say so itself."""

    def __init__(self, subject: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
        self._subject = subject

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "message_id"):
            vars(record).update(self._subject())
        return True


@dataclasses.dataclass(slots=True)
class _Site:
    """A call in the program that logs faults, and what it has logged in this period."""

    began: float
    example: str
    faults: set[str] = dataclasses.field(default_factory=set)
    left_out: int = 0


class Repeats(logging.Filter):
    """Lets a warning or error pass once in a period, and counts it from then on.

    The same fault is: the same call in the program, with the same text but for the message's id; or with the same
    `fault` in `extra`, for texts that differ each time. What has `always` there passes, such as an answer to a signal.
    The next period begins with how many lines were left out, and `tell` says so where no other follows.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._sites: dict[tuple[str, int], _Site] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING or hasattr(record, "always"):
            return True
        now = self._monotonic()
        where = (record.pathname, record.lineno)
        text = record.getMessage()
        fault = getattr(record, "fault", None) or text.replace(str(getattr(record, "message_id", None)), "")
        site = self._sites.get(where)
        if site is None or now - site.began >= PERIOD:
            if site is not None and site.left_out:
                record.msg = f"{text} ({site.left_out} more like it in the {now - site.began:.0f} s before)"
                record.args = None
            site = self._sites[where] = _Site(now, text.partition("\n")[0])
        if fault in site.faults or len(site.faults) >= FAULTS_MAX:
            site.left_out += 1
            return False
        site.faults.add(fault)
        return True

    def tell(self, logger: logging.Logger) -> None:
        """Log how many lines were left out since that was last said."""
        for site in self._sites.values():
            if site.left_out:
                logger.warning("%d more like: %s", site.left_out, site.example, extra={"always": True})
                site.left_out = 0


def tell_repeats(logger: logging.Logger) -> None:
    """Log how often the faults were met that were left out of the log."""
    for found in logger.filters:
        if isinstance(found, Repeats):
            found.tell(logger)


class _Quiet(logging.Handler):
    """A handler that raises nothing, and prints nothing of its own trouble: a line that cannot be written is lost, and
    the next one is tried.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        try:
            return bool(super().handle(record))
        except Exception:
            return False

    def handleError(self, record: logging.LogRecord) -> None:
        """As logging calls it."""


class Terminal(_Quiet, logging.StreamHandler[Any]):
    """Writes lines to standard error."""


class SystemLog(_Quiet, logging.handlers.SysLogHandler):
    """Writes lines to the system's log."""


class LogFile(_Quiet, logging.handlers.WatchedFileHandler):
    """Writes lines to a file that others cannot read, whatever the umask; reopens it after logrotate(8) moved it."""

    def _open(self) -> io.TextIOWrapper:
        def opener(path: str, flags: int) -> int:
            try:
                return os.open(path, flags, 0o640)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(path), 0o755)  # somebody has removed it
                return os.open(path, flags, 0o640)

        return open(self.baseFilename, "a", encoding=self.encoding, errors=self.errors, opener=opener)


def setup(
    name: str,
    level: str,
    log_file: str | None,
    *,
    console: bool,
    form: str = "text",
    background: bool = False,
    subject: Callable[[], dict[str, Any]] = dict,
) -> logging.Logger:
    """The daemon's logger, set up anew; `subject` says what lines are about. Raises LogFileError."""
    logger = logging.getLogger(f"piperkit.{name}")
    logger.propagate = False
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.filters.clear()
    logger.addFilter(Sound())
    logger.addFilter(About(subject))
    logger.addFilter(Repeats())
    logger.setLevel(level.upper())
    handlers: list[logging.Handler] = []

    def add(handler: logging.Handler, pattern: str, journal: bool = False) -> None:
        formatter = JsonFormatter(name) if form == "json" else TextFormatter(pattern)
        handler.setFormatter(JournalFormatter(formatter) if journal else formatter)
        handlers.append(handler)

    if console and _is_journal(sys.stderr):
        add(Terminal(sys.stderr), "%(message)s", journal=True)
    elif console:
        add(Terminal(sys.stderr), "%(asctime)s %(levelname)s: %(message)s")
    if log_file:
        try:
            file = LogFile(log_file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise LogFileError(f"the log file {log_file} cannot be written: {error.strerror}") from error
        add(file, f"%(asctime)s {name} [%(process)d] %(levelname)s: %(message)s")
    elif background and os.path.exists("/dev/log"):
        add(SystemLog("/dev/log"), f"{name}[%(process)d]: %(message)s")
    for handler in handlers:
        logger.addHandler(handler)
    if not handlers:
        logger.addHandler(logging.NullHandler())
    return logger


def complain(text: str) -> None:
    """Tell whoever started the daemon why it did not start; in the journal that has the priority of an error."""
    if sys.stderr is not None:
        prefix = "<3>" if _is_journal(sys.stderr) else ""
        with contextlib.suppress(OSError, ValueError):
            print(prefix + "\n    ".join(map(harmless, text.split("\n"))), file=sys.stderr, flush=True)


def write_to_file(logger: logging.Logger, text: str) -> None:
    """Log why the daemon does not go on, where that was not said already: in the log file."""
    record = logger.makeRecord(logger.name, logging.CRITICAL, "", 0, "%s", (text,), None)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def _is_journal(stream: Any) -> bool:
    """Whether a stream goes to the journal: its device and inode are those in JOURNAL_STREAM (systemd.exec(5))."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"
