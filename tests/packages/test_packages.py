"""What is published: source archive, wheel and Debian package, each as it is in a bare environment."""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from checkout import ALL, ROOT
from installing import BUILD, HARDLY_COMPRESSED, install, with_uv
from needs import need
from piperkit import PiperDaemon
from piperkit.testing import Piper
from programs import output

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]
#: Extras of those who work on piperkit, not of those who use it.
OURS = {"dev", "docs"}
EXTRAS = sorted(PROJECT["optional-dependencies"].keys() - OURS)
#: What is imported from packages that only extras bring.
BROUGHT = {
    *("copier", "jinja2", "opentelemetry", "pika", "prometheus_client", "psycopg", "pytest", "starlette"),
    *("textual", "tomlkit", "uvicorn", "yaml"),
}
#: Imports every module, and prints what is missing for one: module, and the package that it did not find.
IMPORT_ALL = """
import importlib, pkgutil, piperkit
for found in pkgutil.walk_packages(piperkit.__path__, "piperkit.", onerror=lambda name: None):
    if not found.name.endswith("__main__"):
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            print(found.name, error.name)
"""


def pythons() -> dict[str, str]:
    """An interpreter of each supported version that is here and works, by its name."""
    found = {f"python3.{sys.version_info.minor}": sys.executable}
    for name in (f"python3.{minor}" for minor in range(11, 15)):
        places = glob.glob(f"{os.environ.get('PYENV_ROOT', Path.home() / '.pyenv')}/versions/*/bin/{name}")
        for path in filter(None, [*places, shutil.which(name)]):
            if name not in found and works(path):
                found[name] = path
    return dict(sorted(found.items()))


def works(path: str) -> bool:
    """Whether it can make environments; pyenv has commands that only say that they are of no use here."""
    done = subprocess.run([path, "-c", "import ensurepip, sqlite3, ssl"], capture_output=True, check=False)
    return done.returncode == 0


