"""A graph for people and programs: as text, Mermaid, DOT or JSON."""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from collections.abc import Callable

from piperkit.dirq.fs import display
from piperkit.pipeline.graph import Edge, Graph
from piperkit.text import harmless


class Form(enum.StrEnum):
    """What it is drawn as."""

    TEXT = "text"
    MERMAID = "mermaid"
    DOT = "dot"
    JSON = "json"


@dataclasses.dataclass(frozen=True, slots=True)
class _Signs:
    arrow: str
    first: str
    next: str
    last: str
    down: str
    again: str
    times: str


_LINES = _Signs(" → ", " ┬→ ", " ├→ ", " └→ ", " │  ", " ↑", " ×")  # noqa: RUF001
_ASCII = _Signs(" -> ", " +> ", " +> ", " +> ", " |  ", " ^", " x")


def draw(graph: Graph, form: Form, *, ascii_only: bool = False) -> str:
    """The graph, without a line end at its end. ascii_only: text for a terminal that has no other letters."""
    if form is Form.TEXT:
        return text(graph, ascii_only=ascii_only)
    drawn: dict[Form, Callable[[Graph], str]] = {Form.MERMAID: _mermaid, Form.DOT: _dot, Form.JSON: _json}
    return drawn[form](graph)


def text(
    graph: Graph,
    *,
    ascii_only: bool = False,
    label: Callable[[str], str] = lambda node: "",
    flow: Callable[[Edge], str] | None = None,
) -> str:
    """A tree from left to right: what is drawn already is named with an arrow up.

    label: what is said of a node besides. flow: what is said on an edge; by default the number of its messages.
    """
    signs = _ASCII if ascii_only else _LINES
    drawn = set[str]()
    edges = {(edge.tail, edge.head): edge for edge in graph.edges}

    def on_edge(tail: str, head: str) -> str:
        edge = edges[tail, head]
        words = flow(edge) if flow else "" if edge.messages is None else str(edge.messages)
        return f"{words}{signs.arrow}" if words else signs.arrow.lstrip()

    def tree(node: str) -> list[str]:
        again = node in drawn
        times = graph.instances[node]
        named = display(node) + ("" if times in (0, 1) else f"{signs.times}{times}") + label(node)
        heads = graph.heads(node)
        if again or not heads:
            drawn.add(node)
            return [named + (signs.again if again and heads else "")]
        drawn.add(node)
        lines: list[str] = []
        for number, head in enumerate(heads):
            last = number == len(heads) - 1
            branch = signs.first if number == 0 else signs.last if last else signs.next
            fork = " " if len(heads) == 1 else branch[:2]
            start = named if number == 0 else " " * len(named)
            below = " " * len(named) + (" " if len(heads) == 1 else "  " if last else signs.down[:2])
            first, *more = tree(head)
            edge = on_edge(node, head)
            if len(heads) > 1 and not edge.startswith(signs.arrow.lstrip()):
                edge = f" {edge}"
            lines.append(f"{start}{fork}{edge}{first}")
            lines += [f"{below}{' ' * len(edge)}{line}" for line in more]
        return lines

    # What is in a loop has no beginning: it is drawn from its first daemon on.
    lines: list[str] = []
    for node in [*graph.beginnings(), *graph.daemons]:
        if node not in drawn:
            lines += tree(node)
    return "\n".join(lines)


def _mermaid(graph: Graph) -> str:
    names = {node: f"n{number}" for number, node in enumerate([*graph.daemons, *sorted(graph.queues)])}
    lines = ["flowchart LR"]
    for node, id in names.items():
        times = graph.instances[node]
        label = _quoted(display(node) + (f" ×{times}" if times > 1 else ""))  # noqa: RUF001
        lines.append(f'    {id}[/"{label}"/]' if node in graph.queues else f'    {id}["{label}"]')
    for edge in graph.edges:
        label = "" if edge.messages is None else f"|{edge.messages}|"
        lines.append(f"    {names[edge.tail]} -->{label} {names[edge.head]}")
    return "\n".join(lines)


def _quoted(label: str) -> str:
    """Mermaid takes quotes, angle brackets and the like for its own; as numbers it does not."""
    return re.sub(r"[^\w .:/@×-]", lambda found: f"#{ord(found[0])};", label)  # noqa: RUF001


def _dot(graph: Graph) -> str:
    lines = ["digraph pipeline {", "    rankdir=LR", "    node [shape=box]"]
    for node in graph.daemons:
        times = graph.instances[node]
        label = f" [label={_dotted(f'{node} x{times}')}]" if times > 1 else ""
        lines.append(f"    {_dotted(node)}{label}")
    lines += [f"    {_dotted(node)} [shape=folder]" for node in sorted(graph.queues)]
    for edge in graph.edges:
        label = "" if edge.messages is None else f' [label="{edge.messages}"]'
        lines.append(f"    {_dotted(edge.tail)} -> {_dotted(edge.head)}{label}")
    return "\n".join([*lines, "}"])


def _dotted(name: str) -> str:
    return '"' + harmless(name).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _json(graph: Graph) -> str:
    return json.dumps(
        {
            "daemons": [{"name": name, "instances": graph.instances.get(name)} for name in graph.daemons],
            "queues": [display(queue) for queue in sorted(graph.queues)],
            "edges": [
                {
                    "from": edge.tail,
                    "to": display(edge.head),
                    "queue": display(edge.queue),
                    **({} if edge.messages is None else {"messages": edge.messages}),
                }
                for edge in graph.edges
            ],
        }
    )
