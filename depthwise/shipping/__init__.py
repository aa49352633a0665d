"""From a network to a verified library and a report, in stages that each resume where they stopped.

request (what is requested) - network (what goes from stage to stage) - stages/ (training, slimming,
counting, building, classifying, comparing, profiling, baseline) - state (what is cached between
runs) - pipeline (their order) - summary (the outcome on the screen).
"""

from depthwise.shipping.network import CurrentNetwork
from depthwise.shipping.pipeline import STAGES, Stage, asked, ship
from depthwise.shipping.request import Request

__all__ = ["STAGES", "CurrentNetwork", "Request", "Stage", "asked", "ship"]
