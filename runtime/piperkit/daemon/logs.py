"""Where log lines go, and how they look.

In the foreground they go to the terminal, or to the journal with their priority (sd-daemon(3)); besides, or else, to
the log file if there is one; in the background without a log file, to the system's log. `log_format` is text or json.

A fault that repeats is logged once, and then counted: after the first lines of a kind (the same call in the program) in
a minute, its others are left out, and the next minute begins with how many they were.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from piperkit.errors import ExitStatus, PiperError

#: How many warnings and errors of one kind are logged in a period, and its length in seconds.
REPEATS = 10
PERIOD = 60.0
#: What a line about a message says besides; the keys of `extra`.
FACTS = ("message_id", "queue", "attempt")


class LogFileError(PiperError):
    """The log file cannot be written."""

    exit_status = ExitStatus.CANNOT_CREATE


def _printable(text: str) -> str:
    """Names of files may hold any byte; whatever is not UTF-8 is shown as \\xNN instead of losing the line."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class TextFormatter(logging.Formatter):
    """Lines for people."""

    def format(self, record: logging.LogRecord) -> str:
        return _printable(super().format(record))


class JournalFormatter(TextFormatter):
    """Lines for the journal: each begins with its priority, as syslog(3) counts them."""

    _PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def format(self, record: logging.LogRecord) -> str:
        priority = next((number for level, number in self._PRIORITIES if record.levelno >= level), 7)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


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
            "message": _printable(record.getMessage()),
        }
        line |= {key: getattr(record, key) for key in FACTS if hasattr(record, key)}
        if "message_id" in line:
            line["message_id"] = _printable(line["message_id"])
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Repeats(logging.Filter):
    """Lets the first warnings and errors of a kind pass in each period, and counts the others."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._kinds: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind = (record.pathname, record.lineno)
        now = self._monotonic()
        began, count = self._kinds.get(kind, (now, 0))
        if now - began >= PERIOD:
            if count > REPEATS:
                record.msg = (
                    f"{record.getMessage()} (and {count - REPEATS} more like it in the {now - began:.0f} s before)"
                )
                record.args = None
            began, count = now, 0
        self._kinds[kind] = (began, count + 1)
        return count < REPEATS


def setup(
    name: str, level: str, log_file: str | None, *, console: bool, form: str = "text", background: bool = False
) -> logging.Logger:
    """The daemon's logger, set up anew. Raises LogFileError."""
    logger = logging.getLogger(f"piperkit.{name}")
    logger.propagate = False
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.filters.clear()
    logger.addFilter(Repeats())
    logger.setLevel(level.upper())
    handlers: list[tuple[logging.Handler, logging.Formatter]] = []
    if console:
        formatter: logging.Formatter = TextFormatter("%(asctime)s %(levelname)s: %(message)s")
        if _is_journal(sys.stderr):
            formatter = JournalFormatter("%(message)s")
        handlers.append((logging.StreamHandler(sys.stderr), formatter))
    if log_file:
        try:
            # Watched: opened again after logrotate(8) has moved it.
            file = logging.handlers.WatchedFileHandler(log_file, encoding="utf-8")
        except OSError as error:
            raise LogFileError(f"the log file {log_file} cannot be written: {error.strerror}") from error
        handlers.append((file, TextFormatter(f"%(asctime)s {name} [%(process)d] %(levelname)s: %(message)s")))
    elif background and os.path.exists("/dev/log"):
        handlers.append(
            (logging.handlers.SysLogHandler("/dev/log"), TextFormatter(f"{name}[%(process)d]: %(message)s"))
        )
    for handler, formatter in handlers:
        handler.setFormatter(JsonFormatter(name) if form == "json" else formatter)
        logger.addHandler(handler)
    if not handlers:
        logger.addHandler(logging.NullHandler())
    return logger


def _is_journal(stream: Any) -> bool:
    """Whether a stream goes to the journal: its device and inode are those in JOURNAL_STREAM (systemd.exec(5))."""
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"
