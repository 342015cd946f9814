"""What the pages show, as values for their templates. What comes from messages is text there, never markup."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from piperkit import engines
from piperkit.cli import finding, render, selecting, trace
from piperkit.cli.acts import ACTS
from piperkit.cli.reasons import Kinds
from piperkit.cli.reasons import kind as kind_of
from piperkit.errors import PiperError
from piperkit.feed import Feed, Moment
from piperkit.operating import HOLDING, Entry, View
from piperkit.overview import QueueState
from piperkit.selection import Selection

#: Messages of a part, and dead letters for their kinds, that a page looks at.
LISTED, COUNTED = 200, 50_000
_WORDS = {"requeue": "Try again", "hold": "Hold", "release": "Release", "banish": "Banish to errors", "rm": "Delete"}


class Named:
    """The queues by the names that addresses have for them: their short names, with a number where that is taken."""

    def __init__(self, queues: Sequence[str]) -> None:
        self._queues: dict[str, str] = {}
        for queue in queues:
            name, number = engines.short_name(queue), 1
            slug = name
            while slug in self._queues:
                number += 1
                slug = f"{name}~{number}"
            self._queues[slug] = queue
        self._slugs = {queue: slug for slug, queue in self._queues.items()}

    def queue(self, slug: str) -> str | None:
        """The queue of that name."""
        return self._queues.get(slug)

    def address(self, queue: str, page: str = "", **more: str) -> str:
        """The address of a page about a queue."""
        path = f"/queues/{quote(os.fsencode(self._slugs[queue]), safe='')}{page}"
        return f"{path}?{urlencode({key: os.fsencode(value) for key, value in more.items()})}" if more else path


def overview(feed: Feed, moment: Moment, named: Named) -> dict[str, Any]:
    """All queues."""
    rows = [_row(state, named) for state in moment.states]
    return {
        "rows": rows,
        "graph": feed.drawn(moment),
        "summary": f"{render.number(moment.waits, 'message')} wait, {moment.failed} in errors",
        "at": time.strftime("%H:%M:%S", time.localtime(moment.at)),
        "wrong": render.text(moment.wrong),
    }


def _row(state: QueueState, named: Named) -> dict[str, Any]:
    marks = [] if state.paused is None else [render.text(str(state.paused))]
    marks += ["nobody works on it"] if state.alive == () else []
    return {
        "name": render.name(state.name),
        "address": named.address(state.queue),
        "errors_address": named.address(state.queue, "/errors"),
        "waits": state.waits,
        "works": state.works,
        "later": state.parts.get("deferred", 0),
        "held": state.parts.get("hold", 0),
        "errors": state.failed,
        "oldest": "" if state.oldest is None else render.duration(state.oldest),
        "age": state.lateness,
        "came": "" if state.came is None else f"{state.came:g}",
        "went": "" if state.went is None else f"{state.went:g}",
        "who": "?" if state.alive is None else len(state.alive),
        "marks": marks,
        "wrong": render.text(state.wrong),
    }


def queue(view: View, part: str, named: Named, kind: str | None = None) -> dict[str, Any]:
    """The messages in a part of a queue; of a kind of errors, if that is given. Raises OSError, PiperError."""
    counts = view.counts()
    if kind is None:
        entries, more = view.oldest(part, LISTED)
    else:
        entries, more = _of_kind(view, kind), 0
    paused = view.paused()
    now = time.time()
    return {
        **_about(view, named),
        "part": part,
        "kind": None if kind is None else render.text(kind),
        "parts": [
            {"name": each, "count": counts[each], "address": named.address(view.path, part=each), "here": each == part}
            for each in HOLDING
        ],
        "paused": None if paused is None else render.text(str(paused)),
        "messages": [
            {
                "key": key(entry),
                "id": render.name(entry.id),
                "address": named.address(view.path, "/message", id=entry.id),
                "size": render.size(entry.size),
                "age": render.duration(now - entry.arrived),
                "attempts": entry.attempts,
                "reason": render.text(entry.reason or ""),
            }
            for entry in entries
        ],
        "more": more,
        "acts": _acts(part),
    }


def _of_kind(view: View, kind: str) -> list[Entry]:
    """The first dead letters with that kind of reason."""
    looked_at = itertools.islice(view.each("errors"), COUNTED)
    return [*itertools.islice((entry for entry in looked_at if kind_of(entry.reason) == kind), LISTED)]


def errors(view: View, named: Named) -> dict[str, Any]:
    """The kinds of errors of a queue. Raises OSError, PiperError."""
    kinds, seen, now = Kinds(), 0, time.time()
    for entry, banished in itertools.islice(selecting.banished(view, Selection()), COUNTED):
        kinds.add(entry, banished)
        seen += 1
    return {
        **_about(view, named),
        "seen": seen,
        "left_out": seen >= COUNTED,
        "kinds": [
            {
                "reason": each.reason,
                "shown": render.text(each.reason),
                "address": named.address(view.path, part="errors", kind=each.reason),
                "messages": each.messages,
                "first": f"{render.duration(now - each.first)} ago",
                "last": f"{render.duration(now - each.last)} ago",
                "example": named.address(view.path, "/message", id=each.example),
            }
            for each in kinds.sorted()
        ],
    }


def message(view: View, id: str, named: Named) -> dict[str, Any]:
    """One message. Raises OSError, PiperError."""
    entry, data = finding.read(view, id)
    history = finding.history(view, entry, view.report(entry) if entry.part == "errors" else None)
    try:
        way = trace.way([view], entry.id)
    except PiperError:
        way = []  # it is for the queue's owner to read
    return {
        **_about(view, named),
        "id": render.name(entry.id),
        "key": key(entry),
        "facts": {
            "part": entry.part,
            "size": render.size(entry.size),
            "arrived": render.moment(entry.arrived),
            "failed attempts": entry.attempts,
            **({"reason": render.text(entry.reason)} if entry.reason else {}),
        },
        "history": [
            {"time": render.text(str(each.get("time", ""))), "reason": render.text(str(each.get("reason", "")))}
            for each in history
        ],
        "way": [
            {
                "time": render.moment(each["t"]),
                "what": render.text(str(each.get("what"))),
                "more": render.text(str(each.get("reason") or each.get("to") or "")),
            }
            for each in way
        ],
        "contents": render.readable(data),
        "acts": _acts(entry.part),
    }


def _about(view: View, named: Named) -> dict[str, Any]:
    return {
        "name": render.name(engines.short_name(view.path)),
        "path": render.name(view.path),
        "address": named.address(view.path),
        "errors_address": named.address(view.path, "/errors"),
        "act_address": named.address(view.path, "/act"),
    }


def _acts(part: str) -> list[dict[str, str]]:
    return [{"act": act, "word": _WORDS[act]} for act, kind in ACTS.items() if part in kind.parts]


def key(entry: Entry) -> str:
    """A message as a form names it: its part, its arrival and its id, as far as ASCII can say it."""
    return f"{entry.part}|{entry.arrived!r}|{quote(os.fsencode(entry.id), safe='')}"
