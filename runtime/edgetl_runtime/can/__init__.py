"""Objects and the state of a running loop on a CAN bus, in classic frames of 8 bytes that edgetl.dbc describes.

dbc: the signals. e2e: counter and check sum. objects: which boxes, in which order. together: what several cameras see,
each once. cycle: the frames of one cycle. link: a bus that may fail. sink: sends cycles while the loop runs; rounds: of
several cameras and bundles. receiver: what stands at the other end.
"""

from edgetl_runtime.can.receiver import CanReceiver
from edgetl_runtime.can.sink import CanSink

__all__ = ["CanReceiver", "CanSink"]
