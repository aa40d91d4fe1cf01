"""Random small graphs over all ops of opset: nested selects, maskeds, shared branches, tied weights, odd sizes.

The sizes of one input are fixed while a graph grows, so that branches fit together; everything follows from the seed.
A Recipe says what is left of a seed's graph when a failing one is made smaller (random_graphs_shrink.py).
"""

import itertools
from dataclasses import replace

import numpy as np
from random_graphs_recipe import Recipe

from pagnp import nodecheck, opset
from pagnp.canonical import canonical
from pagnp.errors import GraphError, ShapeError
from pagnp.graph import INPUT, Graph, Value

LARGEST = 14  # pixels along an axis: more shows nothing new and takes time
UNARY = ("relu", "relu", "sigmoid", "exp", "exp10", "log", "softmax", "l2_normalize")


class RandomGraph:
    """A graph under construction: `values` says what exists; a method adds nodes and returns the name of the last."""

    def __init__(self, seed, size=None):
        self.rng = np.random.default_rng(seed)
        h, w = self.rng.integers(1, 10, 2) if self.one_in(6) else self.rng.integers(5, 12, 2)
        h, w = size or (h, w)
        self.graph = Graph(int(self.rng.integers(1, 6)))
        self.values = {INPUT: Value("tensor", int(h), int(w), self.graph.channels)}
        self.gate_modes = ("hard",) if self.rng.random() < 0.7 else opset.GATE_MODES

    def one_in(self, times):
        return self.rng.random() < 1 / times

    def pick(self, choices):
        return choices[int(self.rng.integers(len(choices)))]

    def number(self, low, high):
        """A whole number from low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def add(self, op, inputs, weights=None, /, **attrs):
        """Add a node, or raise GraphError or ShapeError if it does not fit."""
        inputs = (inputs,) if isinstance(inputs, str) else tuple(inputs)
        spec, ins = opset.OPS[op], [self.values[name] for name in inputs]
        name = self.graph.add(op, inputs, f"{op}_{len(self.graph.nodes)}", weights, **attrs)
        node = self.graph.nodes[name]
        try:
            nodecheck.check_kinds(node, [v.kind for v in ins])
            shape = self.graph.weight_shape(node)
            c, size = spec.channels(node, [v.c for v in ins], shape), spec.size(node, [(v.h, v.w) for v in ins], shape)
            if max(size) > LARGEST:
                raise ShapeError("larger than a random graph needs")
        except (GraphError, ShapeError):
            del self.graph.nodes[name]
            raise
        self.values[name] = Value(spec.kind(node), *size, c)
        return name

    def weight(self, *shape):
        """A new weight, or (tied) an old one of this shape."""
        known = [key for key, array in self.graph.weights.items() if array.shape == shape]
        if known and self.one_in(3):
            return self.pick(known)
        key = f"w{len(self.graph.weights)}"
        self.graph.weights[key] = (self.rng.standard_normal(shape) / max(1, np.prod(shape[1:]) ** 0.5)).astype("f4")
        return key

    def tensors(self, size=None, c=None):
        """Names of the tensors, those of one size or one channel count if wanted; the newest weigh more."""
        names = [n for n, v in self.values.items() if v.kind == "tensor" and size in (None, (v.h, v.w))]
        names = [n for n in names if c in (None, self.values[n].c)]
        return names + names[-3:]

    def size(self, name):
        return self.values[name].h, self.values[name].w

    def conv(self, x, c_out=None, same=True):
        """A conv, mostly with its norm, residual add and relu; `same` keeps the size of x."""
        c_in = self.values[x].c
        c_out = c_out or self.number(1, 6)
        groups = self.pick([g for g in range(1, c_in + 1) if c_in % g == 0 and c_out % g == 0])
        kernel, dilation = [self.number(1, 3) for _ in "yx"], [self.number(1, 2) for _ in "yx"]
        stride = [1, 1] if same else [self.number(1, 2) for _ in "yx"]
        if self.one_in(3):
            kernel = [1, 1]
        padding = []
        for k, d in zip(kernel, dilation, strict=True):
            before = self.number(0, d * (k - 1)) if same else self.number(0, 2)
            padding += [before, d * (k - 1) - before if same else self.number(0, 2)]
        weights = {"weight": self.weight(c_out, c_in // groups, *kernel)}
        if self.one_in(2):
            weights["bias"] = self.weight(c_out)
        y = self.add("conv2d", x, weights, stride=stride, padding=padding, dilation=dilation, groups=groups)
        if same and c_in == c_out and self.one_in(4):  # a residual block: x is read in two ways
            return self.add("relu", self.add("add", (y, x)))
        return self.epilogue(y)

    def epilogue(self, y):
        """What is often fused behind a conv, and adds that cannot be because they broadcast."""
        y = self.norm(y) if self.one_in(2) else y
        if self.one_in(3):
            others = [n for n in self.tensors() if self.size(n) in (self.size(y), (1, 1)) or self.size(y) == (1, 1)]
            others = [n for n in others if n != y and self.values[n].c in (1, self.values[y].c)]
            if others:
                y = self.add("add", self.pick([(y, self.pick(others)), (self.pick(others), y)]))
        return self.add("relu", y) if self.one_in(2) else y

    def norm(self, x):
        c = self.values[x].c
        weights = {role: self.weight(c) for role in ("mean", "gamma", "beta") if role == "mean" or not self.one_in(4)}
        weights["var"] = f"var{c}"
        self.graph.weights.setdefault(f"var{c}", self.rng.uniform(0.5, 1.5, c).astype("f4"))
        return self.add("norm", x, weights, eps=1e-5)

    def transposed(self, x):
        c_in, kernel, stride = self.values[x].c, [self.number(1, 4) for _ in "yx"], [self.number(1, 3) for _ in "yx"]
        groups = self.pick([g for g in range(1, c_in + 1) if c_in % g == 0])
        attrs = {"stride": stride, "padding": [self.number(0, 1) for _ in range(4)], "groups": groups}
        attrs |= {"output_padding": [self.number(0, s - 1) for s in stride], "dilation": [self.number(1, 2), 1]}
        weights = {"weight": self.weight(c_in, self.number(1, 3), *kernel)}
        return self.epilogue(self.add("conv_transpose2d", x, weights, **attrs))

    def pool(self, x):
        window = {"kernel": [self.number(1, 3), self.number(1, 3)], "stride": [self.number(1, 2), self.number(1, 2)]}
        window |= {"padding": [self.number(0, 1) for _ in range(4)], "ceil_mode": self.one_in(2)}
        if self.one_in(2):
            return self.add("max_pool2d", x, dilation=[self.number(1, 2), 1], **window)
        return self.add("avg_pool2d", x, count_include_pad=self.one_in(2), **window)

    def resize(self, x):
        if self.one_in(4):
            return self.add("bilinear_deconv", x, factor=self.pick([2, 4]))
        op = self.pick(["bilinear", "nearest"])
        attrs = {"align_corners": self.one_in(2)} if op == "bilinear" else {}
        if self.one_in(3):
            return self.add(op, x, scale=[self.number(1, 2), self.number(1, 3)], **attrs)
        if self.one_in(2):
            return self.add(op, x, size=[self.number(1, 9), self.number(1, 9)], **attrs)
        return self.add(op, (x, self.pick(self.tensors())), **attrs)

    def unary(self, x):
        op = self.pick(UNARY)
        if op in ("exp", "exp10") and not self.one_in(5):  # mostly tamed: infinities soon make NaN of everything
            x = self.add("sigmoid", x)
        if op == "log" and not self.one_in(5):
            x = self.add("sigmoid", x)
        return self.add(op, x)

    def pointwise(self, x):
        """An op that keeps the size of x."""
        v = self.values[x]
        what = self.number(0, 5)
        if what == 0:
            start = self.number(0, v.c - 1)
            return self.add("slice_channels", x, start=start, stop=self.number(start + 1, v.c))
        if what == 1:
            return self.norm(x)
        if what == 2:
            attrs = {"value": float(np.round(self.rng.standard_normal(), 2)), "reverse": self.one_in(2)}
            return self.add(self.pick(["add", "sub", "mul", "div"]), x, **attrs)
        if what == 3:
            others = [n for n in self.tensors() if self.size(n) in (self.size(x), (1, 1))]
            others = [n for n in others if self.values[n].c in (1, v.c)]
            return self.add(self.pick(["add", "sub", "mul", "mul", "div"]), self.pick([(x, y) for y in others]))
        if what == 4:
            return self.add("concat", [x, *(self.pick(self.tensors(self.size(x))) for _ in range(self.number(0, 2)))])
        return self.unary(x)

    def logits(self, size, c):
        """Logits of c channels for a control of `size`, or of 1x1 (one decision an image)."""
        x = self.pick(self.tensors(size))
        x = self.add("global_mean", x) if self.one_in(6) else x
        weights = {"weight": self.weight(c, self.values[x].c, 1, 1), "bias": self.weight(c)}
        return self.add("conv2d", x, weights, stride=[1, 1], padding=[0] * 4, dilation=[1, 1], groups=1)

    def gate(self, size, rates=None, modes=None):
        index = sum(node.op == "gate" for node in self.graph.nodes.values())
        attrs = {"mode": self.pick(modes or self.gate_modes), "form": self.pick(opset.GUMBEL_FORMS)}
        attrs |= {"temperature": self.pick([0.5, 1.0]), "gate_index": index}
        attrs |= {"rates": rates} if rates else {}
        return self.add("gate", self.logits(size, len(rates) if rates else 2), **attrs)

    def mask(self, size):
        known = [n for n, v in self.values.items() if v.kind == "mask" and (v.h, v.w) in (size, (1, 1))]
        what = self.number(0, 6)
        if what == 0 and known:
            return self.add("logical_not", self.pick(known))
        if what == 1 and known:
            return self.pick(known)
        if what == 2:
            x = self.logits(size, 1)
            return self.add("compare", x, op=self.pick(opset.COMPARISONS), value=float(self.rng.standard_normal()))
        if what == 3:
            z = self.logits(size, 2)
            parts = [self.add("slice_channels", z, start=i, stop=i + 1) for i in (1, 0)]
            return self.add("compare", parts, op=self.pick(("gt", "lt", "ge")))
        if what == 4:
            index = self.add("argmax", self.logits(size, 3))
            return self.add("compare", index, op=self.pick(opset.COMPARISONS), value=self.number(0, 2))
        return self.gate(size, modes=("hard", "hard", "gumbel_hard"))

    def branch(self, x, c, depth):
        """A few layers from x on that keep its size, the last of them with c channels."""
        for _ in range(self.number(0, 3)):
            what = self.number(0, 5)
            if what < 3:
                x = self.conv(x)
            elif what == 3 and depth:
                x = self.choice(x, depth - 1)
            else:
                x = self.pointwise(x)
        return x if self.values[x].c == c and self.one_in(2) else self.conv(x, c)

    def choice(self, x, depth=2):
        """A select, blend or masked over branches that start at x or at another map of its size."""
        v, size = self.values[x], self.size(x)
        c = self.number(1, 5)
        count = self.number(2, 4) if self.one_in(3) else 2
        starts = [x if self.one_in(2) else self.pick(self.tensors(size)) for _ in range(count)]
        branches = [self.branch(start, c, depth) for start in starts]
        alike = [n for n in self.tensors(size, c) if n != INPUT or v.c == c]
        if self.one_in(3):
            branches[0] = self.pick(alike)
        if self.one_in(5):
            return self.add("masked", (branches[-1], self.mask(size)))
        if self.one_in(4):  # a blend by any probabilities
            return self.add("blend", (self.add("softmax", self.logits(size, count)), *branches))
        if count == 2 and not self.one_in(4):
            control = self.gate(size) if self.one_in(2) else self.mask(size)
        elif self.one_in(3):
            control = self.add("argmax", self.logits(size, count))
        else:
            control = self.gate(size, rates=list(range(count)))
        soft = self.values[control].kind == "tensor"
        return self.add("blend" if soft else "select", (control, *branches))

    def take(self, number, seed):
        """Take the step of a number: its draws are its own, so that they stay when another step is left out."""
        self.rng = np.random.default_rng([seed, number])
        self.step()

    def step(self):
        """Try one more piece; what does not fit leaves some nodes that nobody reads."""
        x = self.pick(self.tensors())
        moves = (
            *[lambda: self.choice(x)] * 4,
            *[lambda: self.conv(x, same=not self.one_in(2))] * 3,
            *[lambda: self.pointwise(x)] * 2,
            lambda: self.transposed(x),
            lambda: self.pool(x),
            lambda: self.resize(x),
            lambda: self.add("pad", x, padding=[self.number(0, 2) for _ in range(4)]),
            lambda: self.add("global_mean", x),
            lambda: self.add("mul", (x, self.add("to_float", self.mask(self.size(x))))),
        )
        try:
            self.pick(moves)()
        except (GraphError, ShapeError):
            pass

    def finish(self, outputs=None):
        """Name some outputs, among them what nobody reads yet, or the nodes `outputs`; return the canonical graph."""
        readers = self.graph.readers()
        tensors = [n for n in self.graph.nodes if self.values[n].kind == "tensor"]
        ends = [n for n in tensors if not readers[n]]
        self.rng.shuffle(ends)
        chosen = dict.fromkeys(ends[: self.number(1, 3)] + ([self.pick(tensors)] if self.one_in(4) else []))
        self.graph.outputs = {f"out{i}": name for i, name in enumerate(outputs or chosen)}
        return canonical(self.graph.validate())

    def leave_out(self, name, source):
        """Let who read the node `name` read `source`, a value alike that stands before it."""
        names = list(self.graph.nodes)
        if self.values[name] != self.values[source] or source in names[names.index(name) :]:
            raise GraphError(f"{source} cannot stand for {name}")
        for reader in list(self.graph.nodes.values()):
            inputs = tuple(source if n == name else n for n in reader.inputs)
            self.graph.nodes[reader.name] = replace(reader, inputs=inputs)


def grow(recipe):
    """Return the RandomGraph of a Recipe after its steps; `taken` holds their numbers."""
    g = RandomGraph(recipe.seed, recipe.size)
    count, g.taken = g.number(2, 8), []
    for number in itertools.count() if recipe.steps is None else recipe.steps:
        if recipe.steps is None and number >= count and g.graph.nodes:
            break
        g.take(number, recipe.seed)
        g.taken.append(number)
    for name, source in recipe.without:
        g.leave_out(name, source)
    return g


def random_graph(recipe):
    """Return (canonical graph, h, w) of a Recipe or a seed.

    Raises: GraphError, ShapeError, KeyError if what a Recipe leaves fits together no more.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    g = grow(recipe)
    return g.finish(recipe.outputs), g.values[INPUT].h, g.values[INPUT].w
