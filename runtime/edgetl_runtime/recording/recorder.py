"""The recorder: takes results from the loop, which need not wait, and writes them in a thread of its own."""

from __future__ import annotations

import errno
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from edgetl_runtime.errors import InputError
from edgetl_runtime.recording.counts import Counts
from edgetl_runtime.recording.format import RecordingStatus
from edgetl_runtime.recording.part import PartFile
from edgetl_runtime.recording.writer import RecordingWriter
from edgetl_runtime.rig.round import RigEvent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgetl_runtime.recording.counts import Lane
    from edgetl_runtime.recording.format import RecordingHeader
    from edgetl_runtime.recording.part import Output
    from edgetl_runtime.rig.round import Round
    from edgetl_runtime.snapshot import Snapshot

MAX_QUEUED_BYTES = 48 * 1024 * 1024
"""Of frames that wait for the disk: 2.3 s of 640x360 at 30/s, 0.6 s of 1280x720."""
MAX_QUEUED = 1024
"""Results and events that wait, with or without their frames; of a rig the results of all lanes together."""
FLUSH_S = 0.9
"""Chunks are closed this often, so that a process that is killed loses less than a second."""
CLOSE_TIMEOUT_S = 30.0
_PATIENCE_S = 0.002
_POLL_S = 0.01
"""The thread looks for work by itself. Were it woken by each result, it would now and then take the loop's core at the
very moment of publishing: 1.5 to 3 ms at p99 on two busy cores, against 0.02 to 0.07 ms."""


