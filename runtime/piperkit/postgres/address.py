"""How a queue in a database is called: postgresql://HOST/DATABASE?queue=NAME.

All but `queue` is libpq's (several hosts, sslmode, passfile, service, …). A password is not part of it, since addresses
are shown in logs, in `ps` and by `config-view`: it comes from ~/.pgpass, or from a file (`password_file`).
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from urllib.parse import parse_qsl, quote, unquote, urlsplit, urlunsplit

from piperkit.errors import ConfigError

SCHEMES = ("postgresql", "postgres")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


def is_address(queue: str) -> bool:
    """Whether a queue's name is one of a queue, or of all queues, in a database."""
    return queue.startswith(tuple(f"{scheme}:" for scheme in SCHEMES))


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """A queue in a database; `queue` is empty where all of them are meant."""

    database: str  #: as libpq takes it, without the queue
    queue: str

    @classmethod
    def parse(cls, text: str, *, needs_queue: bool = True) -> Address:
        """Raises ConfigError, which says what would be right."""
        try:
            parts = urlsplit(text)
            options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise ConfigError(f"{hidden(text)} is not an address: {error}") from None
        if parts.scheme not in SCHEMES or not text.startswith(f"{parts.scheme}://"):
            raise ConfigError(f"{hidden(text)} is not an address; it must be such as {example()}")
        if ":" in parts.netloc.rpartition("@")[0] or any(key in ("password", "sslpassword") for key, _ in options):
            raise ConfigError(
                f"{hidden(text)} has a password in it, which would be shown in logs and by ps: put it into a file, and"
                " name that by queue_password_file, or use ~/.pgpass"
            )
        names = [value for key, value in options if key == "queue"]
        if len(names) > 1 or (needs_queue and not names):
            raise ConfigError(f"{text} names {'no queue' if not names else 'two'}; it must be such as {example()}")
        if names:
            check_name(names[0])
        query = "&".join(f"{quote(key)}={quote(value, safe='/')}" for key, value in options if key != "queue")
        database = urlunsplit(("postgresql", parts.netloc, parts.path, query, ""))
        if not parts.netloc and "//" not in database:
            database = database.replace("postgresql:", "postgresql://", 1)
        return cls(database, names[0] if names else "")

    def of(self, queue: str) -> Address:
        """Another queue of the database. Raises ConfigError."""
        return Address(self.database, check_name(queue))

    def __str__(self) -> str:
        if not self.queue:
            return self.database
        return f"{self.database}{'&' if '?' in self.database else '?'}queue={self.queue}"

    @property
    def quoted(self) -> str:
        """As it is typed into a shell."""
        return shlex.quote(str(self))

    @property
    def shown_database(self) -> str:
        """The database, for people: its host and its name."""
        parts = urlsplit(self.database)
        options = dict(parse_qsl(parts.query))
        host = parts.netloc.rpartition("@")[2] or options.get("host") or "this machine"
        return f"{unquote(parts.path.lstrip('/')) or options.get('dbname', '')}@{host}".lstrip("@")


def check_name(name: str) -> str:
    """A queue's name. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r:.120} cannot be the name of a queue in a database: it must hold letters, digits, '.-_', and not"
            " begin with a dot or dash"
        )
    return name


def hidden(text: str) -> str:
    """What was given for an address, without what could be a password."""
    text = re.sub(r"//[^/@]*@", "//…@", text)
    return re.sub(r"(?i)(password)=[^&]*", r"\1=…", text)


def example() -> str:
    return "postgresql://HOST/DATABASE?queue=NAME"
