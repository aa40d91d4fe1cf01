"""Keep what a run shows of its layers: arrays, or their digests and probes alone, whole or rows by rows."""

import numpy as np

from pagnp.contract import RunningDigest
from pagnp.probes import RunningProbes
from pagnp.types import Array


class Trace:
    """Collects layers of one image as a run hands them over; `add` is what `execute` and `execute_bands` call.

    arrays   layer -> array without the batch axis, in order; empty unless `keep`
    """

    def __init__(self, keep: bool) -> None:
        self.arrays: dict[str, Array] = {}
        self._keep = keep
        self._digests: dict[str, RunningDigest] = {}
        self._probes: dict[str, RunningProbes] = {}

    def add(self, name: str, rows: Array, first: int = 0, height: int | None = None) -> None:
        """Take rows first, first+1, ... (1, rows, w, c) or (1, rows, w) of layer `name`, which has `height` rows."""
        height = rows.shape[1] if height is None else height
        shape = (height, *rows.shape[2:])
        if name not in self._digests:
            self._digests[name] = RunningDigest(rows.dtype, shape)
            self._probes[name] = RunningProbes(shape)
            if self._keep:
                self.arrays[name] = np.empty(shape, rows.dtype)
        self._digests[name].update(rows)
        self._probes[name].update(rows)
        if self._keep:
            self.arrays[name][first : first + rows.shape[1]] = rows[0]

    def ordered(self, names: list[str]) -> tuple[dict[str, Array], dict[str, str], dict[str, str]]:
        """Return (arrays, digests, probes) of the layers seen, in the order of `names`."""
        seen = [name for name in names if name in self._digests]
        arrays = {name: self.arrays[name] for name in seen if self._keep}
        digests = {name: self._digests[name].hexdigest() for name in seen}
        return arrays, digests, {name: self._probes[name].found for name in seen}
