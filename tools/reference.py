"""Write docs/reference.md anew: every key of a daemon's configuration, from what the runtime knows of them.

Run it after a change to `piperkit.daemon.options`: .venv/bin/python tools/reference.py
A test compares the two.
"""

from __future__ import annotations

from pathlib import Path

from piperkit import BatchComponent, Option, Source
from piperkit.daemon.options import OPTIONS

TARGET = Path(__file__).parents[1] / "docs" / "reference.md"
PLACES = {key: f"<{key}>" for key in ("name", "bin", "cfg", "var", "log", "run", "tmp")}
HEAD = """# Reference

<!-- Written by tools/reference.py from runtime/piperkit/daemon/options.py: change that, and run it. -->

Every key of a daemon's configuration. In a file, `"key": value`; on the command line, `--key-with-dashes value`.
`<name>` is the daemon's name; `<cfg>`, `<var>`, `<log>` and `<run>` are its directories: `etc`, `var`, `var/log` and
`var/run` of its checkout, or `/etc`, `/var`, `/var/log` and `/run/<name>` where it is installed. A reload does not
change what is marked with *restart*.
"""


def render() -> str:
    """The page."""
    lines, group = [HEAD], ""
    named = [(option, option.group) for option in OPTIONS]
    for kind in (BatchComponent, Source):
        named += [(option, f"daemons with a `{kind.__name__}`") for option in kind.options]
    for option, name in named:
        if name != group:
            group = name
            lines += ["" if lines[-1] != HEAD else None, f"## {group[0].upper()}{group[1:]}", ""]
            lines += ["| key | default | value | what it is |", "|---|---|---|---|"]
        lines.append(_row(option))
    return "\n".join(line for line in lines if line is not None) + "\n"


def _row(option: Option) -> str:
    key = f"`{option.flag}`, on the command line only" if option.cli_only else f"`{option.key}`"
    default = option.shown_default(PLACES)
    default = "" if default == "null" else f"`{default}`"
    meaning = option.help + (" (*restart*)" if option.fixed else "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (key, default, option.expected, meaning)) + " |"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"{TARGET} is written")
