"""Find out why a replay differs from its receipt: recompute what differs, by a second backend and by exact arithmetic.

Three sides then say what the first differing layer is, from inputs on which the receipt and this machine agree: the
receipt, this machine, and the referee, another backend. Whoever stands alone is wrong; the oracle of pagnp.testing,
which shares nothing with any backend, has a vote at single elements.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from pagnp import contract, heads, probes, receipt
from pagnp.backends.base import Backend, get_backend
from pagnp.canonical import canonical
from pagnp.errors import BackendError, MemoryLimitError
from pagnp.fuse import Layer, fuse
from pagnp.gating import with_gate_mode
from pagnp.graph import INPUT, Graph
from pagnp.model import Model
from pagnp.replay import BESIDE, LAYERS, THRESHOLDS, Row, at_threshold, call_options, spoken
from pagnp.result import Result
from pagnp.testing import spot, spot_run
from pagnp.testing.interpret import evaluate
from pagnp.types import Array, Json, Number, Pixels

Values: TypeAlias = Mapping[str, Array]  # by kind/name
VOTES = 8  # elements that exact arithmetic recomputes


@dataclass
class Finding:
    """Why something differs. `cause` is one of CAUSES, `text` says it in a line, `places` are lines with bits."""

    cause: str
    text: str
    places: list[str] = field(default_factory=list)


CAUSES = (
    "contract",  # the receipt was made under another contract
    "weights",  # another model
    "pixels",  # another image file, or another decoder
    "subnormals",  # flush-to-zero is switched on in a thread here
    "this backend",  # this machine's backend, CPU or cached kernels
    "unsteady",  # this machine gives other bits each time: its hardware
    "receipt",  # the machine that wrote the receipt, or the receipt was changed
    "unknown",
)

_UNRELIABLE = "a second run here gave other bits than the first: this machine's hardware is not reliable"
UNSTEADY = Finding("unsteady", f"{_UNRELIABLE}; test its memory, undo overclocking")


def explain(model: Model, pixels: Pixels, entry: Json, here: Json, difference: Row) -> Finding:
    """Return the Finding for the first `difference` between the receipt's `entry` and `here`, its replay on `model`.

    The model's hash, the contract and the pixels are known to agree. Runs the image again, and parts of it on another
    backend; that can take long on large images.
    """
    contradiction = _contradiction(difference)
    if contradiction is not None:
        return contradiction
    try:
        if difference.name.startswith(LAYERS):
            return _Layer(model, pixels, entry, here, difference).finding()
        if difference.name == THRESHOLDS:
            return _search(model, pixels, entry, difference)
        return _decoding(model, pixels, entry, here, difference)
    except (MemoryLimitError, MemoryError) as error:
        text = f"the layers do not fit into memory to look for the cause: {error}"
        return Finding("unknown", text, probes_apart(entry, here))


def explain_by_spots(entry: Json, here: Json, difference: Row, spots: Sequence[spot.Spot], values: Values) -> Finding:
    """Return the Finding for the first `difference` of a run whose `spots` all agree with exact arithmetic.

    values   arrays of the run by kind/name
    """
    contradiction = _contradiction(difference)
    if contradiction is not None:
        return contradiction
    found = next((one for one in spots if LAYERS + one.name == difference.name), None)
    if found is not None and found.recomputed == found.size and found.worst is None:
        text = "all its elements were recomputed and agree with this machine; the receipt's was wrong, or was changed"
        return Finding("receipt", text, probes_apart(entry, here, values))
    text = "the elements recomputed agree with this machine, others may not; without --spot a second backend is asked"
    return Finding("unknown", text, probes_apart(entry, here, values))


def _contradiction(difference):
    """Return the Finding for what cannot differ while everything before it agrees, or None."""
    name = difference.name
    if difference.receipt is None or difference.here is None:
        side = "the receipt does not list it" if difference.receipt is None else "this pagnp has no such value"
        text = f"{side}; the receipt was changed, or its pagnp and this one cut the graph into other layers"
        return Finding("receipt", text)
    if name.startswith((LAYERS, "outputs/")) or name == THRESHOLDS:
        return None
    # Logits and masks are layers, and those agree; the whole digest follows from the others, the rest from digests.
    agree = "digests" if name.startswith(BESIDE) else "layers"
    return Finding("receipt", f"the receipt contradicts itself: its {agree} agree, its {name} does not")


def referee_of(backend: Backend) -> Backend | None:
    """Return the backend to hold `backend` against: numpy, or for numpy itself numba; None where that is missing."""
    try:
        return get_backend("numba" if backend.name == "numpy" else "numpy")
    except BackendError:
        return None


def judged(difference: Row, want: str | None, ours: str, referee: str) -> tuple[str, str]:
    """Return (cause, text) from the referee's digest `want` of what differs; `ours` is this machine's backend."""
    if want is None:
        return "unknown", "no second backend is installed here to hold them against"
    if want == difference.receipt:
        fix = "delete the kernel cache (pagnp doctor names it) and try again; else " if ours != "numpy" else ""
        text = f"{referee} gives the receipt's bits, {ours} does not: {fix}this CPU or build is at fault"
        return "this backend", text
    if want == difference.here:
        text = (
            f"{referee} gives the same as {ours} here: the machine of the receipt was wrong, or the receipt was changed"
        )
        return "receipt", text
    return "unknown", f"{referee} agrees neither with {ours} nor with the receipt"


class _Layer:
    """The first differing layer: this machine's array, the inputs that both sides agree on, the referee's values."""

    def __init__(self, model: Model, pixels: Pixels, entry: Json, here: Json, difference: Row) -> None:
        self.model, self.pixels, self.difference = model, pixels, difference
        self.entry, self.here = entry, here
        self.name = difference.name.removeprefix(LAYERS)
        self.options = at_threshold(entry)
        self.graph = with_gate_mode(canonical(model.graph), self.options.get("gate_mode"))
        self.layers = fuse(self.graph)
        self.result = self.traced(self.options.get("dense", False))
        self.got = self.result.layers[self.name][None]
        self.threshold = spot_run.used_threshold(self.result, self.options)
        self.referee = referee_of(model.backend)
        self.known = self.agreed()
        self.values = self.known
        if self.referee is not None:
            seed = self.options.get("seed", 0)
            self.values = recompute(self.graph, self.known, self.name, self.referee, seed, self.threshold)

    def traced(self, dense: bool) -> Result:
        """Run again, keeping all layers; `dense` adds the private ones."""
        return self.model(self.pixels, **(self.options | {"trace": True, "dense": dense}))

    def agreed(self) -> dict[str, Array]:
        """Return the layers that stand before this one in the receipt: here they have the same digests."""
        known = {INPUT: spot_run.padded_input(self.graph, self.pixels)}
        for layer in self.entry["layers"]:
            if layer["name"] == self.name:
                break
            known[layer["name"]] = self.result.layers[layer["name"]][None]
        return known

    def finding(self) -> Finding:
        """Return what the referee and exact arithmetic make of the layer."""
        if contract.digest(self.got[0]) != self.difference.here:
            return UNSTEADY
        name = "" if self.referee is None else self.referee.name
        want = None if self.referee is None else contract.digest(self.values[self.name][0])
        cause, text = judged(self.difference, want, self.model.backend.name, name)
        if want is not None and want != self.difference.here:
            return Finding(cause, text, self.against_referee())
        votes = self.votes(self.layers[self.name], self.got, None)
        return Finding(cause, text, [*probes_apart(self.entry, self.here), *votes])

    def against_referee(self) -> list[str]:
        """Return lines with place and bits where this machine and the referee first differ."""
        layer, got, note = self.culprit()
        difference = contract.compare(got[0], self.values[layer.name][0])
        flat = int(np.ravel_multi_index(difference.first[0].index, got.shape[1:]))
        head = f"layer {layer.name} ({layer.op}){note}: {difference.count} of {difference.size} elements differ"
        places = [f"{place}" for place in difference.first]
        return [f"{head}; got: this machine, want: the referee", *places, *self.votes(layer, got, [flat])]

    def culprit(self) -> tuple[Layer, Array, str]:
        """Return the layer that differs from the referee's, this machine's array of it, and a note."""
        own = self.layers[self.name]
        computed = [name for name in self.layers if name in self.values and name not in self.known]
        private = [self.layers[name] for name in computed if name != own.name]
        if private:
            dense = self.traced(True).layers
            for layer in private:
                if contract.compare(dense[layer.name], self.values[layer.name][0]):
                    return layer, dense[layer.name][None], f", in a branch of {own.name}"
            if not contract.compare(dense[own.name], self.values[own.name][0]):
                return own, self.got, ", right when computed densely: skipping pixels is what fails"
        if "tile" in self.options:
            whole = self.model(self.pixels, **(self.options | {"trace": True, "tile": None})).layers
            if not contract.compare(whole[own.name], self.values[own.name][0]):
                return own, self.got, ", right when computed whole: the bands are what fails"
        return own, self.got, ""

    def votes(self, layer: Layer, got: Array, where: list[int] | None) -> list[str]:
        """Return a line: does exact arithmetic agree with `got`, at flat places `where` or at a few random ones."""
        backend = self.model.backend if self.referee is None else self.referee
        if any(name not in self.values for name in layer.reads):
            return []  # inputs inside a branch, and no referee to recompute them
        noise = spot_run.gumbel_noise(self.graph, self.values, backend, self.options.get("seed", 0))
        values = spot.Values(self.graph, self.values, backend, self.threshold, noise)
        try:
            found = spot.layer_spot(values, layer, got, where or spot.places(got.size, VOTES, (0,)))
        except ModuleNotFoundError as error:
            return [f"exact arithmetic: {error.name} is not installed"]
        agree = f"agrees with this machine at {found.agree} of {found.recomputed} elements"
        return [f"exact arithmetic {agree}{f': {found.first}' if found.first else ''}"]


def recompute(
    graph: Graph,
    known: Mapping[str, Array],
    name: str,
    backend: Backend,
    seed: int = 0,
    threshold: Number | None = None,
) -> dict[str, Array]:
    """Return node -> array (1, ...): `known`, and what it takes to get from there to the node `name`, by `backend`.

    Node by node, without fusion or perforation, as the graph is written.
    """
    needed, todo = set(), [name]
    while todo:
        current = todo.pop()
        if current not in known and current not in needed:
            needed.add(current)
            todo.extend(graph.nodes[current].inputs)
    values = dict(known)
    for node in graph.nodes.values():
        if node.name in needed:
            ins = [values[source] for source in node.inputs]
            values[node.name] = evaluate(graph, node, ins, backend, seed=seed, threshold=threshold)
    return values


def probes_apart(entry: Json, here: Json, values: Values | None = None, most: int = 3) -> list[str]:
    """Return lines with place and bits of the first few probes of an entry that are others in `here`.

    Layers first and in order: what they show is where the difference begins; then those of `values`, by kind/name.
    """
    shapes = {LAYERS + layer["name"]: layer["shape"] for layer in here["layers"]}
    shapes |= {name: array.shape for name, array in (values or {}).items()}
    theirs, ours = (
        {LAYERS + layer["name"]: layer["probes"] for layer in one["layers"]} | one["probes"] for one in (entry, here)
    )
    lines = []
    for name, shape in shapes.items():
        for index, now, there in probes.apart(ours[name], theirs.get(name, ""), shape):
            lines.append(f"{name}[{','.join(map(str, index))}]  here {now}  receipt {there}")
    return lines[:most]


def _search(model: Model, pixels: Pixels, entry: Json, difference: Row) -> Finding:
    """All layers agree at the receipt's threshold, the budget led elsewhere: let the referee search."""
    referee, want = referee_of(model.backend), None
    if referee is not None:
        want = spoken(Model(model.graph, referee.name)(pixels, **call_options(entry)).thresholds)
    cause, text = judged(difference, want, model.backend.name, referee.name if referee else "")
    return Finding(cause, f"the search for the budget ended elsewhere; {text}")


def _decoding(model: Model, pixels: Pixels, entry: Json, here: Json, difference: Row) -> Finding:
    """All layers agree, a head's answer does not: let the referee decode; a flipped image it has to run whole."""
    referee, ours, name = referee_of(model.backend), model.backend.name, difference.name
    if referee is None:
        return Finding(*judged(difference, None, ours, ""))
    options = at_threshold(entry)
    mine = model(pixels, **options)
    got = receipt.values_of(mine)[name]
    if contract.digest(got) != difference.here:
        return UNSTEADY
    if options.get("flip"):
        want = receipt.values_of(Model(model.graph, referee.name)(pixels, **options))[name]
    else:
        head = mine.heads[name.removeprefix("outputs/")]
        padded = model.graph.padded_size(mine.size)
        want = heads.predict(head, mine.logits[head["name"]][None], None, padded, mine.size, referee)
    cause, text = judged(difference, contract.digest(want), ours, referee.name)
    found = contract.compare(got, want)
    where = "the mirrored pass, upsampling or decoding" if options.get("flip") else "upsampling or decoding"
    places = [str(place) for place in found.first] if found else probes_apart(entry, here, {name: got})
    return Finding(cause, f"{where}, all layers agree; {text}", places)
