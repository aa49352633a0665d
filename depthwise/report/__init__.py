"""Pictures for people: the only place that needs matplotlib.

cost_picture (what each layer costs).
"""

from depthwise.report.cost_picture import cost_picture

__all__ = ["cost_picture"]
