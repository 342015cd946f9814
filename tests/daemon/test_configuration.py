"""Where settings come from, and what is said about wrong ones."""

from __future__ import annotations

import functools
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from pyzenkit.baseapp import BaseApp

import apps
from piperkit import Component, Message, Option, Outcome, PiperDaemon
from piperkit.dirq.layout import ADDED, PROTOCOL
from piperkit.errors import ConfigError
from piperkit.testing import Piper

Call = Callable[..., CompletedProcess[str]]


def paths(tmp_path: Path) -> dict[str, str]:
    return {f"path_{name}": str(tmp_path / name) for name in ("cfg", "var", "log", "run", "tmp")}


def make(tmp_path: Path, *argv: str, **more: object) -> PiperDaemon:
    """A daemon that has read its configuration, and done nothing else."""
    daemon = apps.build("upper", list(argv), **{**paths(tmp_path), **more})
    daemon._stage_setup_configuration()
    return daemon


def write(path: Path, data: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_last_source_wins_of_default_directory_file_and_command_line(tmp_path: Path) -> None:
    write(
        tmp_path / "cfg/upper/a.json.conf",
        {"queue_in_wait": 1, "queue_out_wait": 1, "queue_out_limit": 1},
    )
    write(tmp_path / "cfg/upper/ignored.txt", "{")
    write(tmp_path / "cfg/upper.conf", {"queue_out_wait": 2, "queue_out_limit": 2})
    daemon = make(tmp_path, "--queue-out-limit=3")
    assert daemon.c("queue_in_batch") == 32
    assert [daemon.c(f"queue_{key}") for key in ("in_wait", "out_wait", "out_limit")] == [1, 2, 3]
    assert daemon.configuration.origins["queue_out_limit"] == "command line"
    assert daemon.configuration.origins["queue_out_wait"] == str(tmp_path / "cfg/upper.conf")


def test_computed_queue_settings_are_where_the_contract_says(tmp_path: Path) -> None:
    core = make(tmp_path, "--queue-out-dir=next").config["__core__"]["filequeue"]
    assert core["dir_queue"] == str(tmp_path / "var/spool/upper")
    assert core["dir_next_queue"] == str(tmp_path / "var/spool/next")
    assert core["queue_perms"] == 0o770
    assert core["queue_out_limit"] == 10000


def test_lines_that_begin_with_a_comment_sign_are_comments(tmp_path: Path) -> None:
    write(tmp_path / "cfg/upper.conf", '# one\n{\n  // two\n  "queue_in_wait": 1 \n}\n')
    assert make(tmp_path).c("queue_in_wait") == 1


@pytest.mark.parametrize("mode", ["0o770", "770", "0770"])
def test_modes_are_octal_text(tmp_path: Path, mode: str) -> None:
    write(tmp_path / "cfg/upper.conf", {"queue_in_perms": mode})
    assert make(tmp_path).c("queue_in_perms") == 0o770
    assert make(tmp_path, "--umask", "022").c("umask") == 0o022


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"queue_in_wiat": 1}', "unknown key queue_in_wiat; did you mean queue_in_wait?"),
        ('{"queue_in_wait": "soon"}', 'queue_in_wait is "soon"; it must be a number of seconds, 0.01 or more'),
        ('{"queue_in_wait": -1}', "queue_in_wait is -1; it must be a number of seconds, 0.01 or more"),
        ('{"queue_out_limit": 1.5}', "queue_out_limit is 1.5; it must be a whole number of messages, 0 or more"),
        ('{"queue_out_limit": true}', "queue_out_limit is true; it must be a whole number of messages, 0 or more"),
        ('{"queue_in_perms": "rwx"}', 'queue_in_perms is "rwx"; it must be an octal mode'),
        ('{"message_format": "xml"}', 'message_format is "xml"; it must be one of text, bytes, json'),
        ('{"config_file": "x"}', "config_file is for the command line only: --config-file"),
        ('{"retry_min": 10, "retry_max": 5}', "retry_max is 5; it must not be less than retry_min"),
        ('{"user": "no-such-user"}', "user: there is no account no-such-user"),
        ('{"queue_out_dir": "upper"}', "which is the input queue"),
        ('{"queue_out_dir": "in/pending"}', "in/pending, which is a part of a queue; it must be a queue"),
        ('{"queue_in_dir": ""}', 'queue_in_dir is ""; it must be a path, or a bare name'),
        ('{"work_dir": "/nowhere"}', "work_dir is /nowhere, which is not a directory"),
        ('{"chroot_dir": "/nowhere"}', "chroot_dir: cannot chroot into /nowhere"),
        ('{"group": "no-such-group"}', "group: there is no group no-such-group"),
        ('{"message_format": null, "queue_in_wait": "Infinity"}', 'queue_in_wait is "Infinity"; it must be a number'),
        ('{"paralel": true, "paralel": false}', "paralel stands there twice"),
        ('{\n"paralel" true}', "line 2: Expecting ':' delimiter"),
        ('{"paralel": true,\n "umask": "0o27",\n}', "the comma at the end of line 2 is one too many"),
        ('{"paralel": true,\n\n# more\n}', "the comma at the end of line 1 is one too many"),
        (
            '{"paralel": true\n "umask": "0o27"}',
            "line 2: Expecting ',' delimiter; a comma is missing at the end of line 1",
        ),
        ("{'paralel': true}", "texts and keys need double quotes"),
        ('{"queue_in_perms": 0770}', 'write a mode as "0770"'),
        ('{"umask": 0o27}', 'write a mode as "0o27"'),
        ('{"queue_in_perms": 775}', 'as a number is the mode 0o1407; write "0o775", or "0o1407"'),
        ('{"queue_in_perms": "rwx"}', 'it must be an octal mode such as "0o770"'),
        ("[]", "must be a JSON object"),
    ],
)
def test_wrong_configuration_ends_the_start_with_one_line(piper: Piper, call: Call, content: str, says: str) -> None:
    path = write(piper.directory / "wrong.conf", content)
    done = call("upper", f"--config-file={path}", "--no-daemon", alone=True, cwd=piper.directory)
    assert done.returncode == 78
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("--queue-in-dri=x", "unknown option --queue-in-dri; did you mean --queue-in-dir?"),
        ("--queue-in", "unknown option --queue-in"),
        ("--queue-in-wait=soon", "argument --queue-in-wait: 'soon'; it must be a number of seconds, 0.01 or more"),
        ("--umask=9", "argument --umask: '9'; it must be an octal mode"),
        ("stray", "unexpected argument 'stray'"),
        ("--name=../x", "cannot be a daemon's name"),
    ],
)
@pytest.mark.slow
def test_wrong_option_ends_the_start_with_one_line(call: Call, argument: str, says: str) -> None:
    done = call("upper", argument, alone=True)
    assert done.returncode == 64
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_named_configuration_that_is_missing_is_an_error_unless_silenced(tmp_path: Path) -> None:
    for key in ("config-file", "config-dir"):
        missing = f"--{key}={tmp_path}/missing"
        with pytest.raises(ConfigError, match=f"missing does not exist; correct --{key}"):
            make(tmp_path, missing)
        make(tmp_path, missing, f"--{key}-silent")


