"""Where log lines go: the terminal when in the foreground, the log file when there is one, else the system's log."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys

from piperkit.errors import ExitStatus, PiperError


class LogFileError(PiperError):
    """The log file cannot be written."""

    exit_status = ExitStatus.CANNOT_CREATE


class _Printable(logging.Formatter):
    """Names of files may hold any byte; whatever is not UTF-8 is shown as \\xNN instead of losing the line."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def setup(name: str, level: str, log_file: str | None, *, console: bool) -> logging.Logger:
    """The daemon's logger, set up anew. Raises LogFileError."""
    logger = logging.getLogger(f"piperkit.{name}")
    logger.propagate = False
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.setLevel(level.upper())
    handlers: list[tuple[logging.Handler, str]] = []
    if console:
        handlers.append((logging.StreamHandler(sys.stderr), "%(asctime)s %(levelname)s: %(message)s"))
    if log_file:
        try:
            # Watched: opened again after logrotate(8) has moved it.
            file = logging.handlers.WatchedFileHandler(log_file, encoding="utf-8")
        except OSError as error:
            raise LogFileError(f"the log file {log_file} cannot be written: {error.strerror}") from error
        handlers.append((file, f"%(asctime)s {name} [%(process)d] %(levelname)s: %(message)s"))
    elif not console and os.path.exists("/dev/log"):
        handlers.append((logging.handlers.SysLogHandler("/dev/log"), f"{name}[%(process)d]: %(message)s"))
    for handler, text in handlers:
        handler.setFormatter(_Printable(text))
        logger.addHandler(handler)
    if not handlers:
        logger.addHandler(logging.NullHandler())
    return logger
