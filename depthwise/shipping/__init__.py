"""From a network to a verified library and a report, in stages that each resume where they stopped.

order (what is asked) - counting, building, looking, comparing, profiling, referring (a stage
each) - state (what is kept between them) - pipeline (their order).
"""

from depthwise.shipping.pipeline import STAGES, Stage, ship
from depthwise.shipping.request import NetworkSource, Order

__all__ = ["STAGES", "NetworkSource", "Order", "Stage", "ship"]
