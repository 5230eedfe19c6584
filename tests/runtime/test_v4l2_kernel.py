"""Layouts and numbers of V4L2: as fixed by the kernel, and as this machine's own header has them."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from edgetl_runtime.cameras import _v4l2_kernel as v4l2

HEADER = Path("/usr/include/linux/videodev2.h")
NUMBERS = {
    "VIDIOC_QUERYCAP": (v4l2.QUERYCAP, 0x80685600),
    "VIDIOC_ENUM_FMT": (v4l2.ENUM_FMT, 0xC0405602),
    "VIDIOC_G_FMT": (v4l2.G_FMT, 0xC0D05604),
    "VIDIOC_S_FMT": (v4l2.S_FMT, 0xC0D05605),
    "VIDIOC_REQBUFS": (v4l2.REQBUFS, 0xC0145608),
    "VIDIOC_QUERYBUF": (v4l2.QUERYBUF, 0xC0585609),
    "VIDIOC_QBUF": (v4l2.QBUF, 0xC058560F),
    "VIDIOC_DQBUF": (v4l2.DQBUF, 0xC0585611),
    "VIDIOC_STREAMON": (v4l2.STREAMON, 0x40045612),
    "VIDIOC_STREAMOFF": (v4l2.STREAMOFF, 0x40045613),
    "VIDIOC_G_PARM": (v4l2.G_PARM, 0xC0CC5615),
    "VIDIOC_S_PARM": (v4l2.S_PARM, 0xC0CC5616),
    "VIDIOC_ENUM_FRAMESIZES": (v4l2.ENUM_FRAMESIZES, 0xC02C564A),
    "VIDIOC_ENUM_FRAMEINTERVALS": (v4l2.ENUM_FRAMEINTERVALS, 0xC034564B),
    "V4L2_BUF_TYPE_VIDEO_CAPTURE": (v4l2.CAPTURE, 1),
    "V4L2_MEMORY_MMAP": (v4l2.MEMORY_MMAP, 1),
    "V4L2_CAP_VIDEO_CAPTURE": (v4l2.CAP_VIDEO_CAPTURE, 0x1),
    "V4L2_CAP_VIDEO_OUTPUT": (v4l2.CAP_VIDEO_OUTPUT, 0x2),
    "V4L2_CAP_VIDEO_CAPTURE_MPLANE": (v4l2.CAP_VIDEO_CAPTURE_MPLANE, 0x1000),
    "V4L2_CAP_VIDEO_M2M_MPLANE": (v4l2.CAP_VIDEO_M2M_MPLANE, 0x4000),
    "V4L2_CAP_VIDEO_M2M": (v4l2.CAP_VIDEO_M2M, 0x8000),
    "V4L2_CAP_META_CAPTURE": (v4l2.CAP_META_CAPTURE, 0x800000),
    "V4L2_CAP_STREAMING": (v4l2.CAP_STREAMING, 0x4000000),
    "V4L2_CAP_DEVICE_CAPS": (v4l2.CAP_DEVICE_CAPS, 0x80000000),
    "V4L2_CAP_TIMEPERFRAME": (v4l2.CAP_TIMEPERFRAME, 0x1000),
    "V4L2_BUF_FLAG_ERROR": (v4l2.FLAG_ERROR, 0x40),
    "V4L2_BUF_FLAG_TIMESTAMP_MASK": (v4l2.TIMESTAMP_MASK, 0xE000),
    "V4L2_BUF_FLAG_TIMESTAMP_UNKNOWN": (v4l2.TIMESTAMP_UNKNOWN, 0),
    "V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC": (v4l2.TIMESTAMP_MONOTONIC, 0x2000),
    "V4L2_BUF_FLAG_TIMESTAMP_COPY": (v4l2.TIMESTAMP_COPY, 0x4000),
    "V4L2_BUF_FLAG_TSTAMP_SRC_MASK": (v4l2.SOURCE_MASK, 0x70000),
    "V4L2_BUF_FLAG_TSTAMP_SRC_EOF": (v4l2.SOURCE_END_OF_FRAME, 0),
    "V4L2_BUF_FLAG_TSTAMP_SRC_SOE": (v4l2.SOURCE_START_OF_EXPOSURE, 0x10000),
    "V4L2_FIELD_NONE": (v4l2.FIELD_NONE, 1),
    "V4L2_FRMSIZE_TYPE_DISCRETE": (v4l2.SIZE_DISCRETE, 1),
    "V4L2_FRMIVAL_TYPE_DISCRETE": (v4l2.INTERVAL_DISCRETE, 1),
    "V4L2_PIX_FMT_MJPEG": (v4l2.fourcc("MJPG"), 0x47504A4D),
    "V4L2_PIX_FMT_JPEG": (v4l2.fourcc("JPEG"), 0x4745504A),
    "V4L2_PIX_FMT_YUYV": (v4l2.fourcc("YUYV"), 0x56595559),
    "V4L2_PIX_FMT_UYVY": (v4l2.fourcc("UYVY"), 0x59565955),
    "V4L2_PIX_FMT_NV12": (v4l2.fourcc("NV12"), 0x3231564E),
    "V4L2_PIX_FMT_BGR24": (v4l2.fourcc("BGR3"), 0x33524742),
    "V4L2_PIX_FMT_RGB24": (v4l2.fourcc("RGB3"), 0x33424752),
    "V4L2_PIX_FMT_GREY": (v4l2.fourcc("GREY"), 0x59455247),
}
STRUCTS: dict[str, type[ctypes.Structure]] = {
    "v4l2_capability": v4l2.Capability,
    "v4l2_fmtdesc": v4l2.FmtDesc,
    "v4l2_pix_format": v4l2.PixFormat,
    "v4l2_format": v4l2.Format,
    "v4l2_fract": v4l2.Fract,
    "v4l2_captureparm": v4l2.CaptureParm,
    "v4l2_streamparm": v4l2.StreamParm,
    "v4l2_frmsizeenum": v4l2.FrmSizeEnum,
    "v4l2_frmivalenum": v4l2.FrmIvalEnum,
    "v4l2_requestbuffers": v4l2.RequestBuffers,
    "v4l2_buffer": v4l2.Buffer,
}
ELSEWHERE = {
    "v4l2_format.pix": "fmt.pix",
    "v4l2_streamparm.capture": "parm.capture",
    "v4l2_frmsizeenum.sizes": "discrete",
    "v4l2_frmivalenum.intervals": "discrete",
    "v4l2_buffer.seconds": "timestamp.tv_sec",
    "v4l2_buffer.microseconds": "timestamp.tv_usec",
    "v4l2_buffer.offset": "m.offset",
}
"""Fields that the header calls otherwise, or keeps in a union."""
FILLING = {"padding", "padding2", "rest", "rest_of_m"}


def offsets() -> dict[str, int]:
    """Where our fields are, by the header's names."""
    found = {}
    for struct, kind in STRUCTS.items():
        for name, *_ in kind._fields_:
            if name not in FILLING:
                found[f"{struct}, {ELSEWHERE.get(f'{struct}.{name}', name)}"] = getattr(kind, name).offset
    return found


