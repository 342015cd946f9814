"""The programs of a pipeline's daemons: where they are, how they are called, and what they say of themselves.

In a project a daemon's program is in .venv/bin; elsewhere it is the command of the daemon's name. What is called is the
daemon as it would run, so root calls nothing that belongs to somebody else.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from piperkit.doctor.subjects import Answer, add_account, ask, stranger
from piperkit.errors import ExitStatus, PiperError
from piperkit.pipeline.description import Member, Pipeline


class NoProgram(PiperError):
    """A daemon's program is not there, or not ours to run."""

    exit_status = ExitStatus.UNAVAILABLE


def locate(pipeline: Pipeline, member: Member) -> str:
    """The daemon's program. Raises NoProgram, which says how to get it."""
    if pipeline.project is not None:
        path = pipeline.project / ".venv" / "bin" / member.name
        if path.is_file():
            return str(path)
        raise NoProgram(
            f"the project {pipeline.project} has no program {member.name}; is it one of its daemons? Then:"
            f" make -C {pipeline.project} test-fast, which makes .venv"
        )
    command = shutil.which(member.name)
    if command is None:
        raise NoProgram(f"there is no command {member.name}; install it, or add its directory to PATH")
    return command


def may_run(pipeline: Pipeline) -> None:
    """Raises NoProgram where root would run what belongs to somebody else."""
    who = stranger(pipeline.project) if pipeline.project is not None else None
    if who is not None:
        raise NoProgram(
            f"{pipeline.project} belongs to {who}, or a part of it does, and root runs nothing of somebody else's:"
            f" do it as {who}"
        )


def command(pipeline: Pipeline, member: Member) -> list[str]:
    """The command line that starts the daemon, with its configuration. Raises NoProgram."""
    config = [] if member.config is None else [f"--config-file={member.config}"]
    return [locate(pipeline, member), *config]


def with_queues(member: Member) -> list[str]:
    """The options that say its queues, as the file has them."""
    return [f"--queue-in-dir={member.source}", f"--queue-out-dir={member.next_queue or ''}"]


def start_directory(pipeline: Pipeline) -> Path:
    """Where daemons are started: what is here may be anybody's."""
    return pipeline.project or Path("/")


def describe(pipeline: Pipeline, members: Sequence[Member]) -> Mapping[str, Answer]:
    """What each says of itself, by name. Raises NoProgram where nothing of it is ours to run."""
    may_run(pipeline)
    with ThreadPoolExecutor(max_workers=4) as pool:
        answers = pool.map(lambda member: _describe(pipeline, member), members)
        return dict(zip((member.name for member in members), answers, strict=True))


def _describe(pipeline: Pipeline, member: Member) -> Answer:
    try:
        answer = ask(member.name, command(pipeline, member), start_directory(pipeline))
    except NoProgram as error:
        return Answer(None, str(error), error.exit_status)
    if answer.facts is not None and pipeline.project is None:
        add_account(answer.facts)
    return answer
