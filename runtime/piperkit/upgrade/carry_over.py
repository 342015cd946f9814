"""What belongs to the user stays theirs in an update of the template, where copier alone would not see to it.

copier forgets a user's changes to a file that the new version has renamed, and deletes a file that the new version
does not have, whatever is in it. This puts that right afterwards, from what the old version had generated, what the
user had made of it (HEAD), and what is there now. And since components are the user's, so are their options: that
section of a configuration file stays as it is. It can be done twice.

`piperctl upgrade` does so, and the template's migration after a plain `copier update` does, as
`python -m piperkit.upgrade.carry_over TEMPLATE ANSWERS_FILE` in the project.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import copier
import yaml

from piperkit.errors import PiperError
from piperkit.project.git import contents, git, git_bytes, listed
from piperkit.upgrade import releases
from piperkit.upgrade.releases import Release

#: As copier calls the three sides.
_LABELS = ("before updating", "last update", "after updating")
MARKERS = (b"<<<<<<< ", b">>>>>>> ")
#: The last section of a configuration file, of which the template has what the component it made knows.
_OPTIONS = b"\n    # --- options of this daemon ---\n"


class What(enum.Enum):
    """What became of a user's file that the template has renamed or deleted."""

    CARRIED = "the changes were carried over"
    CONFLICT = "the changes are in conflict with the template's"
    TAKEN = "the new name was taken, so both are there"
    KEPT = "no longer in the template; kept because you changed it"
    LEFT_OUT = "it was deleted, and is left out under its new name too"


@dataclasses.dataclass(frozen=True, slots=True)
class Carried:
    """One such file; paths from the project's directory."""

    old: str
    new: str | None  #: None where the template deleted it
    what: What


def render_base(project: Path, answers_file: str, base: Path) -> dict[str, Any]:
    """Generate into `base` what the project was made of, as HEAD's answers say, which it returns.

    Raises CopierError.
    """
    prefix = git(project, "rev-parse", "--show-prefix")
    text = contents(project, "HEAD", prefix + answers_file)
    if text is None:
        raise PiperError(f"{answers_file} is not committed in {project}; commit it")
    answers: dict[str, Any] = yaml.safe_load(text)
    data = {key: value for key, value in answers.items() if not key.startswith("_")}
    copier.run_copy(
        answers["_src_path"],
        base,
        data,
        answers_file=answers_file,
        vcs_ref=str(answers["_commit"]),
        defaults=True,
        overwrite=True,
        quiet=True,
        skip_tasks=True,
    )
    return answers


def carry(project: Path, base: Path, news: Sequence[Release], answers: Mapping[str, Any]) -> list[Carried]:
    """Put right what an update that is not committed yet did to files that it renamed or deleted.

    base: what the old version of the template had generated with these answers.
    """
    prefix = git(project, "rev-parse", "--show-prefix")
    paths = sorted(str(path.relative_to(base)) for path in base.rglob("*") if path.is_file())
    results = []
    for path in paths:
        new = releases.renamed(path, news, answers)
        yours = contents(project, "HEAD", prefix + path)
        if new != path:
            results.append(_renamed(project, prefix, base, path, new, yours))
        elif yours is not None and yours != (base / path).read_bytes() and not (project / path).exists():
            _write(project, path, yours, (base / path).stat().st_mode)
            results.append(Carried(path, None, What.KEPT))
    return [result for result in results if result is not None]


def _renamed(project: Path, prefix: str, base: Path, old: str, new: str, yours: bytes | None) -> Carried | None:
    """One renamed file, and its user's version of it."""
    taken = contents(project, "HEAD", prefix + new) is not None
    target = project / new
    if yours is None:
        if taken or (project / old).exists() or not target.exists():
            return None
        target.unlink()
        return Carried(old, new, What.LEFT_OUT)
    if yours == (base / old).read_bytes():
        (project / old).unlink(missing_ok=True)
        return None
    if taken or not target.exists():  # or it is not generated any more, by another answer
        _write(project, old, yours, (base / old).stat().st_mode)
        return Carried(old, new, What.TAKEN) if taken else Carried(old, None, What.KEPT)
    (project / old).unlink(missing_ok=True)
    if has_markers(target):
        return Carried(old, new, What.CONFLICT)
    sides = [yours, (base / old).read_bytes(), target.read_bytes()]
    target.write_bytes(_merge(project, sides))
    if not has_markers(target):
        return Carried(old, new, What.CARRIED)
    _unmerged(project, new, sides)
    return Carried(old, new, What.CONFLICT)


def keep_options(project: Path) -> None:
    """In the configuration files, the section of the components' options is as in HEAD."""
    prefix = git(project, "rev-parse", "--show-prefix")
    for file in sorted((project / "etc").glob("*.conf")):
        path = str(file.relative_to(project))
        _, found, options = (contents(project, "HEAD", prefix + path) or b"").partition(_OPTIONS)
        if not found:
            continue
        stages = listed(project, "ls-files", "-z", "--unmerged", "--format=%(objectname)", "--", path)
        if not stages:
            file.write_bytes(_with_options(file.read_bytes(), options))
            continue
        base, yours, theirs = (git_bytes(project, "cat-file", "blob", stage) for stage in stages)
        sides = [yours, _with_options(base, options), _with_options(theirs, options)]
        git(project, "reset", "--quiet", "--", path)
        file.write_bytes(_merge(project, sides))
        if has_markers(file):
            _unmerged(project, path, sides)


def _with_options(text: bytes, options: bytes) -> bytes:
    before, found, _ = text.partition(_OPTIONS)
    return before + found + options if found else text


def _merge(project: Path, sides: Sequence[bytes]) -> bytes:
    """Yours, the common base and theirs in one, with conflict markers where both changed a place."""
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory, label.replace(" ", "-")) for label in _LABELS]
        for file, side in zip(files, sides, strict=True):
            file.write_bytes(side)
        labels = [part for label in _LABELS for part in ("-L", label)]
        # The exit status is the number of conflicts.
        return git_bytes(project, "merge-file", "-p", *labels, *files, good=range(128))


def _unmerged(project: Path, path: str, sides: Sequence[bytes]) -> None:
    """Have git say that the file is in conflict, as after a merge, and so refuse to commit it."""
    yours, base, theirs = (git(project, "hash-object", "-w", "--stdin", stdin=side) for side in sides)
    mode = "100755" if (project / path).stat().st_mode & 0o100 else "100644"
    name = git(project, "rev-parse", "--show-prefix") + path
    stages = [f"0 {'0' * 40}\t{name}"]
    stages += [f"{mode} {blob} {stage}\t{name}" for stage, blob in ((1, base), (2, yours), (3, theirs))]
    git(project, "update-index", "--index-info", stdin="".join(f"{stage}\n" for stage in stages).encode())


def _write(project: Path, path: str, data: bytes, mode: int) -> None:
    file = project / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    file.chmod(mode)


def has_markers(file: Path) -> bool:
    """Whether a file holds conflict markers."""
    return any(line.startswith(MARKERS) for line in file.read_bytes().splitlines())


def main(template: str, answers_file: str) -> None:
    """Do it after `copier update`, and say what was done."""
    project = Path.cwd()
    news = releases.parse(Path(template, releases.FILE).read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory, project.name)
        answers = render_base(project, answers_file, base)
        new = releases.since(news, Path(template), str(answers["_commit"]))
        for carried in carry(project, base, new, answers):
            names = carried.old if carried.new is None else f"{carried.old}, now {carried.new}"
            print(f"{names}: {carried.what.value}", file=sys.stderr)
    keep_options(project)


if __name__ == "__main__":
    main(*sys.argv[1:])
