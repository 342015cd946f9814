"""What can go wrong, one class for each thing a caller may want to tell apart, and the exit statuses.

Messages of these exceptions are written for the person who runs the daemon: what happened, to which file or
key, and what to do.
"""

from __future__ import annotations

import enum
import os


class ExitStatus(enum.IntEnum):
    """How a process of ours ends, after sysexits(3), which systemd(1) prints by name."""

    OK = os.EX_OK
    FAILURE = 1
    PARTIAL = 3  #: some of the messages could be acted on, or would pass, and some not; as rabbitmqadmin has it
    NOT_RUNNING = 3  #: as `systemctl is-active` and the LSB say it
    USAGE = os.EX_USAGE  #: 64, a wrong command line: starting again cannot help
    NO_INPUT = os.EX_NOINPUT  #: 66, a file or queue to read from is not there
    UNAVAILABLE = os.EX_UNAVAILABLE  #: 69, something it needs is missing, such as an account
    CANNOT_CREATE = os.EX_CANTCREAT  #: 73, a directory or file could not be made
    TEMPORARY = os.EX_TEMPFAIL  #: 75, such as: already running
    CONFIG = os.EX_CONFIG  #: 78, a wrong configuration: starting again cannot help


class PiperError(Exception):
    """Anything that piperkit raises on purpose."""

    exit_status = ExitStatus.FAILURE


class ConfigError(PiperError):
    """A configuration key or file that cannot be used; the text names it and what would be right."""

    exit_status = ExitStatus.CONFIG


class UsageError(PiperError):
    """A command line that cannot be used; the text names the option and what would be right."""

    exit_status = ExitStatus.USAGE


class AlreadyRunning(PiperError):
    """Another process holds the pid file."""

    exit_status = ExitStatus.TEMPORARY


class QueueError(PiperError):
    """Something is wrong with a queue; an `OSError` without a special meaning is raised as it is."""


class InvalidId(QueueError, ValueError):
    """A text that cannot be a message id; no path was made of it."""


class NotClaimed(QueueError):
    """This instance does not hold the message, or no longer does, since someone removed it from `pending`."""


class LeftAlone(NotClaimed):
    """What was claimed is not a message, or cannot be read: it was put back, and the queue has said so."""


class QueueMissing(QueueError):
    """The directory is not a queue, or some of its parts are missing or not writable."""

    exit_status = ExitStatus.CANNOT_CREATE


class QueueInUse(QueueError):
    """An instance of an earlier version works on the queue, and cannot share it with this one."""

    exit_status = ExitStatus.TEMPORARY

    def __init__(self, pid: int, text: str) -> None:
        super().__init__(text)
        self.pid = pid  #: the instance's


class QueueAway(QueueError):
    """The server that keeps a queue cannot be reached now, or is too busy: wait and try again."""

    exit_status = ExitStatus.TEMPORARY


class TargetUnavailable(QueueError):
    """The queue to move to is missing or cannot be written to; the message stays claimed."""


class NoRoom(QueueError):
    """The file system is full, or nearly so; nothing was written, and operations that free space still work."""


class MessageTooLarge(QueueError):
    """A message is larger than the queue's limit; its contents were not read."""
