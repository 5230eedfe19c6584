"""A live page, JSON, metrics and probes of a running loop or rig, over HTTP; a sink that never slows the loop."""

from edgetl_runtime.web.live import LivePage
from edgetl_runtime.web.rounds import WebRounds
from edgetl_runtime.web.sink import WebSink

__all__ = ["LivePage", "WebRounds", "WebSink"]
