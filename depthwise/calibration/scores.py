"""Whether a network names classes, and where their scores are."""

from depthwise.graph import Graph, ops


def scores_of(graph: Graph) -> str:
    """Return the value that holds the scores of classes, before a softmax that ends the network.

    A vector for each image, (N, C) or (N, C, 1, 1). Raises ValueError where the network returns
    anything else.
    """
    value = graph.outputs[0].value
    made = {node.name: node for node in graph}
    if value in made and isinstance(made[value].op, ops.Softmax):
        value = made[value].inputs[0]
    type_ = graph.type(value)
    if (
        len(graph.outputs) > 1
        or not type_.element.is_floating
        or len(type_.shape) < 2
        or type_.shape[1] < 2
        or type_.shape[0] * type_.shape[1] != type_.size
    ):
        raise ValueError(
            f"the network returns {say_outputs(graph)}: one vector of scores is taken, as 1x1000; "
            'of other outputs, likelihood="values" takes squares of differences'
        )
    return value


def gives_scores(graph: Graph) -> bool:
    """Tell whether a network returns a vector of scores of classes, or their probabilities."""
    try:
        scores_of(graph)
    except ValueError:
        return False
    return True


def say_outputs(graph: Graph) -> str:
    """Return the types of what a network returns, in words."""
    return " and ".join(str(graph.type(output.value)) for output in graph.outputs)


def judged_value(graph: Graph) -> str:
    """Return what a network is judged by: the scores of classes, else its first output."""
    return scores_of(graph) if gives_scores(graph) else graph.outputs[0].value
