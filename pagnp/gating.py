"""What a caller may change about a graph's gates: their mode, and the noise of the Gumbel modes."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pagnp import opset
from pagnp.errors import DtypeError, GraphError, ShapeError, UsageError
from pagnp.graph import Graph, Node
from pagnp.lower import Plan
from pagnp.types import GateMode, Tensor


def with_gate_mode(graph: Graph, mode: GateMode | None) -> Graph:
    """Return a canonical graph whose gates all have `mode`; their selects become blends or the other way round.

    mode     None: each gate's own, so `graph` itself
    Raises:  UsageError if the mode is unknown or a select cannot become a blend (or a blend a select).
    """
    if mode is None:
        return graph
    if mode not in opset.GATE_MODES:
        raise UsageError(f"gate_mode '{mode}' is unknown; choose one of {', '.join(opset.GATE_MODES)}")
    soft = mode in ("soft", "gumbel_soft")
    gates = {node.name for node in graph.nodes.values() if node.op == "gate"}
    nodes = {}
    for node in graph.nodes.values():
        if node.name in gates:
            node = replace(node, attrs={**node.attrs, "mode": mode})
        elif node.op in ("select", "blend") and node.inputs[0] in gates:
            node = Node(node.name, "blend" if soft else "select", node.inputs)
        nodes[node.name] = node
    changed = replace(graph, nodes=nodes)
    try:
        changed.check_values()
    except GraphError as error:
        raise UsageError(f"gate_mode '{mode}' does not fit this model: {error}") from error
    return changed


def check_noise(graph: Graph, plan: Plan, noise: Mapping[str, Tensor]) -> None:
    """Raise unless `noise` (gate name -> array) names Gumbel gates and has float32 (h', w', K) arrays."""
    for name, array in noise.items():
        node = graph.nodes.get(name)
        if node is None or node.op != "gate":
            raise UsageError(f"noise: there is no gate '{name}'")
        if not node.attrs["mode"].startswith("gumbel"):
            raise UsageError(f"noise: gate '{name}' is {node.attrs['mode']}; noise is for the gumbel modes")
        if getattr(array, "dtype", None) != np.float32:
            raise DtypeError(f"noise: the array of gate '{name}' must be float32")
        logits = plan.values[node.inputs[0]]
        if array.shape not in ((logits.h, logits.w, logits.c), (plan.n, logits.h, logits.w, logits.c)):
            raise ShapeError(f"noise: the array of gate '{name}' is {array.shape}, need {logits.shape}")
