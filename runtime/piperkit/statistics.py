"""Statistics of components in the log: for each counter its total, increase, and rate per second."""

from __future__ import annotations

import logging

from piperkit.zenkit import ZenDaemonComponent


def log_statistics(logger: logging.Logger, component: ZenDaemonComponent, title: str) -> None:
    """Log what a component has counted with `inc_statistic`, if it has; the next time shows the increase since."""
    text = ""
    for key, found in sorted(component.get_statistics().items()):
        text = component.pattern_stats.format(text, key, found["cnt"], found["inc"], found["spd"])
    if text:
        logger.info("Component '%s': *** Processing statistics ***%s", title, text)