@pytest.mark.skipif(not v4l2.SUPPORTED, reason="these are the layouts of 64-bit processes on x86-64 and aarch64")
def test_numbers_are_the_kernels() -> None:
    assert {name: ours for name, (ours, _) in NUMBERS.items()} == {name: fixed for name, (_, fixed) in NUMBERS.items()}
    assert {name: ctypes.sizeof(kind) for name, kind in STRUCTS.items()} == {
        "v4l2_capability": 104,
        "v4l2_fmtdesc": 64,
        "v4l2_pix_format": 48,
        "v4l2_format": 208,
        "v4l2_fract": 8,
        "v4l2_captureparm": 40,
        "v4l2_streamparm": 204,
        "v4l2_frmsizeenum": 44,
        "v4l2_frmivalenum": 52,
        "v4l2_requestbuffers": 20,
        "v4l2_buffer": 88,
    }
    at = offsets()
    assert (at["v4l2_format, fmt.pix"], at["v4l2_streamparm, parm.capture"]) == (8, 4)
    assert (at["v4l2_buffer, timestamp.tv_sec"], at["v4l2_buffer, sequence"]) == (24, 56)
    assert (at["v4l2_buffer, m.offset"], at["v4l2_buffer, length"]) == (64, 72)


@pytest.mark.skipif(shutil.which("cc") is None or not HEADER.exists(), reason="needs a C compiler and linux-libc-dev")
@pytest.mark.skipif(not v4l2.SUPPORTED, reason="these are the layouts of 64-bit processes on x86-64 and aarch64")
def test_every_size_offset_and_number_is_this_machines_header(tmp_path: Path) -> None:
    expected = {name: ours for name, (ours, _) in NUMBERS.items()}
    expected |= {f"sizeof(struct {name})": ctypes.sizeof(kind) for name, kind in STRUCTS.items()}
    expected |= {f"offsetof(struct {place})": at for place, at in offsets().items()}
    lines = [f'    printf("%s=%llu\\n", "{what}", (unsigned long long)(unsigned long)({what}));' for what in expected]
    source = ["#include <linux/videodev2.h>", "#include <stddef.h>", "#include <stdio.h>", "#include <sys/time.h>"]
    program = tmp_path / "layout.c"
    program.write_text("\n".join([*source, "int main(void) {", *lines, "    return 0;", "}", ""]))
    subprocess.run(["cc", "-o", str(tmp_path / "layout"), str(program)], check=True, timeout=60)
    printed = subprocess.run([str(tmp_path / "layout")], check=True, capture_output=True, text=True, timeout=60).stdout
    found = {what: int(value) for what, _, value in (line.partition("=") for line in printed.splitlines())}
    assert found == {what: value & 0xFFFFFFFF for what, value in expected.items()}


