"""What a model says of one image, and where it spent its work."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pagnp import contract, gpuarrays
from pagnp.backends.base import Backend
from pagnp.types import Array, Index, Json, Macs, Mask, Size, Tensor


@dataclass
class Result:
    """The answer of `Model(image)` for one image of h x w pixels. Its arrays are NumPy's, or where the image was an
    array in a GPU's memory such arrays, of the same library: `to_host` brings them over.

    outputs     head -> labels (h, w) uint8 or int32; depth, boundary (h, w) float32; normals (h, w, 3) float32
    logits      output -> float32 (h', w', c), before the last upsampling
    masks       gate -> bool (h', w'): True where the gate computed
    rates       MultiPool -> int32 (h', w'): the dilation rate chosen
    ponder      int32 (h, w): how many gates computed the pixel; `gate_count` is the most possible
    macs        {"dense", "executed", "gated_dense", "gated_executed", "layers": {name: {"dense", "executed"}}};
                dense counts every branch everywhere, so all rates of a MultiPool; gated ones: see docs/ARCHITECTURE.md
    thresholds  gate -> the t of `z[1] - z[0] > t` used for this image
    layers      layer -> array without the batch axis, in order (only with trace=True)
    layer_digests   layer -> digest of that array, in order (with trace=True or trace="digests")
    layer_probes    layer -> the bits of a few of its elements, as pagnp.probes.of gives them (likewise)
    classes, palette   head -> class names / RGB colours, where the model file has them
    heads       head -> its entry in the model file
    pixels      digest of the decoded image
    tile        rows of the bands that it was computed in, None for the whole image at once
    """

    size: Size
    outputs: dict[str, Array]
    logits: dict[str, Tensor]
    masks: dict[str, Mask]
    rates: dict[str, Index]
    ponder: Index
    macs: Macs
    thresholds: dict[str, float]
    heads: dict[str, Json]
    pixels: str = ""
    tile: int | None = None
    layers: dict[str, Array] = field(default_factory=dict)
    layer_digests: dict[str, str] = field(default_factory=dict)
    layer_probes: dict[str, str] = field(default_factory=dict)

    @property
    def gate_count(self) -> int:
        """Number of gates that the ponder map counts."""
        return len(self.masks)

    @property
    def classes(self) -> dict[str, list[str]]:
        """head -> list of class names."""
        return {name: head["classes"] for name, head in self.heads.items() if head.get("classes")}

    @property
    def palette(self) -> dict[str, list[list[int]]]:
        """head -> list of [r, g, b]."""
        return {name: head["palette"] for name, head in self.heads.items() if head.get("palette")}

    @property
    def kept(self) -> dict[str, float]:
        """gate -> share of its pixels that were computed."""
        return {name: float(np.count_nonzero(gpuarrays.to_host(mask))) / mask.size for name, mask in self.masks.items()}

    @property
    def digests(self) -> dict[str, str]:
        """`kind/name` -> digest of every logits tensor, output and mask."""
        kinds = {"logits": self.logits, "outputs": self.outputs, "masks": self.masks}
        return {
            f"{kind}/{name}": contract.digest(array) for kind, arrays in kinds.items() for name, array in arrays.items()
        }

    @property
    def digest(self) -> str:
        """One SHA-256 over logits, outputs and masks (docs/NUMERICS.md)."""
        return contract.combined_digest(self.digests)

    def to_host(self) -> "Result":
        """Return the Result with NumPy arrays, where a GPU's memory holds them; else itself."""
        return self.mapped(gpuarrays.to_host)

    def mapped(self, change: Callable[[Array], Array]) -> "Result":
        """Return the Result with change(array) in place of every output, logits tensor, mask, rates and ponder map."""
        parts = {name: getattr(self, name) for name in ("outputs", "logits", "masks", "rates")}
        changed: dict[str, Any] = {
            name: {key: change(array) for key, array in part.items()} for name, part in parts.items()
        }
        return replace(self, **changed, ponder=change(self.ponder))


def ponder_map(masks: Iterable[Mask], padded: Size, size: Size, backend: Backend) -> Index:
    """Return int32 (h, w): for each pixel the number of `masks` (arrays (h', w')) that are True there.

    padded  (h, w) of the network's input, to which the masks belong; size: of the image, to which the map is cropped
    """
    total: Index = backend.arrays.empty(size, np.int32)
    backend.zero(total)
    for mask in masks:
        backend.ponder(mask, *padded, total)
    return total
