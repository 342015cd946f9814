"""What a template would execute in an upgrade, and whether its user has allowed that.

A template's tasks and migrations are commands that copier runs. The user is asked once for each address of a template;
the answer is kept in `trusted` in the user's configuration directory for piperkit. A look executes nothing, ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from piperkit.project.template_repository import TemplateRepository

#: The condition of migrations that `piperctl upgrade` does itself; such a command is not executed then.
_DONE_HERE = "{{ _stage == 'after' and 'piperctl' not in _copier_conf.data }}"


def commands(source: TemplateRepository, target: str, olds: Iterable[str]) -> list[str]:
    """What an upgrade of a project from these versions of its template to the target would execute, a line each."""
    found: dict[str, None] = {}
    for version in (target, *olds):
        text = source.read(version, "copier.yml") or source.read(version, "copier.yaml") or "{}"
        try:
            settings = yaml.safe_load(text) or {}
        except yaml.YAMLError:
            found["what its copier.yml says, in parts that cannot be read here"] = None
            continue
        for task in settings.get("_tasks") or ():
            found[_shown(task)] = None
        for migration in settings.get("_migrations") or () if version == target else ():
            if not _is_done_here(migration, settings):
                found[_shown(migration)] = None
        for extension in settings.get("_jinja_extensions") or ():
            found[f"Python's module {extension}"] = None
    return list(found)


def _is_done_here(migration: Any, settings: Mapping[str, Any]) -> bool:
    """Whether copier passes a migration by. It has no `when` in its older form, nor one with delimiters of its own."""
    return (
        isinstance(migration, dict)
        and migration.get("when") == _DONE_HERE
        and not {"before", "after"} & migration.keys()
        and not settings.get("_envops")
    )


def _shown(task: Any) -> str:
    if isinstance(task, dict):
        parts = [task[key] for key in ("command", "before", "after") if task.get(key)]
        return "; ".join(map(_shown, parts))
    return " ".join(map(str, task)) if isinstance(task, list) else str(task)


def is_given(address: str) -> bool:
    """Whether the user has allowed the template of this address to execute commands."""
    try:
        return address in _file().read_text(encoding="utf-8").splitlines()
    except OSError:
        return False


def give(address: str) -> None:
    """Keep that the user has allowed it. Idempotent; raises OSError."""
    if not is_given(address):
        file = _file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a", encoding="utf-8") as trusted:
            trusted.write(f"{address}\n")


def _file() -> Path:
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(configuration, "piperkit", "trusted")
