"""The pool gives a buffer again only when nobody holds it."""

from __future__ import annotations

from edgetl_runtime.pool import AHEAD, FramePool


def test_a_free_buffer_is_used_again() -> None:
    pool = FramePool()
    first = pool.take(4, 5)
    place = first.ctypes.data
    second = pool.take(4, 5)
    assert second.ctypes.data != place
    del first
    assert pool.take(4, 5).ctypes.data == place


def test_a_view_keeps_its_buffer() -> None:
    pool = FramePool()
    whole = pool.take(4, 5)
    whole[:] = 7
    part = whole[1:2]
    del whole
    pool.take(4, 5)[:] = 9
    assert (part == 7).all()


def test_sizes_may_change_and_the_limit_holds() -> None:
    pool = FramePool(limit=2)
    held = [pool.take(2 + i, 3) for i in range(5)]
    assert [h.shape for h in held] == [(2 + i, 3, 3) for i in range(5)]
    assert len({h.ctypes.data for h in held}) == 5
    held.clear()
    assert pool.take(9, 9).shape == (9, 9, 3)
    assert len(pool._buffers) == 2


def test_a_loops_buffers_are_made_at_once() -> None:
    pool = FramePool()
    held = [pool.take(4, 5)]
    made = {id(b) for b in pool._buffers}
    held += [pool.take(4, 5) for _ in range(AHEAD - 1)]
    assert {id(b) for b in held} == made and len(made) == AHEAD
    held.append(pool.take(4, 5))
    assert len(pool._buffers) == AHEAD + 1