def test_components_and_applications_declare_keys_that_are_options_too(tmp_path: Path) -> None:
    class Greeter(Component):
        options = (Option("greeting", str, "hello", "what to say"),)

        def process(self, message: Message) -> Outcome:
            return message.commit()

    def build(*argv: str) -> PiperDaemon:
        own = (Option("times", int, 1, "how often", minimum=1),)
        paths = {f"path_{name}": str(tmp_path) for name in ("cfg", "var", "log", "run", "tmp")}
        daemon = PiperDaemon(name="greet", argv=list(argv), components=[Greeter()], options=own, **paths)
        daemon._stage_setup_configuration()
        return daemon

    assert build().c("greeting") == "hello"
    write(tmp_path / "greet.conf", {"greeting": "hi", "times": 3})
    assert (build().c("greeting"), build().c("times")) == ("hi", 3)
    assert build("--greeting=ho").c("greeting") == "ho"
    write(tmp_path / "greet.conf", {"times": 0})
    with pytest.raises(ConfigError, match="times is 0; it must be a whole number, 1 or more"):
        build()


class Greeter(Component):
    greeting = Option(str, "Hello from {name}", help="what each message begins with")
    times = Option(int, 1, help="how often", minimum=1, key="repeat")
    facts = Option(dict[str, list[int]], {}, help="numbers by name")
    mode = Option(int, 0o640, help="of files", kind="mode")
    title = Option(str, None, help="none by default")

    def process(self, message: Message) -> Outcome:
        return message.commit(f"{self.greeting}, {message.text}" * self.times)


