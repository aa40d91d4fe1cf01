"""Heads as nodes of a graph: what they make of their logits becomes an output of its own."""

from dataclasses import replace

from pagnp.graph import INPUT, Graph, Node


def with_answers(graph: Graph) -> Graph:
    """Return `graph` with an output `outputs/<head>` for each head: upsampled, decoded, not cropped.

    That of an argmax is an index, which the outputs of other graphs never are.
    """
    nodes, outputs = dict(graph.nodes), dict(graph.outputs)
    for head in graph.heads:
        how, name = head["upsample"], f"outputs/{head['name']}"  # no other node's name has a slash
        x = graph.outputs[head["output"]]
        steps = [] if how["op"] == "none" else [_upsampling(how, x, f"{name}/upsampled")]
        x = steps[-1].name if steps else x
        if head["decode"] != "identity":
            steps.append(Node(name, head["decode"], (x,)))
            x = name
        nodes |= {node.name: node for node in steps}
        outputs[name] = x
    return replace(graph, nodes=nodes, outputs=outputs)


def _upsampling(how, x, name):
    if how["op"] == "bilinear_deconv":
        return Node(name, "bilinear_deconv", (x,), {"factor": how["factor"]})
    attrs = {"align_corners": how.get("align_corners", False)} if how["op"] == "bilinear" else {}
    return Node(name, how["op"], (x, INPUT), attrs)