PYTHONS = pythons()
#: By default the oldest and the newest.
TRIED = [*PYTHONS] if ALL else sorted({min(PYTHONS), max(PYTHONS)})


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` makes, of what git knows: a tree of its own, without what older builds have left."""
    tree = tmp_path_factory.mktemp("tree")
    files = output("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z").split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "docs/", "benchmarks/")):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    output(*BUILD, "--outdir", tree / "dist", tree, env=with_uv(os.environ))
    return tree / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (found,) = dist.glob("*.whl")
    return found


def test_they_are_right_in_the_eyes_of_their_linters(dist: Path, wheel: Path) -> None:
    output(sys.executable, "-m", "twine", "check", "--strict", *dist.iterdir())
    output(sys.executable, "-m", "check_wheel_contents", wheel)


def test_they_hold_the_package_and_nothing_else(dist: Path, wheel: Path) -> None:
    listed = output("git", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "runtime/piperkit").splitlines()
    wanted = {name.removeprefix("runtime/") for name in listed if (ROOT / name).exists()}
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if ".dist-info/" not in name} == wanted
    with tarfile.open(dist / f"piperkit-{VERSION}.tar.gz") as archive:
        tops = {each.name.split("/")[1] for each in archive if each.isfile()}
    assert tops == {"LICENSE", "MANIFEST.in", "PKG-INFO", "README.md", "pyproject.toml", "runtime", "setup.cfg"}


@pytest.fixture(scope="module", params=TRIED)
def bare(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel, and what that asks for."""
    directory = tmp_path_factory.mktemp("bare")
    output(PYTHONS[request.param], "-m", "venv", directory)
    output(directory / "bin/pip", "install", "--quiet", wheel)
    return directory / "bin" / "python"


def test_bare_it_works_and_lacks_only_what_its_extras_bring(bare: Path, tmp_path: Path) -> None:
    assert output(bare.parent / "piperctl", "--version", cwd=tmp_path) == f"piperctl {VERSION}\n"
    output(bare.parent / "pip", "check")
    missing = dict(line.split() for line in output(bare, "-c", IMPORT_ALL, cwd=tmp_path).splitlines())
    assert {name.partition(".")[0] for name in missing.values()} <= BROUGHT
    assert not missing.keys() & {f"piperkit.{name}" for name in ("cli", "daemon", "dirq", "doctor", "filer", "sources")}
    put = "from piperkit import DirectoryQueue; DirectoryQueue('queue').enqueue('hello')"
    output(bare, "-c", put, cwd=tmp_path)
    assert "incoming" in output(bare.parent / "piperctl", "queue", "stats", "queue", cwd=tmp_path)


def test_it_asks_for_nothing_that_it_does_not_import() -> None:
    asked = {re.split(r"[\s<>=!\[;]", each)[0].replace("-", "_") for each in PROJECT["dependencies"]}
    sources = "\n".join(path.read_text() for path in (ROOT / "runtime/piperkit").rglob("*.py"))
    for name in asked:
        assert re.search(rf"^\s*(import|from) {name}\b", sources, re.MULTILINE), name


def test_extras_bring_what_is_lacking_without_them(wheel: Path, tmp_path: Path) -> None:
    python = install(tmp_path / "environment", f"{wheel}[{','.join(EXTRAS)}]")
    output(sys.executable, "-m", "pip", "--python", python, "check")
    assert output(python, "-c", IMPORT_ALL, cwd=tmp_path) == ""


def test_the_readme_of_the_package_names_each_extra_and_its_example_runs(piper: Piper) -> None:
    text = (ROOT / "runtime" / "README.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == sorted(
        EXTRAS, key=lambda name: text.index(f"`{name}` |")
    )
    assert not re.search(r"\]\(", text), "links from there lead nowhere on the package index"
    code = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[0]
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, "example", "exec"), namespace)
    piper.put("hello", "# not this")
    piper.run(lambda argv: PiperDaemon(name="upper", argv=argv, components=[namespace["Upper"]()]))
    assert piper.out == [b"HELLO"]
    assert piper.errors == [(b"# not this", "a comment")]


def test_a_debian_package_holds_piperctl_with_all_that_it_needs(tmp_path: Path) -> None:
    tools = ("dpkg-buildpackage", "dh", "dh_python3", "lintian")
    need("debian", all(map(shutil.which, tools)), "dpkg-dev, debhelper, dh-python, python3-venv and lintian")
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "debian", tree / "debian")
    shutil.copytree(ROOT / "tools", tree / "tools")
    for name in ("pyproject.toml", "CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md"):
        shutil.copy(ROOT / name, tree)
    shutil.copytree(ROOT / "runtime", tree / "runtime", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    output(*BUILD, "--sdist", "--outdir", tree / "dist", tree, env=with_uv(os.environ))
    output(sys.executable, tree / "tools" / "debian.py", env={**os.environ, **HARDLY_COMPRESSED})
    (changes,) = (tree / "dist").glob("*.changes")
    assert output("lintian", "--allow-root", "--fail-on=error,warning", changes) == ""
    (package,) = (tree / "dist").glob("*.deb")
    root = tmp_path / "root"
    output("dpkg-deb", "--extract", package, root)
    assert not list((root / "usr/lib").rglob("__pycache__"))  # before anything of it runs
    command = root / "usr/lib/piperkit/bin/piperctl"
    moved = command.read_text().replace('"/usr/lib', f'"{root}/usr/lib')
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    run = ["/usr/bin/python3", "-sP", "-c", moved]
    assert output(*run, "--version", env=bare) == f"piperctl {VERSION}\n"
    everything = f"import sys; sys.path.insert(0, '{root}/usr/lib/piperkit')\n{IMPORT_ALL}"
    lacking = output("/usr/bin/python3", "-sP", "-c", everything, env=bare)
    daemons_alone = {"opentelemetry", "pika", "prometheus_client", "pytest"}
    assert {line.split()[1].partition(".")[0] for line in lacking.splitlines()} <= daemons_alone
    assert "complete" in (root / "usr/share/bash-completion/completions/piperctl").read_text()
