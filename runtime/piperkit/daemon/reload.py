"""What SIGHUP does: the configuration is read again, whole or not at all, and everybody is told of it.

A wrong one is refused, and the old one stays: also one that is gone, or empty, where there was one. What a running
daemon cannot change keeps its value until a restart.
"""

from __future__ import annotations

import logging
from typing import Any, Protocol

from piperkit.daemon.configuration import Configuration
from piperkit.daemon.events import EventQueue
from piperkit.daemon.loop import EventLoop
from piperkit.daemon.notify import ServiceManager
from piperkit.errors import ConfigError
from piperkit.filer import FilerDaemonComponent

#: The components' event, and the one after it.
RELOAD, RELOADED = "reload", "reloaded"


class Reloadable(Protocol):
    """What of a daemon is concerned."""

    CORE: str
    config: dict[str, Any]
    configuration: Configuration
    logger: logging.Logger
    manager: ServiceManager
    filer: FilerDaemonComponent
    loop: EventLoop
    queue: EventQueue

    def read_configuration(self) -> None:
        """Read it from its sources into `config`. Raises ConfigError."""
        ...

    def expect_signs(self) -> None:
        """Tell the service manager how often signs of life come."""
        ...


def reload(daemon: Reloadable) -> None:
    """Read the configuration again, and take it over. The components' event `reload` follows, if it was right."""
    daemon.manager.reloading()
    daemon.queue.schedule_next(RELOADED)
    if _read(daemon):
        daemon.logger.setLevel(daemon.config["log_level"].upper())
        daemon.filer.configure()
        daemon.loop.restart()
        daemon.expect_signs()
        daemon.queue.schedule_next(RELOAD)  # before the other


def _read(daemon: Reloadable) -> bool:
    configuration, logger = daemon.configuration, daemon.logger
    old, origins, found = daemon.config, configuration.origins, dict(configuration.found)
    try:
        daemon.read_configuration()
    except ConfigError as error:
        daemon.config, configuration.origins, configuration.found = old, origins, found
        text = "The new configuration is refused, and the old one stays: %s"
        logger.error(text, error, extra={"always": True})
        return False
    core, new = daemon.CORE, daemon.config
    changed, kept = configuration.keep_fixed(old, new, core)
    limits = {key: new[key] for key in ("queue_out_limit", "queue_out_wait")}
    new[core]["filequeue"] = {**old[core]["filequeue"], **limits}
    logger.info("The configuration was read again; changed: %s", ", ".join(changed) or "nothing")
    if kept:
        logger.warning("Changes that need a restart: %s", ", ".join(kept), extra={"always": True})
    return True
