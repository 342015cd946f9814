"""A project with a pipeline, whose daemons are small programs: fast to make, and run as any other."""

from __future__ import annotations

import sys
from pathlib import Path

import programs
from piperkit.pipeline import description
from piperkit.pipeline.description import Pipeline

PROGRAM = (
    programs.HEAD
    + '''
import json
import os
import sys
from pathlib import Path

from piperkit import Component, Message, Option, PiperDaemon, Reject, Source

class Lines(Source):
    """A message of each line of a file; where it has got to, it does not remember."""
    follow = Option(str, "lines", help="file")
    def setup(self, daemon):
        self.read = 0
    def fetch(self):
        path = Path({project!r}, "var", self.follow)
        lines = path.read_text().splitlines() if path.exists() else []
        new, self.read = lines[self.read : self.read + 100], min(len(lines), self.read + 100)
        return new

class Parse(Component):
    def process(self, message):
        kind, colon, text = message.text.partition(": ")
        if not colon:
            raise Reject("no type")
        return message.commit({{"type": kind, "text": text}})

class Route(Component):
    routes = Option(dict[str, str], {{}}, help="queues by type")
    def process(self, message):
        queue = self.routes.get(message.json["type"])
        return message.commit() if queue is None else message.dispatch(queue)

class Store(Component):
    def process(self, message):
        with open(Path({project!r}, "var", {name!r} + ".stored"), "a") as file:
            file.write(message.text + "\\n")
        return message.commit()

PiperDaemon(name={name!r}, anchor={anchor!r}, components=[{component}()], default_message_format={form!r}).run()
'''
)
#: The daemons of the pipeline: their components, and the formats of their messages.
DAEMONS = {
    "reader": ("Lines", "bytes"),
    "parser": ("Parse", "text"),
    "router": ("Route", "json"),
    "rest": ("Store", "text"),
    "pager": ("Store", "text"),
}
CHAIN = """\
name = "alerts"

[daemons.reader]
to = "parser"

[daemons.parser]
to = "router"

[daemons.router]
to = ["rest", "pager"]

[daemons.rest]

[daemons.pager]
"""


class Project:
    """The project's directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "etc").mkdir(parents=True)
        (path / "var").mkdir()
        (path / "pyproject.toml").write_text("[project]\n")
        for name, (component, form) in DAEMONS.items():
            self.add(name, component, form)
        self.configure("router", '{"routes": {"alert": "pager"}}')
        self.describe(CHAIN)

    def add(self, name: str, component: str, form: str = "text") -> None:
        program = self.path / ".venv" / "bin" / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            PROGRAM.format(
                python=sys.executable,
                name=name,
                component=component,
                form=form,
                project=str(self.path),
                anchor=str(self.path / "src" / name / "daemon.py"),
            )
        )
        program.chmod(0o755)

    def configure(self, name: str, text: str) -> None:
        (self.path / "etc" / f"{name}.conf").write_text(text)

    def describe(self, text: str) -> None:
        (self.path / "pipeline.toml").write_text(text)

    def change(self, old: str, new: str) -> None:
        """Change pipeline.toml."""
        text = (self.path / "pipeline.toml").read_text()
        assert old in text
        self.describe(text.replace(old, new))

    def load(self) -> Pipeline:
        return description.load(self.path / "pipeline.toml")

    def queue(self, name: str) -> Path:
        return self.path / "var" / "spool" / name

    def write(self, *lines: str) -> None:
        """For the reader."""
        with open(self.path / "var" / "lines", "a") as file:
            file.write("".join(f"{line}\n" for line in lines))

    def stored(self, name: str) -> list[str]:
        """What an end has stored."""
        path = self.path / "var" / f"{name}.stored"
        return path.read_text().splitlines() if path.exists() else []
