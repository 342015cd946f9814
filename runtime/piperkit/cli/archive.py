"""`piperctl queue export` and `import`: messages as a plain tar(5) archive, to be looked at, kept, or put elsewhere.

A message is the member PART/ID, with its arrival as its time; what is known of a dead letter is report/ID, JSON.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import lzma
import os
import signal
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Annotated, Any

import typer

from piperkit.cli import acting, progress, queues, render, selecting
from piperkit.cli.acting import Result
from piperkit.cli.interrupts import Interrupts
from piperkit.dirq.limits import MIB
from piperkit.dirq.reading import json_object
from piperkit.errors import ExitStatus, PiperError, UsageError
from piperkit.operating import RESTING, Copy, Entry, Operator, View

_REPORTS = "report"
#: Bytes of a message that is imported; more is not believed.
_MOST = 64 * MIB
#: Seconds since the epoch, in the year 2242; any file system takes what is less.
_TIME_MAX = 1 << 33
#: What reading an archive raises that is none, or a compressed one that is damaged.
_NO_ARCHIVE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError)


def export(
    queue: queues.Queue = None,
    ids: selecting.Ids = None,
    part: selecting.Part = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="File to write; -: standard output.")
    ] = "-",
    limit: selecting.Limit = None,
    spool: queues.Spool = None,
    *,
    criteria: selecting.Criteria,
) -> None:
    """Copy messages into a tar archive: those not in work, unless --part names a part. They stay where they are.

    Examples:

        piperctl queue export QUEUE --part errors --output letters.tar

        piperctl queue export QUEUE --where host=db1 | tar t
    """
    if spool is not None:
        raise UsageError("--spool: an archive is of one queue; name it")
    if part is not None and part not in RESTING:
        raise UsageError(f"--part {part}: must be one of {', '.join(RESTING)}")
    if output == "-" and sys.stdout.isatty():
        raise UsageError("an archive cannot be shown on a terminal: say --output FILE, or pipe it to tar t")
    (view,) = queues.views([] if queue is None else [queue], None)
    chosen = criteria.selection(ids or ())
    number = 0
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = sys.stdout.buffer if output == "-" else stack.enter_context(_new(output))
        with progress.looking() as look, tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for entry in selecting.meant(view, RESTING if part is None else (part,), chosen, limit, look):
                number += _add(archive, view, entry)
        file.flush()
    print(f"{render.number(number, 'message')} exported", file=sys.stderr)


@contextlib.contextmanager
def _new(path: str) -> Iterator[IO[bytes]]:
    """A file, for us alone, that is there whole or not at all."""
    directory, name = os.path.split(os.path.abspath(path))
    with tempfile.NamedTemporaryFile(prefix=f".{name}.", dir=directory, delete=False) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(file.name)
            raise


def _add(archive: tarfile.TarFile, view: View, entry: Entry) -> int:
    """Add a message; 0 where it has moved on."""
    try:
        data = view.read(entry)
        report = view.report(entry) if entry.part == "errors" else None
    except FileNotFoundError:
        return 0
    if report is not None:
        _member(archive, f"{_REPORTS}/{entry.id}", json.dumps(report).encode(), entry.arrived)
    _member(archive, f"{entry.part}/{entry.id}", data, entry.arrived)
    return 1


def _member(archive: tarfile.TarFile, name: str, data: bytes, moment: float) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), moment, 0o600
    archive.addfile(member, io.BytesIO(data))


def import_(
    queue: Annotated[str, typer.Argument(metavar="QUEUE", help="The queue.", show_default=False)],
    archive: Annotated[str, typer.Argument(metavar="FILE", help="The archive; -: standard input.")] = "-",
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="PART",
            help="Put all messages into incoming, hold or errors; by default each goes where it was.",
        ),
    ] = None,
) -> None:
    """Put the messages of an archive into a queue, with their ids and arrival. Deferred ones go to incoming.

    One that the queue has already is left out, so that an import which was cut off can be done once more.

    Examples:

        piperctl queue import QUEUE letters.tar --part hold
    """
    if part is not None and part not in ("incoming", "hold", "errors"):
        raise UsageError(f"--part {part}: must be incoming, hold or errors")
    view = queues.view(queue)
    result = Result()
    with contextlib.ExitStack() as stack:
        file = sys.stdin.buffer if archive == "-" else stack.enter_context(open(archive, "rb"))
        interrupts = stack.enter_context(Interrupts())
        acting.who()
        acting.become_owner(view.path)
        operator = acting.operator_of(view.path)
        try:
            copies = _copies(file, part)
            while group := list(itertools.islice(copies, acting.GROUP)):
                with operator.batch():
                    for copy in group:
                        interrupts.check()
                        _put(operator, copy, result)
        except _NO_ARCHIVE as error:
            what = f"{render.name(archive)} is not a tar archive, or is cut off: {error}"
            raise PiperError(f"{what}; {_words(result)}") from None
        except KeyboardInterrupt:
            print(f"piperctl: interrupted; {_words(result)}", file=sys.stderr)
            raise typer.Exit(128 + signal.SIGINT) from None
    acting.leave_a_line(f"{render.number(result.done, 'message')} imported into {render.name(view.path)}", result.done)
    print(_words(result))
    if result.failed:
        raise typer.Exit(ExitStatus.PARTIAL if result.done else ExitStatus.FAILURE)


def _put(operator: Operator, copy: Copy, result: Result) -> None:
    try:
        if operator.add(copy):
            result.done += 1
        else:
            result.skipped += 1
    except (PiperError, OSError) as error:
        result.failed += 1
        print(f"piperctl: {render.name(copy.id)}: {render.text(str(error))}", file=sys.stderr)


def _words(result: Result) -> str:
    words = f"{render.number(result.done, 'message')} imported"
    words += f"; {result.skipped} there already" if result.skipped else ""
    return words + (f"; {result.failed} failed" if result.failed else "")


def _copies(file: IO[bytes], part: str | None) -> Iterator[Copy]:
    """The messages of an archive. Raises one of _NO_ARCHIVE."""
    report: tuple[str, dict[str, Any] | None] = ("", None)
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            where, _, id = member.name.partition("/")
            known = member.isreg() and id and where in (_REPORTS, *RESTING)
            if not known or member.size > _MOST or not 0 <= member.mtime < _TIME_MAX:  # a NaN is neither
                print(
                    f"piperctl: {render.name(member.name)} is left out: it is not an exported message", file=sys.stderr
                )
                continue
            opened = archive.extractfile(member)
            data = opened.read() if opened is not None else b""
            if where == _REPORTS:
                report = id, json_object(data)
                continue
            target = part or (where if where in ("hold", "errors") else "incoming")
            yield Copy(id, target, float(member.mtime), data, report[1] if report[0] == id else None)
