"""What a user does to a project, and whether all of it is there after an upgrade."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from repository import commit_all, git
from upgrade_project import change, tree

SECOND = '''\
"""A second component of ours."""

from piperkit import Component, Message


class Second(Component):
    """Leaves each message to the next component."""

    def process(self, message: Message) -> None:
        """Nothing to do."""
'''
TEST = '''\
"""A test of ours."""

from {package}.second import Second


def test_it_can_be_made() -> None:
    assert Second()
'''
FUNCTION = '''

def ours(text: str) -> str:
    """A function of ours."""
    return text.upper()
'''

#: Texts that the user replaces: in which files, wherever these are called so, which one, and by what.
REPLACED = (
    ("etc/*.conf", '# "retry_limit": 5', '"retry_limit": 7'),
    ("systemd/*[!@].service", "Restart=on-failure", "Restart=always"),
    ("systemd/*sysusers*", "/var/lib/", "/srv/"),
    ("monitoring/*loopback.conf", "IPAddressAllow=localhost", "IPAddressAllow=localhost 192.0.2.1"),
)


def replaced(path: str) -> Iterator[tuple[str, str]]:
    """What the user replaces in a file."""
    return ((old, new) for files, old, new in REPLACED if fnmatchcase(path, files))


def edit(project: Path) -> dict[str, bytes]:
    """Make a project the user's own; returns all its files."""
    (package,) = (project / "src").iterdir()
    name = next((project / "etc").glob("*.conf")).stem
    with open(package / "component.py", "a", encoding="utf-8") as component:
        component.write(FUNCTION)
    (package / "second.py").write_text(SECOND, encoding="utf-8")
    change(package / "daemon.py", "components=[", "components=[Second(), ")
    imported = next(line for line in (package / "daemon.py").read_text().splitlines() if ".component import" in line)
    change(package / "daemon.py", imported, f"{imported}\nfrom {package.name}.second import Second")
    (project / "tests" / "test_ours.py").write_text(TEST.format(package=package.name), encoding="utf-8")
    change(project / "README.md", f"# {name}\n", f"# {name}\n\nThis belongs to us.\n")
    (project / ".pre-commit-config.yaml").unlink()
    for path in tree(project):
        for old, new in replaced(path):
            change(project / path, old, new)
    commit_all(project, "Ours")
    return tree(project)


def settle(project: Path) -> list[str]:
    """Take the template's side of each conflict, with the user's change put in again; returns the files."""
    conflicts = git(project, "diff", "--name-only", "--diff-filter=U").splitlines()
    for path in conflicts:
        git(project, "checkout", "--theirs", "--", path)
        ((old, new),) = replaced(path)
        change(project / path, old, new)
    return conflicts


def check_kept(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
    """All that the user did is there, and nothing is that the user deleted, or that an update could not merge."""
    (package,) = {name.split("/")[1] for name in after if name.startswith("src/")}
    for name in (f"src/{package}/component.py", f"src/{package}/second.py", "tests/test_ours.py"):
        assert after[name] == before[name]
    assert b"components=[Second(), " in after[f"src/{package}/daemon.py"]
    assert b"This belongs to us." in after["README.md"]
    assert ".pre-commit-config.yaml" not in after
    for files, _, new in REPLACED:
        if any(fnmatchcase(name, files) for name in before):
            assert any(fnmatchcase(name, files) and new.encode() in after[name] for name in after), f"{new} is lost"
    for name, text in after.items():
        assert not name.endswith(".rej")
        assert b"<<<<<<<" not in text, f"{name} is in conflict"
