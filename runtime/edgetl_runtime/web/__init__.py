"""A live page, JSON, metrics and probes of a running loop or rig, over HTTP; a sink that never slows the loop."""

from edgetl_runtime.web.sink import WebSink

__all__ = ["WebSink"]