class Recorder:
    """Writes rounds with their frames and events to an MCAP file; see `edgetl_runtime.recording.format`.

    Where the disk is too slow frames are left out, a round's together, then results; where it is full, or the file
    reaches budget_bytes (0: none), recording ends and the run goes on. `notes` says so afterwards, and the file does;
    `say` is told at once, from another thread. finished: the file is complete and has its name. output: where bytes go.
    patient: for sources that lose nothing when nobody reads: `put` waits for the disk, and nothing is left out.

    Raises InputError where `path` can't be written, MissingPackage without zstandard.
    """

    stop = False

    def __init__(
        self,
        path: Path,
        header: RecordingHeader,
        *,
        budget_bytes: int = 0,
        force: bool = False,
        patient: bool = False,
        say: Callable[[str], None] = lambda text: None,
        output: Output | None = None,
    ) -> None:
        self._path, self._budget, self._patient = path, budget_bytes, patient
        self._say = say
        self.counts = Counts(header.lanes)
        self._most = max(MAX_QUEUED // len(list(header.lanes)), 1)
        self._output = output or PartFile(path, force=force)
        try:
            self._writer = RecordingWriter(self._output, header)
            self._output.sync()  # the header stays, whatever happens to what follows
        except OSError as error:
            self._output.abandon(empty=True)
            raise InputError(f"can't write {path}: {error.strerror}", remedy="record to another place") from error
        except BaseException:
            self._output.abandon(empty=True)
            raise
        self.results = self.frames = self.events = 0
        self.frames_left_out = self.results_left_out = self.events_left_out = 0
        self.stopped = ""
        self.finished = False
        # Nothing here is locked: each count has one thread that writes it, and the loop never waits for the other one.
        self._queue: SimpleQueue[tuple[Round, bool] | RigEvent | None] = SimpleQueue()
        self._put_bytes = self._taken_bytes = 0
        self._closing = self._ended = False
        self._next_flush_s = time.monotonic() + FLUSH_S
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    @property
    def part(self) -> Path:
        """The name of the file while it grows."""
        return self._output.part

    @property
    def notes(self) -> list[str]:
        """What is not as it was asked for; complete after `close`."""
        notes = []
        if self.frames_left_out or self.results_left_out or self.events_left_out:
            notes.append(
                f"{self._path.name}: the disk was too slow: {self.frames_left_out} frames, {self.results_left_out} "
                f"results and {self.events_left_out} events are not in the recording"
            )
        if self.stopped:
            notes.append(self._stop_line())
        return notes

    def as_json(self) -> dict[str, object]:
        """Plain values for a run's document; complete after `close`."""
        return {
            "path": str(self._path if self.finished else self.part),
            "finished": self.finished,
            "results": self.results,
            "frames": self.frames,
            "events": self.events,
            "frames_left_out": self.frames_left_out,
            "results_left_out": self.results_left_out,
            "events_left_out": self.events_left_out,
            "stopped": self.stopped,
        }

    def put(self, made: Round) -> None:
        """Queue a round with its frames; without the frames, or not at all, where too much is waiting."""
        self.counts.add(made)
        nbytes = _frame_bytes(made)
        while self._patient and not self._ended and not (self._takes_entries() and self._has_room(nbytes)):
            time.sleep(_PATIENCE_S)
        if self._ended or self._closing:
            return
        frames = sum(bool(results) for results in made.results.values())
        if not self._takes_entries():
            self.results_left_out += sum(len(results) for results in made.results.values())
            self.frames_left_out += frames
        elif self._has_room(nbytes):
            self._put_bytes += nbytes
            self._queue.put((made, True))
        else:
            self.frames_left_out += frames
            self._queue.put((made, False))

    def put_event(self, event: RigEvent) -> None:
        """Queue one event, or leave it out where too much is waiting."""
        if self._ended or self._closing:
            return
        if self._takes_entries():
            self._queue.put(event)
        else:
            self.events_left_out += 1

    def _takes_entries(self) -> bool:
        return self._queue.qsize() < self._most

    def _has_room(self, nbytes: int) -> bool:
        """Whether one more round's frames may wait; the first may be of any size."""
        waiting = self._put_bytes - self._taken_bytes
        return not waiting or waiting + nbytes <= MAX_QUEUED_BYTES

    def close(self) -> None:
        """Write what is waiting, finish the file and give it its name; a disk that hangs is waited for 30 s."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive() and not self._ended:
            self._ended = True
            self.stopped = f"the disk took nothing for {CLOSE_TIMEOUT_S:g} s"

    def _work(self) -> None:
        try:
            while self._take():
                if time.monotonic() >= self._next_flush_s:
                    self._flush()
            if not self._ended:
                self._finish()
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            self._give_up("the disk is full" if full else f"the disk refuses: {error.strerror or error}")
        except Exception as error:  # whatever it is, the run is worth more than its recording
            self._give_up(f"{type(error).__name__}: {error}")

    def _take(self) -> bool:
        """Write the oldest entry, or wait a moment where there is none; False at the end."""
        try:
            entry = self._queue.get_nowait()
        except Empty:
            time.sleep(_POLL_S)
            return True
        if entry is None:
            return False
        if isinstance(entry, RigEvent):
            self._writer.add_event(entry)
            self.events += 1
            return True
        made, images = entry
        nbytes = _frame_bytes(made) if images else 0
        if not self._fits(nbytes):
            self._finish(f"the budget of {self._budget / 1e6:g} MB is used up")
            return False
        self.frames += self._writer.add_round(made, images=images)
        self._taken_bytes += nbytes
        self.results += sum(len(results) for results in made.results.values())
        return True

    def _fits(self, nbytes: int) -> bool:
        """Whether the budget has room for frames. Closes the chunk where only packing it can tell."""
        if not self._budget or self._writer.size_if(nbytes) <= self._budget:
            return True
        self._writer.close_chunk()
        return self._writer.size_if(nbytes) <= self._budget

    def _flush(self) -> None:
        self._next_flush_s = time.monotonic() + FLUSH_S
        self._add_status()
        self._writer.close_chunk()
        self._output.sync()

    def _finish(self, stopped: str = "") -> None:
        """Finish the file: at the end of the run, or before where `stopped` says why."""
        self.stopped = stopped
        self._end()
        if not self.results and not self.events:
            self._output.abandon(empty=True)
        else:
            self._add_status()
            self._writer.finish()
            self._output.finish()
            self.finished = True
        if stopped:
            self._tell()

    def _give_up(self, reason: str) -> None:
        """Leave what is on the disk under its temporary name, cut off behind its last whole chunk."""
        self.stopped = reason
        self._end()
        self._output.abandon()
        self._tell()

    def _end(self) -> None:
        """Take nothing more, and let go of what waits."""
        self._ended = True
        while not self._queue.empty():
            self._queue.get()

    def _tell(self) -> None:
        with suppress(OSError, ValueError):  # nobody listens any more
            self._say(self._stop_line())

    def _stop_line(self) -> str:
        ended = f"recording ended after {self.results} results: {self.stopped}"
        if not self.finished and not self.part.exists():
            return f"{ended}; nothing of it is kept"
        return f"{ended}; {self._path if self.finished else self.part} holds what came before"

    def _add_status(self) -> None:
        loops = self.counts.loops()
        self._writer.add_status(self._status(loops))
        for (camera, bundle), loop in loops.items():
            self._writer.add_ledger(camera, bundle, loop)

    def _status(self, loops: dict[Lane, Snapshot]) -> RecordingStatus:
        lanes = self.counts.lanes(loops)
        counts = [lane for of_camera in lanes.values() for lane in of_camera.values()]
        stages = next(iter(loops.values())).stages if len(loops) == 1 else {}
        return RecordingStatus(
            t_ns=time.monotonic_ns(),
            results=self.results,
            frames=self.frames,
            frames_left_out=self.frames_left_out,
            results_left_out=self.results_left_out,
            events_left_out=self.events_left_out,
            captured=sum(lane.captured for lane in counts),
            dropped=sum(lane.dropped for lane in counts),
            failed=sum(lane.failed for lane in counts),
            stopped=self.stopped,
            stages={name: times.run for name, times in stages.items()},
            lanes=lanes,
        )


def _frame_bytes(made: Round) -> int:
    """Of the frames that something came of."""
    return sum(frame.image.nbytes for camera, frame in made.frames.items() if made.results[camera])
