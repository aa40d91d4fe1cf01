"""Where a model spent its work over a set of images: multiply-adds, gates, rates, seconds, and one digest of all."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pagnp.result import Result
from pagnp.types import Json

MACS = ("dense", "executed", "gated_dense", "gated_executed")


@dataclass
class Work:
    """What is summed over the Results of a set, in order."""

    macs: list[list[Any]] = field(default_factory=list)
    kept: dict[str, list[float]] = field(default_factory=dict)
    chosen: dict[str, dict[int, int]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def add(self, result: Result, seconds: float) -> Json:
        """Add an image's Result and return its row: macs, kept, seconds, digest."""
        counts = dict(result.macs.items())
        macs, kept, digest = {name: counts[name] for name in MACS}, result.kept, result.digest
        self.macs.append(list(macs.values()))
        for gate, share in kept.items():
            self.kept.setdefault(gate, []).append(share)
        for pool, rates in result.rates.items():
            shares = self.chosen.setdefault(pool, {})
            for rate, pixels in zip(*np.unique(rates, return_counts=True), strict=True):
                shares[int(rate)] = shares.get(int(rate), 0) + int(pixels)
        self.seconds.append(seconds)
        self.digests.append(digest)
        return {"seconds": seconds, "macs": macs, "kept": kept, "digest": digest}

    def result(self) -> Json:
        """Return means over the images, shares of rates over all pixels, seconds, and the digest of the set.

        macs      per image; share: executed / dense;  gated_share: the same of the convs that gates may skip, or None
        kept      gate -> mean and standard deviation (over images) of the share of pixels computed
        seconds   of an image, without reading and scoring it; the first one may compile, of which the median is free
        digest    SHA-256 over the digests of the images, as bytes, in order
        """
        macs = dict(zip(MACS, map(float, np.mean(self.macs, axis=0)), strict=True))
        return {
            "macs": macs,
            "share": macs["executed"] / macs["dense"] if macs["dense"] else None,
            "gated_share": macs["gated_executed"] / macs["gated_dense"] if macs["gated_dense"] else None,
            "kept": {
                gate: {"mean": float(np.mean(shares)), "std": float(np.std(shares))}
                for gate, shares in self.kept.items()
            },
            "rates": {
                pool: {str(rate): counts[rate] / sum(counts.values()) for rate in sorted(counts)}
                for pool, counts in self.chosen.items()
            },
            "seconds": {"median": float(np.median(self.seconds)), "mean": float(np.mean(self.seconds))},
            "digest": hashlib.sha256(b"".join(map(bytes.fromhex, self.digests))).hexdigest(),
        }
