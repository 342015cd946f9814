"""A daemon's configuration: from the descriptions of its keys to checked values, and what follows from them.

Sources, the last wins: the default, the files of the configuration directory, the configuration file, the command
line. A file or directory at its default place need not be there; one that is named must be, unless that is silenced.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from piperkit.config import Option, Parser, check_all, load_directory, load_file, nearest
from piperkit.daemon import process
from piperkit.daemon.options import OPTIONS
from piperkit.dirq import is_queue
from piperkit.dirq.layout import ADDED, PROTOCOL
from piperkit.engines import Address, is_address, require
from piperkit.errors import ConfigError
from piperkit.option import combine, declared

#: The names of a queue's parts, which are not queues themselves.
PARTS = PROTOCOL + ADDED
#: `queue_in_batch` of a queue in a database.
DATABASE_BATCH = 256
_PATHS = (
    "log_file",
    "queue_password_file",
    "pid_file",
    "state_file",
    "metrics_file",
    "runlog_dir",
    "work_dir",
    "chroot_dir",
)
#: The values of one source, and its name.
Source = tuple[str, dict[str, Any]]


class Configuration:
    """The keys that a daemon has, where their values come from, and the rules for them.

    options: all keys. argv: the command line; None: the process's own. defaults: what the application has instead of
    the keys' own defaults. start_dir: where relative paths begin; by default, where this is made. Raises ConfigError.
    """

    def __init__(
        self,
        options: Mapping[str, Option],
        argv: Sequence[str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        start_dir: str | None = None,
    ) -> None:
        self._argv = None if argv is None else list(argv)
        self._start_dir = start_dir or os.getcwd()
        for key in defaults or ():
            if key not in options or options[key].cli_only:
                raise TypeError(f"PiperDaemon has no keyword default_{key}{nearest(key, options)}")
        self.options = {
            key: dataclasses.replace(option, default=option.check(defaults[key], f"default_{key}"))
            if defaults and defaults.get(key) is not None
            else option
            for key, option in options.items()
        }
        self._database: Address | None = None  #: the input queue's
        self._under: str | None = None  #: where everything is whose place is not given
        #: Where each value that is not a default comes from: a file, or the command line.
        self.origins: dict[str, str] = {}
        #: The places of configuration files, and whether something stood there when they were last read.
        self.found: dict[str, bool] = {}

    # -- reading it ------------------------------------------------------------------------------------------

    def parser(self, name: str, description: str, places: Mapping[str, str]) -> Parser:
        """The command line's."""
        parser = Parser(prog=name, description=description)
        parser.add_options(self.options.values(), {"name": name, **places})
        return parser

    def parse(self, parser: Parser) -> dict[str, Any]:
        """The values on the command line; None for an option that is not given. Ends the process where one is wrong."""
        return parser.parse_all(self._argv)

    def initial(self, name: str, places: Mapping[str, str]) -> dict[str, Any]:
        """The value of every key by default."""
        filled = {"name": name, **places}
        values = {key: option.fill(filled) for key, option in self.options.items() if key != "name"}
        if self._under:
            for key, value in values.items():
                if self.options[key].type == "path" and value and os.path.isabs(value):
                    values[key] = _moved(value, self._under)
        return values

    def put_under(self, directory: str, places: Mapping[str, str]) -> dict[str, str]:
        """Have everything whose place is not given under this directory; returns the daemon's paths there."""
        self._under = os.path.join(self._start_dir, directory)
        names = {"cfg": "etc", "var": "var", "log": "var/log", "run": "var/run", "tmp": "var/tmp"}
        return {**places, **{path: os.path.join(self._under, name) for path, name in names.items()}}

    def load(self, what: str, path: str, *, named: bool) -> list[Source]:
        """Read the configuration `what`, file or directory, at `path`.

        named: it must be there. Raises ConfigError, also where something was there when it was last read.
        """
        path = os.path.join(self._start_dir, path)
        read: Callable[[str], list[Source]] = load_directory if what == "directory" else _load_one
        sources: list[Source] = []
        try:
            sources = read(path)
        except (FileNotFoundError, NotADirectoryError):
            if named:
                option = "--config-dir" if what == "directory" else "--config-file"
                raise ConfigError(f"the configuration {what} {path} does not exist; correct {option}") from None
            if self.found.get(path):
                raise ConfigError(f"the configuration {what} {path} is gone; an empty one is {{}}") from None
        except OSError as error:
            raise ConfigError(f"the configuration {what} {path} cannot be read: {error.strerror}") from error
        there = any(values for _, values in sources)
        if not there and self.found.get(path) and all(os.path.getsize(file) == 0 for file, _ in sources):
            raise ConfigError(f"the configuration {what} {path} is empty now; for no settings write {{}}")
        self.found[path] = bool(sources)
        return sources

    def merge(self, config: dict[str, Any], sources: Iterable[Source], cli: Mapping[str, Any], core: str) -> None:
        """Put the values of all sources into `config`. Raises ConfigError."""
        known = {*config, *cli} - {core}
        self.origins = {}
        for where, found in sources:
            for key, value in check_all(found, where, self.options, known).items():
                config[key] = value
                self.origins[key] = where
        for key, value in cli.items():
            if value is not None:
                config[key] = value
                self.origins[key] = "command line"

    # -- what follows from it --------------------------------------------------------------------------------

    def accounts(self, config: dict[str, Any]) -> process.Identity | None:
        """Who to be; the names of the accounts replace their numbers. Raises ConfigError."""
        if config["user"] is not None:
            config["user"] = process.find_user(config["user"]).pw_name
        if config["group"] is not None:
            config["group"] = process.find_group(config["group"]).gr_name
        return process.Identity.of(config["user"], config["group"])

    def complete(self, config: dict[str, Any], spool: str) -> dict[str, Any]:
        """Make paths absolute, check what keys have to do with one another, and return the queues' settings.

        spool: the directory of queues that are called by a bare name. Raises ConfigError.
        """
        for key in (*_PATHS, "queue_password_file"):
            if config[key]:
                config[key] = os.path.join(self._start_dir, config[key])
        if config["retry_max"] < config["retry_min"]:
            raise ConfigError(f"retry_max is {config['retry_max']:g}; it must not be less than retry_min")
        _check_metrics(config["metrics_address"], config["metrics_file"])
        _check_traces(config["traces_endpoint"])
        if not config["queue_in_dir"]:
            raise ConfigError('queue_in_dir is ""; it must be a path, or a bare name for a queue under var/spool')
        self._database = None
        queue_in = self.queue_path(config["queue_in_dir"], spool)
        if is_address(queue_in):
            require()
            self._database = Address.parse(queue_in)
            if "queue_in_batch" not in self.origins:
                config["queue_in_batch"] = DATABASE_BATCH
        queue_out = config["queue_out_dir"] and self.queue_path(config["queue_out_dir"], spool)
        if queue_out and is_address(queue_out):
            require()
        if queue_out and os.path.realpath(queue_in) == os.path.realpath(queue_out):
            raise ConfigError(f"queue_out_dir is {queue_out}, which is the input queue; it must be another queue")
        for key, path in (("queue_in_dir", queue_in), ("queue_out_dir", queue_out)):
            if path and os.path.basename(path) in PARTS and is_queue(os.path.dirname(path)):
                raise ConfigError(f"{key} is {path}, which is a part of a queue; it must be a queue")
        copied = ("queue_out_limit", "queue_out_wait", "user", "group")
        return {
            "dir_queue": queue_in,
            "dir_next_queue": queue_out or None,
            "queue_perms": config["queue_in_perms"],
            **{key: config[key] for key in copied},
        }

    def queue_path(self, queue: str, spool: str) -> str:
        """The directory of a queue, or its address: a bare name is one beside an input queue that is in a database, or
        else in `spool`, and a path to its `incoming` means the queue.

        A relative path begins where the daemon was started. Raises ConfigError where nothing is named, TypeError for
        what is not a text.
        """
        if not isinstance(queue, str):
            raise TypeError(f"a queue is named by a text, not by {queue!r:.80}")
        if not queue or "\0" in queue:
            raise ConfigError(
                f"{queue!r} is not the name of a queue; it must be a path, or a bare name for one under var/spool"
            )
        if is_address(queue):
            return str(Address.parse(queue))
        if os.path.basename(queue) == queue and queue not in (".", ".."):
            if self._database is not None:
                return str(self._database.of(queue))
            return os.path.join(spool, queue)
        path = os.path.normpath(os.path.join(self._start_dir, queue))
        return os.path.dirname(path) if os.path.basename(path) == "incoming" else path

    def missing(self) -> list[str]:
        """The places where nothing was found when they were last read."""
        return [path for path, there in self.found.items() if not there]

    def shown(self, key: str, config: Mapping[str, Any]) -> str:
        """A value as it may be shown to anybody, in the form of a configuration file."""
        value = config[key]
        if key in ("user", "group") and value is not None:
            value = value[0]
        return self.options[key].shown(value) if key in self.options else json.dumps(value, default=str)

    def keep_fixed(self, old: Mapping[str, Any], new: dict[str, Any], core: str) -> tuple[list[str], list[str]]:
        """After reading it again: the keys that have changed, and those that a running daemon cannot change, which get
        back their old values in `new`.
        """
        changed, kept = [], []
        for key in sorted(new.keys() - {core}):
            if new[key] != old.get(key):
                if key in self.options and self.options[key].fixed:
                    new[key] = old.get(key)
                    kept.append(key)
                else:
                    changed.append(key)
        return changed, kept


