"""Where queues are that are named, as daemons name them, by a bare name: in the spool.

That is $PIPER_SPOOL, a directory or a database (postgresql://HOST/DATABASE), or var/spool of the project that one
stands in, or /var/spool. A directory of that name that is here comes first.
"""

from __future__ import annotations

import os
from pathlib import Path

from piperkit import engines

#: Where the spool is.
VARIABLE = "PIPER_SPOOL"


def path(given: str, *, new: bool = False) -> str:
    """The path or address of the queue that is meant.

    new: it may be made; outside of any spool a bare name is made here then. Raises ConfigError for a wrong address.
    """
    if engines.is_address(given):
        return str(engines.Address.parse(given))
    if os.path.basename(given) != given or given in (".", "..") or os.path.lexists(given):
        return given
    spool = _spool()
    if spool is None:
        return given if new else os.path.join("/var/spool", given)
    if engines.is_address(spool):
        return str(engines.Address.parse(spool, needs_queue=False).of(given))
    return os.path.join(spool, given)


def default() -> str:
    """Where bare names are looked for."""
    return _spool() or "/var/spool"


def _spool() -> str | None:
    spool = os.environ.get(VARIABLE)
    if spool:
        return spool
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / "pyproject.toml").is_file() and (directory / "var" / "spool").is_dir():
            return os.fspath(directory / "var" / "spool")
    return None
