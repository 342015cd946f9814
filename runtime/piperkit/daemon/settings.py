"""A daemon's configuration: from the descriptions of its keys to checked values, and again while it runs.

Sources, the last wins: the default, the files of the configuration directory, the configuration file, the command
line. A file or directory at its default place need not be there; one that is named must be, unless that is silenced.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from piperkit.config import Parser, check_all, load_directory, load_file
from piperkit.daemon import process
from piperkit.daemon.options import OPTIONS
from piperkit.daemon.paths import application_paths, checkout
from piperkit.dirq import is_queue
from piperkit.dirq.layout import ADDED, PROTOCOL
from piperkit.errors import ConfigError
from piperkit.filer import FilerDaemonComponent
from piperkit.option import Option, combine, declared
from piperkit.zenkit import BaseApp, ZenDaemon

#: The names of a queue's parts, which are no queues themselves.
PARTS = PROTOCOL + ADDED
_PATHS = ("log_file", "pid_file", "state_file", "metrics_file", "runlog_dir", "work_dir", "chroot_dir")


class Settings(ZenDaemon):
    """The part of `PiperDaemon` that knows its configuration."""

    CORE_FILEQUEUE = "filequeue"
    CORE_IDENTITY = "identity"
    CONFIG_QUEUE_IN_DIR = "queue_in_dir"
    CONFIG_QUEUE_IN_PERMS = "queue_in_perms"
    CONFIG_QUEUE_IN_WAIT = "queue_in_wait"
    CONFIG_QUEUE_OUT_DIR = "queue_out_dir"
    CONFIG_QUEUE_OUT_LIMIT = "queue_out_limit"
    CONFIG_QUEUE_OUT_WAIT = "queue_out_wait"

    config: dict[str, Any]
    retc: int

    def __init__(self, **kwargs: Any) -> None:
        self._argv: list[str] | None = kwargs.pop("argv", None)
        self._start_dir = os.getcwd()
        anchor = kwargs.pop("anchor", None)
        #: The version of the template that the program was made by; None where it was written by hand.
        self.template: str | None = kwargs.pop("template", None)
        self.checkout = anchor and checkout(anchor)
        if anchor is not None:
            kwargs = {**application_paths(anchor, kwargs.get("name") or ""), **kwargs}
        components = list(kwargs.get(self.CONFIG_COMPONENTS, ()))
        if not any(isinstance(component, FilerDaemonComponent) for component in components):
            components.insert(0, FilerDaemonComponent())
        kwargs[self.CONFIG_COMPONENTS] = components
        self.filer = next(found for found in components if isinstance(found, FilerDaemonComponent))
        self.options = _collect(components, kwargs.pop("options", ()), self._utils_detect_actions())
        #: Where each value that is not a default comes from: a file, or the command line.
        self.origins: dict[str, str] = {}
        self._kwargs = kwargs
        super().__init__(**kwargs)

    # -- what pyzenkit's constructor calls, in this order ----------------------------------------------------

    def _init_argparser(self, **kwargs: Any) -> Parser:
        name = kwargs.get("name") or os.path.basename(sys.argv[0])
        parser = Parser(prog=name, description=self.description)
        parser.add_options(self.own_defaults(), self._places(name))
        for plugin in self._plugins:
            parser = plugin.init_argparser(self, parser, **kwargs)
        return parser

    def _parse_cli_arguments(self, argparser: Parser) -> dict[str, Any]:
        found = argparser.parse_all(self._argv)
        if found.get(self.CONFIG_DEBUG):
            BaseApp.FLAG_DEBUG = True
        return found

    def _init_name(self, **kwargs: Any) -> str:
        name: str = self._config_cli.get("name") or kwargs.get("name") or os.path.basename(sys.argv[0])
        if not re.fullmatch(self.PTRN_APP_NAME, name):
            self.argparser.error(
                f"{name!r} cannot be a daemon's name: it must begin with a letter, and hold letters, digits, '.-_'"
            )
        return name

    def _init_config(self, cfgs: Iterable[tuple[str, Any]], **kwargs: Any) -> dict[str, Any]:
        places = self._places(self.name)
        ours = tuple((option.key, option.fill(places)) for option in self.options.values() if option.key != "name")
        config: dict[str, Any] = super()._init_config(ours + tuple(cfgs), **kwargs)
        for key in config:
            default = kwargs.get(f"default_{key}")
            if default is not None and key in self.options and not self.options[key].cli_only:
                config[key] = self.options[key].check(default, f"default_{key}")
        return config

    def shown(self, key: str) -> str:
        """A value as it may be shown to anybody, in the form of a configuration file."""
        value = self.config[key]
        if key in (self.CONFIG_USER, self.CONFIG_GROUP) and value is not None:
            value = value[0]
        return self.options[key].shown(value) if key in self.options else json.dumps(value, default=str)

    def own_defaults(self) -> list[Option]:
        """All options, with the defaults that the application has changed."""
        return [
            option if default is None else dataclasses.replace(option, default=default)
            for option in self.options.values()
            for default in (self._kwargs.get(f"default_{option.key}"),)
        ]

    def _places(self, name: str) -> dict[str, str]:
        return {"name": name, **self.paths}

    # -- reading it ------------------------------------------------------------------------------------------

    def _configure_from_file(self) -> None:
        self._config_file = self._load(self.CONFIG_CFG_FILE, self.CONFIG_CFG_FILE_S, "file", _load_one)

    def _configure_from_dir(self) -> None:
        self._config_dir = self._load(self.CONFIG_CFG_DIR, self.CONFIG_CFG_DIR_S, "directory", load_directory)

    def _load(
        self, key: str, silent: str, what: str, load: Callable[[str], list[tuple[str, dict[str, Any]]]]
    ) -> list[tuple[str, dict[str, Any]]]:
        path = os.path.join(self._start_dir, self.c(key))
        try:
            return load(path)
        except (FileNotFoundError, NotADirectoryError):
            if self._config_cli.get(key) is None or self.c(silent):
                return []
            raise ConfigError(
                f"the configuration {what} {path} does not exist; correct --{key.replace('_', '-')}"
            ) from None
        except OSError as error:
            raise ConfigError(f"the configuration {what} {path} cannot be read: {error.strerror}") from error

    def _configure_merge(self) -> None:
        known = {*self.config, *self._config_cli} - {self.CORE}
        self.origins = {}
        for where, found in [*(self._config_dir or ()), *(self._config_file or ())]:
            for key, value in check_all(found, where, self.options, known).items():
                self.config[key] = value
                self.origins[key] = where
        for key, value in self._config_cli.items():
            if value is not None:
                self.config[key] = value
                self.origins[key] = "command line"

    def _configure_postprocess(self) -> None:
        """Compute what follows from the values. Raises ConfigError."""
        if self.c(self.CONFIG_USER) is not None:
            self.config[self.CONFIG_USER] = process.find_user(self.c(self.CONFIG_USER)).pw_name
        if self.c(self.CONFIG_GROUP) is not None:
            self.config[self.CONFIG_GROUP] = process.find_group(self.c(self.CONFIG_GROUP)).gr_name
        identity = process.Identity.of(self.c(self.CONFIG_USER), self.c(self.CONFIG_GROUP))
        super()._configure_postprocess()
        self.config[self.CORE][self.CORE_IDENTITY] = identity
        for key in _PATHS:
            if self.c(key):
                self.config[key] = os.path.join(self._start_dir, self.c(key))
        if self.c("retry_max") < self.c("retry_min"):
            raise ConfigError(f"retry_max is {self.c('retry_max'):g}; it must not be less than retry_min")
        self._check_metrics()
        self.config[self.CORE][self.CORE_FILEQUEUE] = self._queue_settings()

    def _check_metrics(self) -> None:
        if not (self.c("metrics_address") or self.c("metrics_file")):
            return
        try:
            # The extra, if it is wanted; and now, since after a chroot it may be out of reach.
            from piperkit.daemon.exposition import SUFFIX, Address
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"metrics_address, metrics_file: there is no module {error.name}; pip install 'piperkit[metrics]'"
            ) from None
        if self.c("metrics_address"):
            Address.parse(self.c("metrics_address"))
        if self.c("metrics_file") and not self.c("metrics_file").endswith(SUFFIX):
            raise ConfigError(f"metrics_file is {self.c('metrics_file')}; its name must end in {SUFFIX}")

    def _queue_settings(self) -> dict[str, Any]:
        if not self.c(self.CONFIG_QUEUE_IN_DIR):
            raise ConfigError('queue_in_dir is ""; it must be a path, or a bare name for a queue under var/spool')
        queue_in = self.queue_path(self.c(self.CONFIG_QUEUE_IN_DIR))
        queue_out = self.c(self.CONFIG_QUEUE_OUT_DIR) and self.queue_path(self.c(self.CONFIG_QUEUE_OUT_DIR))
        if queue_out and os.path.realpath(queue_in) == os.path.realpath(queue_out):
            raise ConfigError(f"queue_out_dir is {queue_out}, which is the input queue; it must be another queue")
        for key, path in ((self.CONFIG_QUEUE_IN_DIR, queue_in), (self.CONFIG_QUEUE_OUT_DIR, queue_out)):
            if path and os.path.basename(path) in PARTS and is_queue(os.path.dirname(path)):
                raise ConfigError(f"{key} is {path}, which is a part of a queue; it must be a queue")
        return {
            "dir_queue": queue_in,
            "dir_next_queue": queue_out or None,
            "queue_perms": self.c(self.CONFIG_QUEUE_IN_PERMS),
            self.CONFIG_QUEUE_OUT_LIMIT: self.c(self.CONFIG_QUEUE_OUT_LIMIT),
            self.CONFIG_QUEUE_OUT_WAIT: self.c(self.CONFIG_QUEUE_OUT_WAIT),
            self.CONFIG_USER: self.c(self.CONFIG_USER),
            self.CONFIG_GROUP: self.c(self.CONFIG_GROUP),
        }

    def queue_path(self, queue: str) -> str:
        """The directory of a queue: a bare name is one under var/spool, and a path to its `incoming` means the queue.

        A relative path begins where the daemon was started. Raises ConfigError where nothing is named.
        """
        if not queue:
            raise ConfigError("a queue has no name; it must be a path, or a bare name for one under var/spool")
        if os.path.basename(queue) == queue and queue not in (".", ".."):
            return os.path.join(self.paths[self.PATH_VAR], "spool", queue)
        path = os.path.normpath(os.path.join(self._start_dir, queue))
        return os.path.dirname(path) if os.path.basename(path) == "incoming" else path

    # -- reading it again ------------------------------------------------------------------------------------

    def _reload(self) -> bool:
        """Build the configuration anew from its sources and swap it in whole; returns whether that was done.

        A wrong one is refused, and the old one stays. What a running daemon cannot change keeps its value.
        """
        old, origins = self.config, self.origins
        try:
            self.config = self._init_config((), **self._kwargs)
            self._stage_setup_configuration()
        except ConfigError as error:
            self.config, self.origins = old, origins
            text = "The new configuration is refused, and the old one stays: %s"
            self.logger.error(text, error, extra={"always": True})
            return False
        changed, kept = [], []
        for key in sorted(self.config.keys() - {self.CORE}):
            if self.config[key] != old.get(key):
                if key in self.options and self.options[key].fixed:
                    self.config[key] = old.get(key)
                    kept.append(key)
                else:
                    changed.append(key)
        self.config[self.CORE][self.CORE_FILEQUEUE] = {
            **old[self.CORE][self.CORE_FILEQUEUE],
            self.CONFIG_QUEUE_OUT_LIMIT: self.c(self.CONFIG_QUEUE_OUT_LIMIT),
            self.CONFIG_QUEUE_OUT_WAIT: self.c(self.CONFIG_QUEUE_OUT_WAIT),
        }
        self.logger.info("The configuration was read again; changed: %s", ", ".join(changed) or "nothing")
        if kept:
            self.logger.warning("Changes that need a restart: %s", ", ".join(kept), extra={"always": True})
        return True


def _load_one(path: str) -> list[tuple[str, dict[str, Any]]]:
    return [(path, load_file(path))]


def _collect(components: Iterable[Any], own: Iterable[Option], actions: list[str]) -> dict[str, Option]:
    """All options by key. Raises ConfigError where two declare the same key."""
    options = {option.key: option for option in OPTIONS}
    options["action"] = dataclasses.replace(options["action"], choices=tuple(actions))
    components_own = ((type(component).__name__, declared(component)) for component in components)
    return combine(options, [("the application", own), *components_own])
