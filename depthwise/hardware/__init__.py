"""This machine: what it can do at best, measured once and kept.

probes (C that measures) - caches (their sizes) - load, passes (measuring beside other work) -
calibration (the rounds, the file) - record (what was found, rooflines) - tables (for a person to
read).
"""

from depthwise.hardware.calibration import calibrate, find
from depthwise.hardware.record import Level, Machine, Spread, roofline

__all__ = ["Level", "Machine", "Spread", "calibrate", "find", "roofline"]
