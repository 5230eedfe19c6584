"""Telling a service manager how a run does, where one waits for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextlib import ExitStack

    from edgetl_runtime.service.notify import NotifySink


def open_notify(stack: ExitStack) -> list[NotifySink]:
    """The sink that tells it; none without NOTIFY_SOCKET. Raises InputError."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return []
    from edgetl_runtime.service.notify import NotifySink, notifier_of

    notifier = notifier_of(os.environ)
    if notifier is None:
        return []
    sink = NotifySink(notifier)
    stack.callback(sink.close)
    return [sink]
