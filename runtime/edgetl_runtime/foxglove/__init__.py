"""A running loop live in Foxglove, by its own SDK's WebSocket server, with the topics that a recording has.

sink: what the loop feeds. pictures: JPEG. topics: the channels. edgetl.layout.json: panels for them and for recordings.
"""

from edgetl_runtime.foxglove.sink import LAYOUT, FoxgloveSink

__all__ = ["LAYOUT", "FoxgloveSink"]
