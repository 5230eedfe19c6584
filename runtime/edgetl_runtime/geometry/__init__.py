"""Boxes become places on the road: calibration, lens, ground, approach, and a check that the camera has not moved.

Frames of reference are those of ROS: base_link by REP-103 and REP-105 (metres, x forward, y to the left, z up, the
ground at z = 0) and the camera's optical frame (z along the axis, x to the right, y down).
"""
