"""Find what a mask makes unnecessary: layers read only through one branch of a select (or through a masked).

Such a layer is computed at a set of pixels: those that its readers read. Sets are numbered, and equal ones are made
once; a set is made from sets with smaller numbers.
"""

from dataclasses import dataclass

POINTWISE = ("relu", "sigmoid", "exp", "exp10", "log", "norm", "softmax", "l2_normalize", "slice_channels")
COMBINING = ("add", "sub", "mul", "div", "concat")  # pixel by pixel too, where all inputs have one size


@dataclass(frozen=True)
class SiteSet:
    """Pixels of the map of layer `on`, wanted for branch `slot` of the select or masked `owner`.

    rule   "pick":  where the control of `owner` picks the branch
           "grow":  what the taps of the conv `reader` (k_h, k_w) touch when it is computed at the set parts[0]
           "union": the pixels of all parts
    """

    rule: str
    on: str
    owner: str
    slot: int
    parts: tuple[int, ...] = ()
    reader: str | None = None
    kernel: tuple[int, ...] = ()


@dataclass(frozen=True)
class Private:
    """How a private layer is computed: at the set `sites`, for branch `slot` of the select or masked `owner`.

    pick   the set that the owner takes from this branch
    place  "owner": its rows go straight into the owner's output
           "map":   into a full map of its own, valid at its sites only (a conv or an epilogue reads it)
           "rows":  into compact rows (m, c)
    """

    owner: str
    slot: int
    sites: int
    pick: int
    place: str


def perforate(graph, layers, values):
    """Return (layer name -> Private, in execution order; the list of SiteSets) of a canonical graph's layers.

    From the last layer to the first: a layer is private to a branch if all its readers are, or are the owner itself.
    """
    finder = _Finder(graph, layers, values)
    for layer in reversed(list(layers.values())):
        finder.look_at(layer)
    return {name: finder.found[name] for name in layers if name in finder.found}, finder.sets


class _Finder:
    """The private layers found so far, and the site sets that they are computed at."""

    def __init__(self, graph, layers, values):
        self.graph, self.layers, self.values = graph, layers, values
        self.outputs = set(graph.outputs.values())
        self.readers = _readers(layers)
        self.found: dict[str, Private] = {}
        self.sets: list[SiteSet] = []
        self.numbers: dict[SiteSet, int] = {}

    def look_at(self, layer):
        """Add `layer` to the private ones if it is one. Its readers have been looked at."""
        if layer.name in self.outputs or not can_run_at_sites(layer, self.values):
            return
        home = self.home(layer)
        if home is None:
            return
        readers = [self.layers[name] for name in self.readers[layer.name]]
        pick = self.number(SiteSet("pick", home[0], *home))
        sites = self.union([self.needed(layer, reader, pick) for reader in readers])
        self.found[layer.name] = Private(*home, sites, pick, self.place(layer, readers, sites, pick))

    def home(self, layer):
        """Return the (owner, slot) that all readers agree on, or None."""
        homes = set()
        for name in self.readers[layer.name]:
            reader = self.layers[name]
            if name in self.found:
                homes.add((self.found[name].owner, self.found[name].slot))
            elif reader.op == "select":
                slots = [slot for slot, source in enumerate(reader.inputs[1:]) if source == layer.name]
                homes.add((name, slots[0]) if len(slots) == 1 else None)
            elif reader.op == "masked":
                homes.add((name, 1))
            else:
                homes.add(None)
        return homes.pop() if len(homes) == 1 else None

    def needed(self, layer, reader, pick):
        """Return the number of the set of sites at which `reader` reads `layer`."""
        if reader.name not in self.found:
            return pick  # the owner itself
        own = self.found[reader.name].sites
        if layer.name in reader.inputs and not is_pixelwise(reader, self.graph):
            branch, kernel = self.sets[pick], kernel_size(reader, self.graph)
            grown = self.number(SiteSet("grow", layer.name, branch.owner, branch.slot, (own,), reader.name, kernel))
            return self.union([grown, own]) if layer.name == reader.residual else grown
        return own

    def union(self, numbers):
        """Return the number of the union of sets; a part of another union among them adds nothing."""
        covered = {part for n in numbers if self.sets[n].rule == "union" for part in self.sets[n].parts}
        parts = tuple(sorted(set(numbers) - covered))
        if len(parts) == 1:
            return parts[0]
        first = self.sets[parts[0]]
        return self.number(SiteSet("union", first.on, first.owner, first.slot, parts))

    def number(self, sites):
        """Return the number of a SiteSet, giving it one if it is new."""
        if sites not in self.numbers:
            self.numbers[sites] = len(self.sets)
            self.sets.append(sites)
        return self.numbers[sites]

    def place(self, layer, readers, sites, pick):
        """Return where the rows of `layer` go: see Private."""
        if layer.op == "conv2d":
            return "owner" if len(readers) == 1 and readers[0].name not in self.found else "map"
        if any(reader.op == "conv2d" for reader in readers):
            return "map"
        wanted = {self.found[r.name].sites if r.name in self.found else pick for r in readers}
        return "rows" if wanted == {sites} else "map"


def _readers(layers):
    readers = {name: [] for name in layers}
    for layer in layers.values():
        for name in dict.fromkeys(layer.reads):
            if name in readers:
                readers[name].append(layer.name)
    return readers


def can_run_at_sites(layer, values):
    """True if `layer` computes each pixel of its map by itself, for its inputs' pixels."""
    size = values[layer.name].h, values[layer.name].w
    if layer.op == "conv2d":  # with its residual and itself of one size: else they are broadcast
        return all((values[n].h, values[n].w) == size for n in (layer.members[0], layer.residual) if n is not None)
    return layer.op in POINTWISE or (
        layer.op in COMBINING and all((values[n].h, values[n].w) == size for n in layer.inputs)
    )


def is_pixelwise(layer, graph):
    """True unless the layer is a conv that reads other pixels than the one it computes."""
    if layer.op != "conv2d":
        return True
    a = layer.node.attrs
    return kernel_size(layer, graph) == (1, 1) and tuple(a["stride"]) == (1, 1) and not any(a["padding"])


def kernel_size(layer, graph):
    """Return (k_h, k_w) of a conv layer."""
    return tuple(graph.weight_shape(layer.node)("weight")[2:])
