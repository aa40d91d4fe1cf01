"""Make a failing random graph smaller while it still fails: fewer steps, a smaller input, fewer outputs and nodes."""

import time

from random_graphs import grow, random_graph
from random_graphs_recipe import Recipe

from pagnp.errors import GraphError, ShapeError
from pagnp.graph import INPUT
from pagnp.lower import lower


def build(recipe):
    """Return (graph, h, w), or None where what a recipe leaves fits together no more."""
    try:
        graph, h, w = random_graph(recipe)
        lower(graph, h, w)
    except (GraphError, ShapeError, KeyError):
        return None
    return graph, h, w


def shrink(recipe, fails, seconds=60.0, clock=time.monotonic):
    """Return a Recipe that still fails and is as small as the time allows; itself if nothing smaller fails."""
    end, tried = clock() + seconds, {str(recipe)}
    smaller = recipe
    while smaller is not None:
        recipe, smaller = smaller, None
        for candidate in candidates(recipe):
            if clock() > end:
                return recipe
            if str(candidate) not in tried:
                tried.add(str(candidate))
                if build(candidate) is not None and fails(candidate):
                    smaller = candidate
                    break
    return recipe


def candidates(recipe):
    """Yield smaller recipes. Names of nodes count the nodes, so steps and size go first, while outputs are as drawn."""
    graph, h, w = random_graph(recipe)
    change = lambda **more: Recipe(**{**vars(recipe), **more})  # noqa: E731
    if recipe.outputs is None:
        steps = tuple(grow(recipe).taken)
        yield from (change(steps=steps[:i] + steps[i + 1 :]) for i in range(len(steps) - 1, -1, -1) if len(steps) > 1)
        sizes = ((1, 1), (h // 2, w // 2), (h // 2, w), (h, w // 2), (h - 1, w), (h, w - 1))
        yield from (change(size=size) for size in sizes if min(size) >= 1 and size != (h, w))
    values = graph.infer(h, w)
    tensors = [name for name in graph.nodes if values[name].kind == "tensor"]
    kept = tuple(graph.outputs.values())
    if recipe.outputs is None or len(kept) > 1:
        yield from (change(outputs=(name,)) for name in tensors)
        yield from (change(outputs=kept[:i] + kept[i + 1 :]) for i in range(len(kept)) if len(kept) > 1)
        return
    yield from (change(outputs=(name,)) for name in tensors if len(upstream(graph, name)) < len(graph.nodes))
    for node in reversed(graph.nodes.values()):
        alike = [n for n in node.inputs if n != INPUT and values[n] == values[node.name]]
        alike += [INPUT] * (values[INPUT] == values[node.name])
        if node.name not in kept:
            yield from (change(without=(*recipe.without, (node.name, source))) for source in dict.fromkeys(alike))


def upstream(graph, name):
    """Return the nodes that `name` is computed from, itself among them."""
    found, todo = set(), [name]
    while todo:
        name = todo.pop()
        if name != INPUT and name not in found:
            found.add(name)
            todo.extend(graph.nodes[name].inputs)
    return found
