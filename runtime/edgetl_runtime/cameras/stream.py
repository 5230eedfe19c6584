"""A network camera: RTSP or HTTP through OpenCV's FFmpeg, with time-outs that hold."""

from __future__ import annotations

import os
import threading
from typing import Any

from edgetl_runtime.cameras._ffmpeg_options import GATE, VARIABLE
from edgetl_runtime.cameras._opencv import quiet_cv2
from edgetl_runtime.cameras._reader import Opened, Reader, ReaderCamera
from edgetl_runtime.cameras._url import SCHEMES, public_url, scheme_of
from edgetl_runtime.errors import CameraError

OPEN_S = 5.0
READ_S = 5.0
# FFmpeg otherwise reads 20 frames to learn the rate, and hands all of them out afterwards as if they were new. Measured
# at 10 frames/s: 2.1 s to open and first frames 2.0 s old, with fpsprobesize 0.1 s. What it still reads ahead is passed
# over, see CatchUp. fflags nobuffer is not used: it throws away the key frame that was read ahead, so that pictures are
# missing, or with MPEG-4 made up, until the next one.
OPTIONS = "rtsp_transport;tcp|allowed_media_types;video|fpsprobesize;0"
# Each further thread of the decoder holds a frame back. MPEG-4 at 25 frames/s: 1 thread 0.1 ms, 4 121 ms, 8 283 ms.
_DECODER_THREADS = 1
_REMEDY = "check address, login, power and network, and that it plays elsewhere"
_OVER_UDP = f"; RTSP goes over TCP, and over UDP with {VARIABLE}='rtsp_transport;udp'"
_MAX_FPS = 240.0
_ASSUMED_FPS = 30.0


class StreamCamera(ReaderCamera):
    """The newest frame of rtsp://, rtsps://, http:// or https://, read without pause by a thread of its own.

    t_capture_ns is taken when FFmpeg hands a frame over, before its colours are converted. Pictures of H.264 and H.265
    it holds back until the next one begins: their stamp is of when the one before was handed over, which is when they
    came. The exposure was earlier by the camera's encoder, the network and the decoder, which can't be known here;
    `notes` says so. One thread decodes, however many cores there are, where OpenCV can be told (from 4.7 on). RTSP goes
    over TCP unless the environment says otherwise. camera_id is the address without its login.

    open_s, read_s: after these, and half a second more, CameraError is raised, whether OpenCV comes back or not.
    stop: set it from another thread to give up opening.
    """

    def __init__(
        self, url: str, *, open_s: float = OPEN_S, read_s: float = READ_S, stop: threading.Event | None = None
    ) -> None:
        if scheme_of(url) not in SCHEMES:
            raise CameraError(f"a network camera's address begins with one of {', '.join(s + '://' for s in SCHEMES)}")
        self.camera_id = public_url(url)
        cv2 = quiet_cv2()
        if not cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
            raise CameraError(
                "this OpenCV was built without FFmpeg, which network cameras need",
                remedy="give a gst: pipeline, or install opencv-python where GStreamer isn't needed",
            )
        self.notes: list[str] = []
        parameters = self._parameters(cv2, open_s, read_s)
        with GATE.using(OPTIONS) as ours:
            self._reader = Reader(
                self.camera_id,
                lambda: cv2.VideoCapture(url, cv2.CAP_FFMPEG, parameters),
                open_s=open_s,
                read_s=read_s,
                remedy=_REMEDY + (_OVER_UDP if scheme_of(url).startswith("rtsp") else ""),
                catch_up=True,
            )
            opened = self._reader.wait_open(stop)
        if opened.frame_count > 0:
            self._reader.close()
            raise CameraError(
                f"{self.camera_id} is a file of {opened.frame_count} frames, not a live stream",
                remedy="download it and give its path",
            )
        self._size_hw = opened.size_hw
        self.fps = opened.fps
        self._note(ours, opened)

    def _parameters(self, cv2: Any, open_s: float, read_s: float) -> list[int]:
        """What OpenCV takes at open; older ones refuse to open at all with a key that they don't know."""
        wanted = {
            "CAP_PROP_OPEN_TIMEOUT_MSEC": int(open_s * 1e3),
            "CAP_PROP_READ_TIMEOUT_MSEC": int(read_s * 1e3),
            "CAP_PROP_N_THREADS": _DECODER_THREADS,
        }
        known = {name: value for name, value in wanted.items() if hasattr(cv2, name)}
        if missing := sorted(wanted.keys() - known.keys()):
            self.notes.append(f"{self.camera_id}: OpenCV {cv2.__version__} does not know {', '.join(missing)}")
        if "CAP_PROP_N_THREADS" in missing:
            self.notes.append(
                f"{self.camera_id}: it decodes with a thread for each core, and pictures may be that many frames, less "
                "one, older than their stamps"
            )
        return [number for name, value in known.items() for number in (getattr(cv2, name), value)]

    def _note(self, ours: bool, opened: Opened) -> None:
        self.notes += [
            f"{self.camera_id}: exposure times are unknown, frames are stamped when they were decoded",
            f"{self.camera_id}: FFmpeg patches damaged pictures, which are not counted",
        ]
        if opened.held_back:
            self.notes.append(
                f"{self.camera_id}: FFmpeg holds each {opened.codec} picture back until the next begins; "
                "it is stamped when it came"
            )
        if not 0 < self.fps <= _MAX_FPS:
            self.notes.append(f"{self.camera_id} states no usable rate, {_ASSUMED_FPS:g} frames/s assumed")
            self.fps = _ASSUMED_FPS
        if not ours:
            self.notes.append(f"{self.camera_id}: {VARIABLE} of the environment decides transport and buffering")
        if self.camera_id.startswith(("rtsps:", "https:")) and "tls_verify" not in os.environ.get(VARIABLE, ""):
            self.notes.append(f"{self.camera_id}: encrypted, but the camera's certificate is not checked")
