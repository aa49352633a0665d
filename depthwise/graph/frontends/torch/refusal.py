"""What a rule raises for an operator that it knows, in a form that the graph cannot say."""

from depthwise.errors import Unsupported


class Refusal(Unsupported):
    """Why an operator is not read and what to do; the importer adds which one it is."""