def collect(components: Iterable[Any], own: Iterable[Option], actions: Sequence[str]) -> dict[str, Option]:
    """All options by key. Raises ConfigError where two declare the same key."""
    options = {option.key: option for option in OPTIONS}
    options["action"] = dataclasses.replace(options["action"], choices=tuple(actions))
    return combine(options, [("the application", own), *((type(each).__name__, declared(each)) for each in components)])


def _check_metrics(address: str | None, file: str | None) -> None:
    if not (address or file):
        return
    try:
        # The extra, if it is wanted; and now, since after a chroot it may be out of reach.
        import piperkit.daemon.metrics  # noqa: F401
        from piperkit.daemon.exposition import SUFFIX, Address
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"metrics_address, metrics_file: there is no module {error.name}; pip install 'piperkit[metrics]'"
        ) from None
    if address:
        Address.parse(address)
    if file and not file.endswith(SUFFIX):
        raise ConfigError(f"metrics_file is {file}; its name must end in {SUFFIX}")


def _check_traces(endpoint: str | None) -> None:
    if not endpoint:
        return
    if not endpoint.startswith(("http://", "https://")):
        raise ConfigError(f"traces_endpoint is {endpoint}; it must be such as http://localhost:4318/v1/traces")
    try:
        import piperkit.daemon.tracing  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(f"traces_endpoint: there is no module {error.name}; pip install 'piperkit[otel]'") from None


def _moved(path: str, under: str) -> str:
    """The same path under a directory, unless it is there already."""
    return path if path.startswith(f"{under}/") else os.path.join(under, path.lstrip("/"))


def _load_one(path: str) -> list[Source]:
    return [(path, load_file(path))]