class Shouter(Greeter):
    """Inherits all options, has one for itself, and another default."""

    greeting = Option(str, "HELLO", help="what each message begins with")
    older = Option(str, "x", help="fixed below")
    options = (Option("volume", float, 11, "how loud"),)


class Mumbler(Shouter):
    """Decides for itself what was an option."""

    older = "not to be configured"  # type: ignore[assignment]


def daemon_of(tmp_path: Path, *components: Component, argv: tuple[str, ...] = ()) -> PiperDaemon:
    daemon = PiperDaemon(name="upper", argv=list(argv), components=list(components), **paths(tmp_path))
    daemon._stage_setup_configuration()
    return daemon


def greeter(argv: list[str]) -> PiperDaemon:
    return PiperDaemon(name="upper", argv=argv, components=[Greeter()])


def test_an_option_is_read_as_an_attribute_from_setup_on(piper: Piper) -> None:
    piper.put("world")
    piper.run(greeter, "--repeat=2")
    assert piper.out == [b"Hello from upper, world" * 2]


def test_options_are_inherited_and_can_have_another_default(tmp_path: Path) -> None:
    daemon = daemon_of(tmp_path, Mumbler(), argv=("--facts", '{"a": [1]}', "--mode=600"))
    assert daemon.c("greeting") == "HELLO"
    assert daemon.c("volume") == 11
    assert daemon.c("facts") == {"a": [1]}
    assert daemon.c("mode") == 0o600
    assert daemon.c("title") is None
    assert "older" not in daemon.config


def test_an_option_without_a_daemon_says_why_it_has_no_value() -> None:
    with pytest.raises(AttributeError, match=r"Greeter is in no daemon yet.*greeting.*setup"):
        _ = Greeter().greeting
    assert Greeter.greeting.key == "greeting"


