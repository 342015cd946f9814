"""Which pipeline a command means, and what is wrong with one, for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from piperkit.cli import render
from piperkit.pipeline import description
from piperkit.pipeline.description import Pipeline

if TYPE_CHECKING:
    from piperkit.doctor.finding import Finding

File = Annotated[
    Path | None,
    typer.Option(
        "--pipeline",
        metavar="FILE",
        help="Its pipeline.toml, or the directory that it is in; by default the one here or above, or /etc/NAME/.",
        show_default=False,
    ),
]


def load(given: Path | None, *, installed: bool = False) -> Pipeline:
    """The pipeline that is meant. Raises NoPipeline, ConfigError."""
    return description.load(description.find(given), installed=installed)


def tell(finding: Finding) -> None:
    print(f"{'warning' if finding.warning else 'wrong'}: {render.text(f'{finding.where}: {finding.what}')}")
    print(f"    {render.text(finding.mend)}")
