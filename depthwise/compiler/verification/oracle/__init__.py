"""An oracle for plans: each step run in Python on NumPy arrays, for every target and option.

Where this machine cannot run a library, a plan that reads what was never written, or lets a thread
overtake another, would go unnoticed. The executor shares no logic with what made the plan: it knows
kernels by what their naive twins define, and views by their numbers; of bands, windows and splits
it knows nothing.

All arithmetic is done, in float32, on the whole network: fewer rows or channels would be another
plan. It is quick since convolutions are products of matrices, Winograd's by its own transforms, and
since each value is looked at once: seconds for MobileNetV2, tens of seconds for VGG-16.
"""

from collections.abc import Sequence

import numpy as np

from depthwise.compiler.plan import Plan
from depthwise.compiler.preparation import Preparation
from depthwise.compiler.verification.oracle.executor import Execution
from depthwise.errors import PlanFault
from depthwise.graph import ops
from depthwise.progress import report_progress
from depthwise.runtime.manifest import PlanCheck


def check_plan(
    plan: Plan, sample: Sequence[np.ndarray] = (), preparation: Preparation | None = None
) -> PlanCheck:
    """Run a plan in Python on a sample, or on random inputs, and hold it to its graph.

    Raises PlanFault, naming the first step that reads, writes or computes something else, and
    ValueError for a sample that does not fit.
    """
    inputs = sample or random_inputs(plan, preparation)
    expected = [type_.shape for type_ in plan.graph.inputs.values()]
    if [x.shape for x in inputs] != expected:
        found = [x.shape for x in inputs]
        raise ValueError(f"sample 0 has the shapes {found}: the network takes {expected}")
    try:
        with report_progress(
            "checking the plan", len(plan.steps), pace="steps of plans"
        ) as advance:
            done = 0
            for now in Execution(plan, inputs, backwards=plan.threads > 1).run():
                advance(now - done)
                done = now
    except PlanFault as fault:
        raise PlanFault(
            f"the plan for {plan.target.name} is not what the network means: {fault}. This is a "
            "fault of depthwise, not of your network: please report it; check_plan=False, "
            "--no-check-plan on the command line, compiles it unchecked"
        ) from None
    return PlanCheck(steps=len(plan.steps))


def random_inputs(plan: Plan, preparation: Preparation | None = None) -> list[np.ndarray]:
    """Return inputs drawn at random, the same for every plan of a network."""
    random = np.random.default_rng(0)
    # boxes are of the first image: of others there may be none
    uniform = any(isinstance(node.op, ops.DeformRoIPool) for node in plan.graph)
    inputs = []
    for type_ in plan.graph.inputs.values():
        if preparation:
            inputs.append(preparation.draw(random, type_.shape))
        elif uniform and type_.element.is_floating:
            inputs.append(random.random(type_.shape, np.float32))
        else:
            inputs.append(type_.element.draw(random, type_.shape))
    return inputs
