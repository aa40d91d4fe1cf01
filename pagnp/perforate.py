"""Find what a mask makes unnecessary: layers read only through one branch of a select (or through a masked).

A site set is named by a key, so that equal sets are made once:
    ("pick", owner, slot)   the pixels at which the control of `owner` picks branch `slot`
    ("grow", reader, key)   the pixels that the taps of the conv `reader` touch when it is computed at `key`
    ("or", key, key, ...)   the union
"""

from dataclasses import dataclass

POINTWISE = ("relu", "sigmoid", "exp", "exp10", "log", "norm", "softmax", "l2_normalize", "slice_channels")
COMBINING = ("add", "sub", "mul", "div", "concat")  # pixel by pixel too, where all inputs have one size


@dataclass(frozen=True)
class Private:
    """How a private layer is computed: at `sites`, for branch `slot` of the select or masked `owner`.

    place  "owner": its rows go straight into the owner's output
           "map":   into a full map of its own, valid at its sites only (a conv or an epilogue reads it)
           "rows":  into compact rows (m, c)
    """

    owner: str
    slot: int
    sites: tuple
    place: str

    @property
    def pick(self):
        """Key of the sites that the owner takes from this branch."""
        return ("pick", self.owner, self.slot)


def perforate(graph, layers, values):
    """Return layer name -> Private, in execution order, for every layer that needs computing at sites only."""
    readers = _readers(layers)
    outputs = set(graph.outputs.values())
    found = {}
    for layer in reversed(list(layers.values())):
        if layer.name in outputs or not _can_run_at_sites(layer, values):
            continue
        home = _home(layer, readers[layer.name], layers, found)
        if home is None:
            continue
        pick = ("pick", *home)
        needs = [_needed(layer, layers[name], pick, found, graph) for name in readers[layer.name]]
        sites = _union(needs)
        found[layer.name] = Private(*home, sites, _place(layer, [layers[n] for n in readers[layer.name]], sites, found))
    return {name: found[name] for name in layers if name in found}


def _readers(layers):
    readers = {name: [] for name in layers}
    for layer in layers.values():
        for name in dict.fromkeys(layer.reads):
            if name in readers:
                readers[name].append(layer.name)
    return readers


def _can_run_at_sites(layer, values):
    if layer.op == "conv2d" or layer.op in POINTWISE:
        return True
    out = values[layer.name]
    return layer.op in COMBINING and all((values[n].h, values[n].w) == (out.h, out.w) for n in layer.inputs)


def _home(layer, reader_names, layers, found):
    """Return the (owner, slot) that all readers agree on, or None."""
    homes = set()
    for name in reader_names:
        reader = layers[name]
        if name in found:
            homes.add((found[name].owner, found[name].slot))
        elif reader.op == "select":
            slots = [slot for slot, source in enumerate(reader.inputs[1:]) if source == layer.name]
            homes.add((name, slots[0]) if len(slots) == 1 else None)
        elif reader.op == "masked":
            homes.add((name, 1))
        else:
            homes.add(None)
    return homes.pop() if len(homes) == 1 else None


def is_pixelwise(layer, graph):
    """True unless the layer is a conv that reads other pixels than the one it computes."""
    if layer.op != "conv2d":
        return True
    a = layer.node.attrs
    kernel = graph.weight_shape(layer.node)("weight")[2:]
    return tuple(kernel) == (1, 1) and tuple(a["stride"]) == (1, 1) and not any(a["padding"])


def _needed(layer, reader, pick, found, graph):
    """Return the key of the sites at which `reader` reads `layer`."""
    if reader.name == pick[1]:
        return pick
    own = found[reader.name].sites
    if layer.name in reader.inputs and not is_pixelwise(reader, graph):
        grown = ("grow", reader.name, own)
        return _union([grown, own]) if layer.name == reader.residual else grown
    return own


def _union(keys):
    flat = []
    for key in keys:
        flat.extend(key[1:] if key[0] == "or" else (key,))
    unique = tuple(sorted(set(flat), key=repr))
    return unique[0] if len(unique) == 1 else ("or", *unique)


def _place(layer, readers, sites, found):
    if layer.op == "conv2d":
        return "owner" if len(readers) == 1 and readers[0].name not in found else "map"
    if any(reader.op == "conv2d" for reader in readers):
        return "map"
    same = all(reader.name not in found or found[reader.name].sites == sites for reader in readers)
    return "rows" if same and (sites[0] == "pick" or all(r.name in found for r in readers)) else "map"
