"""What `piperctl doctor` finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    where: str  #: a path, or a daemon
    what: str
    mend: str  #: the command that mends it, for a shell
    warning: bool = False  #: it may be meant so: it does not change the exit status
    fix: Callable[[], None] | None = dataclasses.field(default=None, repr=False, compare=False)  #: where that is safe
    check: str = ""  #: which check has found it
