"""`piperctl check`: is all well with queues? For monitoring systems, as the plugins of Nagios are.

The limits are pairs, of a warning and of what is critical; the alerts of a project have the same by default. The exit
status is 0, 1 for a warning, 2 where something is critical, and 3 where that cannot be known.
"""

from __future__ import annotations

import dataclasses
import enum
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from piperkit.cli import queues, render
from piperkit.dirq.fs import display
from piperkit.errors import PiperError, UsageError
from piperkit.operating import View
from piperkit.selection import seconds


class Level(enum.IntEnum):
    """How bad it is; the value is the exit status."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


class Format(enum.StrEnum):
    """How it is told."""

    TEXT = "text"
    NAGIOS = "nagios"
    JSON = "json"


@dataclasses.dataclass(frozen=True)
class Limits:
    """From which values on it is a warning, and critical; None: never."""

    age: tuple[float | None, float | None]  #: seconds
    messages: tuple[float | None, float | None]
    errors: tuple[float | None, float | None]
    paused: Level
    instances: int  #: that have to be there


@dataclasses.dataclass(frozen=True)
class Point:
    """One thing that was looked at."""

    what: str
    value: float | None
    level: Level
    text: str
    limits: tuple[float | None, float | None] = (None, None)


def check(
    given: queues.Queues = None,
    age: Annotated[
        str, typer.Option(metavar="W,C", help="Age of the oldest message that waits or is in work: warning, critical.")
    ] = "15min,1h",
    messages: Annotated[str, typer.Option(metavar="W,C", help="Waiting messages, including deferred ones.")] = ",",
    errors: Annotated[str, typer.Option(metavar="W,C", help="Messages in errors.")] = "1,100",
    paused: Annotated[
        str,
        typer.Option(metavar="LEVEL", help="How a queue that an operator has paused counts: ok, warning or critical."),
    ] = "warning",
    instances: Annotated[
        int, typer.Option(metavar="N", min=0, help="Instances that must be working on each queue; fewer is critical.")
    ] = 1,
    form: Annotated[Format, typer.Option("--format", help="Format of the answer.")] = Format.TEXT,
    spool: queues.Spool = None,
) -> None:
    """Check that all is well with queues. Exit status 0, 1 for a warning, 2 if something is critical, 3 if unknown.

    A limit that is left out (--errors ,10) is none.

    Examples:

        piperctl check QUEUE

        piperctl check --spool /var/spool --age 5min,30min --errors 10,1000 --format nagios
    """
    limits = Limits(
        age=_pair("--age", age, lambda text: seconds("--age", text)),
        messages=_pair("--messages", messages, _number("--messages")),
        errors=_pair("--errors", errors, _number("--errors")),
        paused=_level(paused),
        instances=instances,
    )
    found: list[tuple[str, list[Point]]] = []
    try:
        views = queues.views(given or [], spool)
    except UsageError:
        raise
    except PiperError as error:
        found.append((display(given[0] if given else str(spool)), [Point("queue", None, Level.CRITICAL, str(error))]))
        views = []
    for view in views:
        try:
            found.append((display(view.path), list(_points(view, limits))))
        except (OSError, PiperError) as error:
            found.append((display(view.path), [Point("queue", None, Level.UNKNOWN, str(error))]))
    worst = _worst([point.level for _, points in found for point in points])
    {Format.TEXT: _text, Format.NAGIOS: _nagios, Format.JSON: _json}[form](found, worst)
    raise typer.Exit(worst)


def _points(view: View, limits: Limits) -> Iterator[Point]:
    """What is looked at of one queue."""
    depths = view.depths()
    now = time.time()
    oldest = min((made for part in ("incoming", "pending", "outgoing") if (made := depths[part][1])), default=now)
    waited = max(0.0, now - oldest)
    yield _point("age", waited, limits.age, f"the oldest message has waited for {render.duration(waited)}")
    waiting = depths["incoming"][0] + depths["deferred"][0]
    yield _point("messages", waiting, limits.messages, f"{render.number(waiting, 'message')} wait")
    failed = depths["errors"][0]
    yield _point("errors", failed, limits.errors, f"{render.number(failed, 'message')} in errors")
    paused = view.paused()
    if paused is not None:
        yield Point("paused", 1, limits.paused, str(paused))
    there = view.instances()
    if there is not None:
        there = [each for each in there if each.alive]
    if limits.instances and there is None:
        yield Point("instances", None, Level.UNKNOWN, "only its owner and root can see who works on it")
    elif limits.instances and there is not None:
        level = Level.OK if len(there) >= limits.instances else Level.CRITICAL
        yield Point("instances", len(there), level, f"{render.number(len(there), 'instance')} at work on it")


def _point(what: str, value: float, limits: tuple[float | None, float | None], text: str) -> Point:
    warning, critical = limits
    level = Level.OK
    if critical is not None and value >= critical:
        level = Level.CRITICAL
    elif warning is not None and value >= warning:
        level = Level.WARNING
    return Point(what, value, level, text, limits)


def _worst(levels: list[Level]) -> Level:
    """Critical is worse than what is not known."""
    return max(levels, key=[Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL].index, default=Level.UNKNOWN)


def _text(found: list[tuple[str, list[Point]]], worst: Level) -> None:
    for queue, points in found:
        for point in points:
            print(f"{point.level.name:8}  {render.text(queue)}: {render.text(point.text)}")


def _nagios(found: list[tuple[str, list[Point]]], worst: Level) -> None:
    """One line: what is wrong, and after the bar the values, each with its limits."""
    wrong = [f"{queue}: {point.text}" for queue, points in found for point in points if point.level is not Level.OK]
    said = "; ".join(wrong) or f"{render.number(len(found), 'queue')}"
    values = [
        f"'{queue.replace(chr(39), '')} {point.what}'={_plain(point.value)}{'s' * (point.what == 'age')};"
        + ";".join("" if limit is None else _plain(limit) for limit in point.limits)
        for queue, points in found
        for point in points
        if point.value is not None
    ]
    # A bar would end the text.
    print(render.text(f"PIPER {worst.name} - {said}".replace("|", "/")) + (f" | {' '.join(values)}" if values else ""))


def _json(found: list[tuple[str, list[Point]]], worst: Level) -> None:
    for queue, points in found:
        level = _worst([point.level for point in points])
        facts = [
            {"what": point.what, "level": point.level.name.lower(), "value": point.value, "text": point.text}
            for point in points
        ]
        render.as_json({"queue": queue, "level": level.name.lower(), "points": facts})


def _plain(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _pair(option: str, given: str, parse: Callable[[str], float]) -> tuple[float | None, float | None]:
    """W,C. Raises UsageError."""
    parts = [part.strip() for part in given.split(",")]
    if len(parts) != 2:
        raise UsageError(f"{option} {given}: must be two values, warning and critical, such as 1,100")
    warning, critical = (parse(part) if part else None for part in parts)
    return warning, critical


def _number(option: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        if not text.isdecimal():
            raise UsageError(f"{option} {text}: must be a whole number")
        return int(text)

    return parse


def _level(given: str) -> Level:
    for level in (Level.OK, Level.WARNING, Level.CRITICAL):
        if given.upper() == level.name:
            return level
    raise UsageError(f"--paused {given}: must be ok, warning or critical")
