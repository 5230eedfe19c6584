"""Running loops live in Foxglove, by its own SDK's WebSocket server, with the topics that a recording has.

sink: what the loop feeds; rounds: what a rig feeds. lane: the messages of one bundle's results for one camera.
pictures: JPEG. server: the connection. topics: the channels. layout: panels for them and for recordings.
"""

from edgetl_runtime.foxglove.layout import LAYOUT, rig_layout
from edgetl_runtime.foxglove.rounds import FoxgloveRounds
from edgetl_runtime.foxglove.sink import FoxgloveSink

__all__ = ["LAYOUT", "FoxgloveRounds", "FoxgloveSink", "rig_layout"]
