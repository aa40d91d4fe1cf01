"""What names a random graph, or what is left of one: a Recipe, printed as a line and read back."""

from dataclasses import dataclass

from pagnp.errors import UsageError
from pagnp.testing.random_cases import parse_call


@dataclass(frozen=True)
class Recipe:
    """A graph: that of `seed`, or a part of it.

    steps    numbers of the steps that are taken; None: all
    size     (h, w) of the input; None: as drawn
    outputs  names of the outputs; None: as drawn
    without  (name, source) pairs: who read the node `name` reads `source`, of the same kind and size, instead
    """

    seed: int
    steps: tuple | None = None
    size: tuple | None = None
    outputs: tuple | None = None
    without: tuple = ()

    def __str__(self):
        parts = [f"{name}={value!r}" for name, value in vars(self).items() if value not in (None, ())]
        return f"Recipe({', '.join(parts)})".replace("'", '"')


def parse_recipe(line):
    """Return the Recipe of a line as str(recipe) prints it, or of a seed alone.

    Raises: UsageError if it is neither.
    """
    if line.strip().isdigit():
        return Recipe(int(line))
    try:
        _, named = parse_call(line, "Recipe")
        return Recipe(**named)
    except TypeError as error:
        raise UsageError(f"'{line}': {error}") from error