def test_an_option_cannot_be_assigned() -> None:
    with pytest.raises(AttributeError, match=r"Greeter cannot assign greeting.*configuration"):
        Greeter().greeting = "Hi"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"facts": [1]}, "facts is [1]; it must be an object of lists of whole numbers"),
        ({"facts": {"a": 1}}, "it must be an object of lists of whole numbers"),
        ({"facts": {"a": ["1"]}}, "it must be an object of lists of whole numbers"),
        ({"repeat": 0}, "repeat is 0; it must be a whole number, 1 or more"),
        ({"times": 1}, "unknown key times"),
        ({"mode": "rwx"}, 'mode is "rwx"; it must be an octal mode'),
    ],
)
def test_an_attribute_has_the_type_that_it_was_declared_with(tmp_path: Path, value: Any, says: str) -> None:
    write(tmp_path / "cfg/upper.conf", value)
    with pytest.raises(ConfigError) as caught:
        daemon_of(tmp_path, Greeter())
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error"),
    [
        ((str, 5), {}, TypeError),
        ((int, True), {}, TypeError),
        ((list[str], [1]), {}, TypeError),
        ((set, None), {}, TypeError),
        ((dict[int, str], None), {}, TypeError),
        ((int, 0), {"minimum": 1}, ValueError),
        ((str, "c"), {"choices": ("a", "b")}, ValueError),
        ((int, None), {"kind": "path"}, TypeError),
        ((str, None), {"kind": "pfad"}, TypeError),
        ((str, None, "help"), {}, TypeError),
        ((str, None), {"colour": "blue"}, TypeError),
        ((), {}, TypeError),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(
    arguments: tuple[Any, ...], keywords: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"[Oo]ption"):
        Option(*arguments, help="what it is", **keywords)


class Hides(Component):
    setup = Option(str, "x", help="hides a hook")  # type: ignore[assignment]


class Twice(Greeter):
    again = Option(str, "x", help="two attributes, one key", key="repeat")


class Keyless(Component):
    options = (Option(str, "x", help="no attribute, no key"),)


class Takes(Component):
    queue_out_limit = Option(int, 1, help="a key of every daemon")


class Other(Component):
    greeting = Option(str, "Hi", help="another component's key")


@pytest.mark.parametrize(
    ("components", "says"),
    [
        ([Hides], 'the option Hides.setup hides Component.setup; give the attribute another name, and add key="setup"'),
        ([Twice], "Twice.again and Greeter.times declare the key repeat differently"),
        ([Keyless], "Keyless has an option without a key"),
        ([Takes], "Takes declares the key queue_out_limit, which every daemon has"),
        ([Greeter, Other], "Other declares the key greeting, which Greeter has"),
    ],
)
def test_options_that_are_in_the_way_are_named_at_the_start(
    tmp_path: Path, components: list[type[Component]], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        daemon_of(tmp_path, *[component() for component in components])
    assert says in str(caught.value)


def test_keys_that_are_declared_in_the_way_of_pyzenkit_are_options_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So daemons that were written for it keep theirs; of what type they are is not known."""

    class Older(PiperDaemon):
        def _init_argparser(self, **more: Any) -> Any:
            parser = super()._init_argparser(**more)
            parser.add_argument_group("older options").add_argument("--reload-interval", type=int, default=None)
            return parser

        def _init_config(self, cfgs: Any, **more: Any) -> Any:
            return super()._init_config((("reload_interval", 300), ("plugins", []), *cfgs), **more)

    def build(*argv: str) -> PiperDaemon:
        paths = {f"path_{name}": str(tmp_path) for name in ("cfg", "var", "log", "run", "tmp")}
        return Older(name="older", argv=list(argv), components=[apps.Echo()], **paths)

    path = write(tmp_path / "older.conf", {"plugins": [{"name": "geoip"}], "reload_interval": 60})
    with pytest.raises(SystemExit):
        build("--action=config-view").run()
    shown = capsys.readouterr().out
    assert re.search(rf'plugins +. \[.*"geoip".*\]  \({path}\)', shown)
    assert re.search(rf"reload_interval += 60  \({path}\)", shown)
    daemon = build("--reload-interval=5")
    daemon._stage_setup_configuration()
    assert daemon.c("reload_interval") == 5
    write(path, {"reload_intervall": 60})
    with pytest.raises(ConfigError, match="unknown key reload_intervall; did you mean reload_interval"):
        build()._stage_setup_configuration()


def test_relative_paths_begin_where_the_daemon_was_started(piper: Piper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(piper.directory)
    piper.put("hello")
    relative = ["--queue-in-dir=./in", "--queue-out-dir=./out", "--log-file=./rel.log", "--work-dir=/"]
    assert piper.run(functools.partial(apps.build, "upper"), *relative) == 0
    assert piper.out == [b"HELLO"]
    assert (piper.directory / "rel.log").exists()


def test_output_queue_is_made_like_the_input_queue(piper: Piper) -> None:
    piper.put("hello")
    new = piper.directory / "new"
    piper.run(functools.partial(apps.build, "upper"), f"--queue-out-dir={new}", "--queue-in-perms=0o750")
    assert piper.contents("new") == [b"HELLO"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (new, *new.iterdir())}
    assert modes == {"new": 0o755, **dict.fromkeys(PROTOCOL + ADDED, 0o700), "tmp": 0o750, "incoming": 0o750}


def test_daemon_runs_without_a_log_file(piper: Piper, capsys: pytest.CaptureFixture[str]) -> None:
    piper.put("hello")
    piper.run(functools.partial(apps.build, "upper"), "--log-file=")
    assert piper.out == [b"HELLO"]
    assert "The daemon starts" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("started_with", "options", "own", "logs"),
    [
        (0o022, [], 0o640, 0o640),
        (0o077, [], 0o600, 0o600),  # one that is stricter is kept
        (0o077, ["--umask=002"], 0o600, 0o600),
        (0o000, ["--umask=000"], 0o666, 0o640),  # logs are never for others
    ],
)
def test_files_have_the_modes_that_both_umasks_allow(
    piper: Piper, started_with: int, options: list[str], own: int, logs: int
) -> None:
    modes: dict[str, int] = {}

    class Writes(apps.Echo):
        def setup(self, daemon: PiperDaemon) -> None:
            (piper.directory / "component.own").touch()
            modes.update(found())

    def found() -> dict[str, int]:
        files = [*piper.directory.glob("*.*"), *piper.directory.glob("run-log/*")]
        return {path.suffix[1:]: stat.S_IMODE(path.stat().st_mode) for path in files}

    schedule = [("start",), ("signal_usr2",)]
    before = os.umask(started_with)
    try:
        daemon = PiperDaemon(name="writes", argv=piper.options(*options), components=[Writes()], schedule=schedule)
        assert daemon.run_until_idle() == 0
    finally:
        os.umask(before)
    wanted = {"pid": 0o600, "own": own, "log": logs, "state": logs, "json": logs}
    assert {**modes, **found()} == wanted


def test_file_template_explains_every_key_and_is_a_valid_configuration(tmp_path: Path, call: Call) -> None:
    done = call("upper", "--action=config-template", alone=True)
    assert done.returncode == 0
    for option in make(tmp_path).configuration.options.values():
        assert (f'# "{option.key}": ' in done.stdout) is not option.cli_only
    path = write(tmp_path / "all.conf", done.stdout)
    make(tmp_path, f"--config-file={path}")
    # Every default that is shown is right as it stands.
    lines = [line.strip().removeprefix("# ") for line in done.stdout.splitlines() if '# "' in line]
    write(path, "{" + ",".join(lines).replace("<", "").replace(">", "") + "}")
    make(tmp_path, f"--config-file={path}")


def test_help_names_every_option(call: Call) -> None:
    done = call("upper", "--help", alone=True)
    assert done.returncode == 0
    for option in apps.build("upper", []).configuration.options.values():
        assert option.flag in done.stdout


@pytest.mark.parametrize("action", ["config-view", "config-check"])
def test_actions_on_the_configuration_touch_no_queue(piper: Piper, call: Call, action: str) -> None:
    new = piper.directory / "new"
    done = call("upper", f"--queue-in-dir={new}", f"--action={action}")
    assert done.returncode == 0
    assert done.stdout
    assert not os.path.exists(new)


SECRET = "xyzzy"


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        ({"password": SECRET}, ["--action=config-view"]),
        ({"password": SECRET}, ["--action=config-view", "--debug"]),
        ({"password": [SECRET]}, ["--action=config-check"]),
        ({"key": SECRET}, ["--action=config-check"]),
        ({}, [f"--password={SECRET}", "--action=config-view"]),
        ({}, [f"--key={SECRET}"]),
        ({}, ["--help"]),
        ({}, ["--action=config-template"]),
        ({"password": SECRET, "queue_in_wait": "wrong"}, []),
        ({"password": SECRET}, ["--debug", "--user=no-such-user"]),
    ],
)
def test_secret_is_shown_by_no_output(
    piper: Piper,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, object],
    arguments: list[str],
) -> None:
    monkeypatch.setattr(BaseApp, "FLAG_DEBUG", False)  # --debug switches it on for the process
    path = write(piper.directory / "secret.conf", given)
    options = (
        Option("password", str, None, "of the database", secret=True),
        Option("key", int, 17, "of the safe", secret=True),
    )
    with pytest.raises(SystemExit):
        PiperDaemon(
            name="it", argv=[f"--config-file={path}", *arguments], components=[apps.Echo()], options=options,
            schedule=(), default_password=f"{SECRET} too",
        ).run()  # fmt: skip
    shown = "".join(capfd.readouterr())
    assert shown
    assert SECRET not in shown


def test_secret_is_in_no_file_that_a_daemon_writes(piper: Piper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BaseApp, "FLAG_DEBUG", False)
    path = write(piper.directory / "secret.conf", {"password": SECRET})
    schedule = [("start",), ("signal_hup",), ("signal_usr1",), ("signal_usr2",)]
    option = Option("password", str, None, "of the database", secret=True)
    piper.run(
        lambda argv: PiperDaemon(name="it", argv=argv, components=[apps.Echo()], options=(option,), schedule=schedule),
        f"--config-file={path}",
        "--log-level=debug",
        "--debug",
    )
    written = [found for found in piper.directory.rglob("*") if found.is_file() and found != path]
    assert {"daemon.log", "daemon.state"} <= {found.name for found in written}
    assert any(found.parent.name == "run-log" for found in written)
    for found in written:
        assert SECRET not in found.read_text(), found
