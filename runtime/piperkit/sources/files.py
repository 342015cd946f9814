"""`FileSource`: the lines of files that grow, a message each."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from piperkit.errors import ConfigError
from piperkit.host import Host
from piperkit.message import Contents
from piperkit.option import Option
from piperkit.source import Source
from piperkit.sources.follow import Follower
from piperkit.sources.positions import NoPosition
from piperkit.sources.tail import Text

#: Lines that are fetched at once.
PART = 500


class FileSource(Source):
    """Follows files through rotations and restarts: every line once, but for what a crash repeats.

    See `piperkit.sources.follow` for what is followed when. Overwrite `message` to leave lines out, or change them.
    Of several instances, one follows; the others wait until it has ended.
    """

    follow = Option(
        str,
        "{var}/lib/{name}/followed",
        kind="path",
        help="file whose lines are messages, or a pattern for several, as /var/log/app/*.log",
        fixed=True,
    )
    position = Option(
        str, "{var}/lib/{name}/position", kind="path", help="file that remembers how far was read", fixed=True
    )
    follow_from = Option(
        str, "beginning", choices=("beginning", "end"), help="where to begin with what is there at the first start"
    )
    follow_encoding = Option(str, "utf-8", help="encoding of the lines; messages are UTF-8", fixed=True)
    follow_grace = Option(
        float, 30.0, help="time for which a rotated file is read on that does not grow", unit="seconds", minimum=0
    )
    line_max = Option(int, 1 << 20, help="longest line; a longer one is left out, and said", unit="bytes", minimum=1)

    def setup(self, daemon: Host) -> None:
        try:
            text = Text(self.follow_encoding, self.line_max)
        except LookupError:
            raise ConfigError(f"follow_encoding: there is no encoding {self.follow_encoding!r}") from None
        place = Path(self.position)
        place.parent.mkdir(parents=True, exist_ok=True)
        self.__say = daemon.logger.warning
        self.__follower = Follower(
            self.follow,
            place,
            text,
            grace=self.follow_grace,
            from_end=self.follow_from == "end",
            say=lambda said: self.__say("%s: %s", type(self).__name__, said),
        )
        self.__lock = -1
        self.__waits = False
        self.__untold = False  #: lines were read since it was remembered how far

    def message(self, line: bytes) -> Contents | None:
        """What a line is as a message; None: nothing. It has no newline, and is not blank."""
        return line

    def fetch(self) -> list[Contents]:
        if not self.__is_ours():
            return []
        while lines := self.__follower.fetch(PART):
            self.__untold = True
            found = [message for line in lines if (message := self.message(line)) is not None]
            if found:
                return found
        if self.__untold:
            self.fetched()  # lines that were left out
        return []

    def fetched(self) -> None:
        self.__follower.remember()
        self.__untold = False

    def teardown(self, daemon: Host) -> None:
        if self.__lock >= 0:
            if not self.__untold:
                self.__follower.remember()
            self.__follower.close()
            os.close(self.__lock)

    def __is_ours(self) -> bool:
        """Whether this instance is the one that follows. Raises OSError."""
        if self.__lock >= 0:
            return True
        fd = os.open(f"{self.position}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            if not self.__waits:
                self.__say("another instance follows %s; this one waits for its end", self.follow)
            self.__waits = True
            return False
        try:
            self.__follower.open()
        except NoPosition as error:
            self.__say("%s: %s; everything is read from its beginning", type(self).__name__, error)
        except BaseException:
            os.close(fd)
            raise
        self.__lock = fd
        return True
