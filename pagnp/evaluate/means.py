"""Scores that are means over pixels: of all pixels of a set, and of its images."""

import numpy as np

from pagnp.types import Array


class Means:
    """Sums of what each pixel gives for every one of `names`.

    squared  those of `names` whose mean is of squares: the score is its root
    """

    names: tuple[str, ...] = ()
    squared: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.pixels = 0
        self.sums = np.zeros(len(self.names))
        self.images: list[list[float]] = []

    def add_pixels(self, *values: Array) -> dict[str, float]:
        """Add an image's pixels, an array for each name, and return its own scores."""
        sums = np.array([float(np.sum(value, dtype=np.float64)) for value in values])
        count = len(values[0])
        self.pixels += count
        self.sums += sums
        own = self._scores(sums, count)
        if count:
            self.images.append(list(own.values()))
        return own

    def result(self) -> dict[str, object]:
        """Return the scores over all pixels, `pixels`, and `image_mean`: the means of the images' own scores."""
        means = np.mean(self.images, axis=0) if self.images else np.full(len(self.names), np.nan)
        image_mean = dict(zip(self.names, map(float, means), strict=True))
        return {**self._scores(self.sums, self.pixels), "pixels": self.pixels, "image_mean": image_mean}

    def _scores(self, sums, count):
        means = sums / count if count else np.full(len(sums), np.nan)
        return {
            name: float(np.sqrt(mean) if name in self.squared else mean)
            for name, mean in zip(self.names, means, strict=True)
        }
