"""A file of somebody's arrays as the References of a network: whose array is it, in which layout, does it fit."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pagnp import npzfile
from pagnp.canonical import canonical
from pagnp.errors import UsageError
from pagnp.graph import INPUT, Graph, Value
from pagnp.h5guard import shown
from pagnp.heads import upsampled_size
from pagnp.types import Array, FilePath, Size, Tensor

PREFIXES = ("layers", "masks", "logits", "outputs")
ORDERS = ("nhwc", "nchw")


@dataclass(frozen=True)
class _Place:
    """Where an entry belongs: the name that `network.check` knows, and what a value there looks like."""

    key: str
    target: str
    value: Value
    order: str | None = None  # as the key's suffix says it


class ReferenceFile:
    """An NPZ file, matched with a graph. Arrays are read when they are asked for, and not kept.

    path       of the file
    size       (h, w) of the network's input once `fit` has been called
    `name in file`, `file[name]`: see `network.check`. Every error names the file and the key. Use it with `with`.
    """

    def __init__(self, path: FilePath, graph: Graph) -> None:
        self.path, self.graph, self._joined = path, graph, canonical(graph)
        self._archive = npzfile.Archive(path)
        self.entries = dict(self._archive.entries)
        named = [key for key in (INPUT, *(f"{INPUT}@{order}" for order in ORDERS)) if key in self.entries]
        self._input_key = named[0] if named else INPUT
        self._input = self.entries.pop(self._input_key, None)
        self.skipped: list[str] = []
        self._found: dict[str, _Place] = {}

    def __enter__(self) -> "ReferenceFile":
        return self

    def __exit__(self, *error: object) -> None:
        self._archive.close()

    @property
    def has_input(self) -> bool:
        """Whether the network's own input tensor is in the file."""
        return self._input is not None

    def input_size(self) -> Size:
        """Return (h, w) of the network's input under the key `input`. Raises as `input`; reads no data."""
        shape, order = self._input_layout()
        return (shape[0], shape[1]) if order == "nhwc" else (shape[1], shape[2])

    def input(self) -> Tensor:
        """Return the network's input, float32 (1, h, w, c), from the key `input`.

        Raises: UsageError if it is no float32 tensor of the network's channels, or fits in more than one layout.
        """
        shape, order = self._input_layout()
        array = self._archive.read(self._input_key).reshape(shape)
        return np.array((array if order == "nhwc" else array.transpose(1, 2, 0))[None], np.float32, order="C")

    def _given_input(self):
        if self._input is None:
            self._refuse("", "has no key 'input'; give an image, or save the network's input under that name")
        return self._input

    def _input_layout(self):
        """Return (shape without the batch axis, layout) of the input."""
        entry, c = self._given_input(), self.graph.channels
        if len(entry.shape) == 4 and entry.shape[0] != 1:
            self._refuse(INPUT, f"is a batch of {entry.shape[0]}; save one image")
        shape = entry.shape[1:] if len(entry.shape) == 4 else entry.shape
        fits = [order for order, axis in zip(ORDERS, (-1, 0), strict=True) if len(shape) == 3 and shape[axis] == c]
        if entry.dtype.newbyteorder("=") != np.float32 or not fits or 0 in shape:
            self._refuse(INPUT, f"is {entry.dtype} {entry.shape}, need float32 (1, h, w, {c}) or (1, {c}, h, w)")
        fits = [order for order in fits if self._input_key in (INPUT, f"{INPUT}@{order}")]
        if len(fits) != 1 and set(shape) != {1}:
            self._refuse(INPUT, f"{entry.shape} may be (h, w, c) or (c, h, w); call it {INPUT}@nchw or {INPUT}@nhwc")
        return shape, fits[0]

    def fit(self, padded: Size, size: Size, skip_unknown: bool = False) -> None:
        """Match every array with a value of the network for an input of `padded` (h, w); heads crop to `size`.

        skip_unknown  leave out names that the network does not have, and list them in `skipped`
        Raises:       UsageError: unknown names, wrong shapes or dtypes, two arrays of one value, ambiguous layouts.
        """
        values = self.graph.infer(*padded)
        self.skipped = [key for key in self.entries if self._target(key) is None]
        if self.skipped and not skip_unknown:
            known = "`pagnp info --json` lists the layers; --skip-unknown leaves such arrays out"
            self._refuse("", f"the model has no {_listed(self.skipped)}; {known}")
        for key in self.entries:
            target = self._target(key)
            if target is None:
                continue
            if target in self._found:
                self._refuse(key, f"is the same value as {shown(self._found[target].key)}; keep one of them")
            suffix = key.rpartition("@")[2] if "@" in key else None
            self._found[target] = _Place(key, target, self._value(target, values, padded, size), suffix)
        if not self._found:
            self._refuse("", "holds no array of this model's layers")
        for place in self._found.values():
            self._check(place)

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __getitem__(self, name: str) -> Array:
        place = self._found[name]
        value, array = place.value, self._archive.read(place.key)
        if value.kind == "tensor":
            h, w, c = value.shape
            turned = array.reshape(c, h, w).transpose(1, 2, 0) if self._order(place) == "nchw" else array
            return np.ascontiguousarray(turned.reshape(1, h, w, c))
        array = array.reshape(1, *value.shape)
        limit = 2 if value.kind == "mask" else value.c
        if array.dtype != bool and not ((array >= 0) & (array < limit)).all():
            self._refuse(place.key, f"has values outside of 0 to {limit - 1}")
        return array.astype(np.bool_ if value.kind == "mask" else np.int32)

    def _target(self, key):
        """Return the name that `network.check` knows, None if the model has no such value."""
        base = key.rpartition("@")[0] if key.rpartition("@")[2] in ORDERS and "@" in key else key
        prefix, slash, name = base.partition("/")
        heads = {head["name"]: self.graph.outputs[head["output"]] for head in self.graph.heads}
        if slash:
            nodes = {"layers": self._nodes(), "masks": self._nodes(), "logits": {**self.graph.outputs, **heads}}
            if prefix == "outputs":
                return base if name in heads else None
            return nodes.get(prefix, {}).get(name)
        # A gate's own module is called <gate>.unit in pagnp.torch.nn.
        found = [named.get(base) for named in (self._nodes(), heads, self.graph.outputs)]
        found += [self._nodes().get(base.removesuffix(".unit")) if base.endswith(".unit") else None]
        return next((target for target in found if target is not None), None)

    def _nodes(self):
        """Return name -> name of what can be compared: canonical nodes, and convs that a norm joined."""
        inner = {self.graph.nodes[name].inputs[0] for name in self._joined.nodes if self._is_joined(name)}
        return {name: name for name in (*self._joined.nodes, *inner)}

    def _is_joined(self, name):
        return self.graph.nodes[name].op == "norm" and self._joined.nodes[name].op != "norm"

    def _value(self, target, values, padded, size):
        """Return the Value of a target: a node's, or what a head decodes."""
        if not target.startswith("outputs/"):
            value = values[target]
            if value.kind == "index":  # how many branches it chooses among
                return Value("index", value.h, value.w, values[self.graph.nodes[target].inputs[0]].c)
            return value
        head = next(head for head in self.graph.heads if f"outputs/{head['name']}" == target)
        logits = values[self.graph.outputs[head["output"]]]
        h, w = (min(pair) for pair in zip(upsampled_size(head, (logits.h, logits.w), padded), size, strict=True))
        return Value("index" if head["decode"] == "argmax" else "tensor", h, w, logits.c)

    def _check(self, place):
        """Raise UsageError unless the entry has the shape and the dtype of its value."""
        entry, value = self.entries[place.key], place.value
        dtype = entry.dtype.newbyteorder("=")
        if value.kind == "tensor":
            if dtype not in (np.float32, np.float64):
                self._refuse(place.key, f"is {dtype}, the value is a tensor: need float32 (or float64)")
            if not self._fits(place):
                h, w, c = value.shape
                self._misfit(place, f"({h}, {w}, {c}) or ({c}, {h}, {w}), a 1 in front or not")
            if self._order(place) is None:
                fix = f"call it {place.key}@nchw or {place.key}@nhwc"
                self._refuse(place.key, f"{entry.shape} may be (h, w, c) or (c, h, w); {fix}")
            return
        if not (dtype.kind in "iu" or (dtype.kind == "b" and value.kind == "mask")):
            self._refuse(place.key, f"is {dtype}, the value is a {value.kind}: need {_DECISIONS[value.kind]}")
        if len(entry.shape) > 4 or _squeezed(entry.shape) != _squeezed(value.shape):
            self._misfit(place, f"({value.h}, {value.w}), with 1 for batch and channel or not")

    def _misfit(self, place, need):
        have = self.entries[place.key].shape
        batch = "; save one image" if len(have) == 4 and have[0] > 1 else ""
        self._refuse(place.key, f"has shape {have}, '{place.target}' is {need}{batch}")

    def _fits(self, place):
        """Return the orders in which the entry is the place's tensor."""
        h, w, c = place.value.shape
        shape = self.entries[place.key].shape
        if h == w == 1 and len(shape) <= 4 and _squeezed(shape) == _squeezed((c,)):
            return ["nhwc"]
        shape = shape[1:] if len(shape) == 4 and shape[0] == 1 else shape
        fits = [order for order, form in zip(ORDERS, ((h, w, c), (c, h, w)), strict=True) if shape == form]
        return [order for order in fits if place.order in (None, order)]

    def _order(self, place):
        """Return the layout of an entry; that of the file's other arrays where both would fit."""
        fits = self._fits(place)
        return fits[0] if len(fits) == 1 else self._usual_order()

    def _usual_order(self):
        """Return the layout of all arrays that fit in one alone, or None if they disagree or there are none."""
        tensors = [place for place in self._found.values() if place.value.kind == "tensor"]
        sure = [self._fits(place) for place in tensors if place.value.shape[:2] != (1, 1)]
        orders = {fits[0] for fits in sure if len(fits) == 1}
        return orders.pop() if len(orders) == 1 else None

    def _refuse(self, key, problem):
        raise UsageError(f"{shown(self.path)}: {shown(key) + ' ' if key else ''}{problem}")


_DECISIONS = {"mask": "bool, or integers 0 and 1", "index": "integers"}


def _squeezed(shape: Iterable[int]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)


def _listed(names: list[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(shown(name) for name in names[:most]) + (f" and {rest} more" if rest > 0 else "")