def test_names_of_formats() -> None:
    assert v4l2.name_of(v4l2.fourcc("Y16 ")) == "Y16"
    assert v4l2.name_of(v4l2.fourcc("YUYV") | 1 << 31) == "YUYV"
    assert v4l2.name_of(0) == v4l2.name_of(0x01020304) == "none"


def test_the_kernel_that_runs_here_is_really_called() -> None:
    kernel = v4l2.LinuxKernel()
    fd = kernel.open("/dev/null")
    with pytest.raises(OSError) as caught:
        kernel.ioctl(fd, v4l2.QUERYCAP, v4l2.Capability())
    assert caught.value.errno == errno.ENOTTY
    kernel.close(fd)
    with pytest.raises(OSError):
        os.fstat(fd)


def test_poll_and_mmap_are_really_called() -> None:
    kernel = v4l2.LinuxKernel()
    out, into = os.pipe()
    try:
        assert not kernel.poll(out, 0.01)
        os.write(into, b"x")
        assert kernel.poll(out, 5.0)
    finally:
        os.close(out)
        os.close(into)
    memory = os.memfd_create("buffers")
    try:
        os.ftruncate(memory, 8192)
        mapped = kernel.mmap(memory, 4096, 4096)
        mapped[:4] = b"abcd"
        assert os.pread(memory, 4, 4096) == b"abcd"
        mapped.close()
    finally:
        os.close(memory)


def test_the_answer_of_a_call_is_seen() -> None:
    """FIONREAD writes how many bytes wait."""
    out, into = os.pipe()
    try:
        os.write(into, b"four")
        waiting = ctypes.c_int(0)
        v4l2.LinuxKernel().ioctl(out, 0x541B, waiting)
        assert waiting.value == 4
    finally:
        os.close(out)
        os.close(into)
