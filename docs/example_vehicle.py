"""A vehicle on one machine: a rendered drive, edgetl on it, ROS 2 and CAN out of it, and a process that brakes.

    python docs/example_vehicle.py                                # the bundle that `edgetl demo` makes
    python docs/example_vehicle.py road.bundle --seconds 60
    python docs/example_vehicle.py -- --inject stall=2@100        # what follows -- is for `edgetl run`: a camera stalls

No ROS, no router, no CAN interface and no camera is needed, and everything stays on loopback. In a vehicle `edgetl run`
has a service of its own (`edgetl service install`) with /dev/video0, the camera's calibration and socketcan:can0, and
example_brake.py is the beginning of a planner.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from example_bus import LoopbackBus

DEMO = Path("edgetl-demo/bundle")
SOURCE = "roadworld:day:1"
END_S = 10.0
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


def main() -> int:
    """Run until Ctrl-C, SIGTERM or --seconds; the exit status."""
    args = arguments()
    if not args.bundle.is_dir():
        make = (
            "make it with `edgetl demo` (under 5 minutes), or name another" if args.bundle == DEMO else "name another"
        )
        print(f"example_vehicle: there is no bundle {args.bundle}: {make}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryFile("w+") as log:
        return drive(args, log)


def arguments() -> argparse.Namespace:
    """What was typed."""
    own, more = sys.argv[1:], []
    if "--" in own:
        at = own.index("--")
        own, more = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", nargs="?", type=Path, default=DEMO, help=f"default: {DEMO}")
    parser.add_argument("--source", default=SOURCE, help=f"rendered drive, roadworld:DOMAIN:SEED (default: {SOURCE})")
    parser.add_argument("--seconds", type=float, default=float("inf"), metavar="N", help="end after N seconds")
    parser.add_argument("--web", type=int, default=0, metavar="PORT", help="of the live page (default: any)")
    parser.add_argument("--foxglove", type=int, metavar="PORT", help="live in Foxglove, too; 0: any port")
    args = parser.parse_args(own)
    args.more = more
    return args


def drive(args: argparse.Namespace, log: IO[str]) -> int:
    """Start both processes, watch them, end them."""
    bus = LoopbackBus()
    ros2 = f"tcp/127.0.0.1:{free_port()}"
    web = args.web or free_port()
    watching = ["--web", str(web)]
    if args.foxglove is not None:
        args.foxglove = args.foxglove or free_port()
        watching += ["--foxglove", str(args.foxglove)]
    can = "socketcand:vehicle"
    environment = os.environ | {"CAN_CONFIG": bus.settings, "PYTHONUNBUFFERED": "1"}
    brake_command = [sys.executable, str(Path(__file__).with_name("example_brake.py")), "--connect", ros2, "--can", can]
    run_command = [
        *(sys.executable, "-m", "edgetl.cli", "run", str(args.bundle), args.source),
        *("--calibration", "own", "--track", "--deadline-ms", "500"),
        *("--ros2", "--ros2-domain", "0", "--ros2-listen", ros2, "--can", can, *watching, *args.more),
    ]
    brake = start(brake_command, environment)
    runtime = start(run_command, environment, log)
    bus.start()  # after both: a process is not to be forked with threads running
    try:
        print(f"live page  http://127.0.0.1:{web}")
        if args.foxglove is not None:
            print(f"Foxglove   ws://127.0.0.1:{args.foxglove}")
        print(f"ROS 2      {ros2} (Zenoh): /edgetl/detections, /edgetl/places, /diagnostics, /brake")
        print(f"CAN        127.0.0.1:{bus.port} (as socketcand)")
        print(f"processes  runtime {runtime.pid}, brake {brake.pid}: try `kill -9 {runtime.pid}`", flush=True)
        return watch(runtime, brake, log, until_s=time.monotonic() + args.seconds)
    except KeyboardInterrupt:
        return 0
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # both get the time to end
        for process in (brake, runtime):
            end(process)
        bus.shutdown()
        bus.server_close()


def watch(runtime: subprocess.Popen[str], brake: subprocess.Popen[str], log: IO[str], *, until_s: float) -> int:
    """The exit status. A runtime that dies leaves the brake to do its work; a brake that dies ends everything."""
    told = False
    while time.monotonic() < until_s:
        if brake.poll() is not None:
            print(f"example_vehicle: the brake ended with status {brake.returncode}", file=sys.stderr)
            return 1
        if not told and runtime.poll() is not None:
            told = True
            if runtime.returncode > 0:
                log.seek(0)
                print(f"the runtime ended: {log.read().strip().rpartition(chr(10))[2]}", file=sys.stderr)
                return runtime.returncode
            print(f"the runtime ended with status {runtime.returncode}, the brake stays on", flush=True)
        time.sleep(0.1)
    return 0


def start(command: list[str], environment: dict[str, str], log: IO[str] | None = None) -> subprocess.Popen[str]:
    """A process that Ctrl-C does not reach, for which this one ends it, and that dies with this one."""
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=None if log is None else subprocess.DEVNULL,
        stderr=log,
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  (no thread runs yet)
    )


def die_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent dies, however it dies."""
    ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGTERM)


def end(process: subprocess.Popen[str]) -> None:
    """In order, or by force."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port that nobody has now; Zenoh does not say which one it took for 0."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main())
