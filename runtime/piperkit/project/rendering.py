"""Rendering the template by copier, with answers that are known to be meant for it.

Copier takes any answer and forgets the ones that no question asks for; here, that is a mistake.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import copier
import yaml
from copier.errors import CopierAnswersInterrupt, CopierError, DirtyLocalWarning

from piperkit.config import nearest
from piperkit.errors import UsageError
from piperkit.project.template_repository import NoTemplate, TemplateRepository

#: The version that stands for the newest commit, and in a checkout for what is not committed, too.
HEAD = "HEAD"


def questions(template: str, version: str | None) -> list[str]:
    """The names of what the template asks. Raises NoTemplate, UsageError."""
    checkout = Path(template).expanduser()
    if (checkout / "copier.yml").is_file() and (version == HEAD or not (checkout / ".git").exists()):
        text: str | None = (checkout / "copier.yml").read_text(encoding="utf-8")
    else:
        with TemplateRepository(template, "say where it is: --template ADDRESS") as source:
            text = source.read(source.target(version) if version else source.newest(), "copier.yml")
    found = yaml.safe_load(text or "")
    if not isinstance(found, dict) or "daemon_name" not in found:
        raise NoTemplate(f"{template} is not the template of a piper daemon; name another with --template")
    return [
        key
        for key, question in found.items()
        if not key.startswith("_") and isinstance(question, dict) and question.get("when") is not False
    ]


def check_names(answers: Mapping[str, Any], known: list[str]) -> None:
    """Raises UsageError for an answer to a question that the template does not ask."""
    for name in answers:
        if name not in known:
            hint = nearest(name, known) or f"; it asks for {', '.join(known)}"
            raise UsageError(f"the template does not ask for {name!r}{hint}")


def render(
    template: str,
    version: str | None,
    target: Path,
    answers: Mapping[str, Any],
    *,
    answers_file: str | None = None,
    defaults: bool = True,
) -> dict[str, Any]:
    """Render a version of the template into a directory, which is removed again if that fails.

    version: a tag or commit; None: the newest release. defaults: ask nothing.
    Returns all answers, with those that the template derives from the others.

    Raises UsageError for a wrong answer, and where copier cannot do it; KeyboardInterrupt.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DirtyLocalWarning)
            done = copier.run_copy(
                template,
                target,
                dict(answers),
                vcs_ref=version,
                answers_file=answers_file,
                defaults=defaults,
                quiet=True,
            )
        return dict(done.answers.combined)
    except CopierAnswersInterrupt:
        raise KeyboardInterrupt from None
    except (CopierError, ValueError) as error:
        raise UsageError(" ".join(str(error).split())) from None
