"""The types of the public API, each defined once; ARCHITECTURE.md says what the axes are."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # Pillow is loaded with the first image
    from PIL.Image import Image as PillowImage

    from pagnp.image import Image

Array: TypeAlias = npt.NDArray[Any]  # where the dtype depends on values: a gate's decision, a head's answer
Tensor: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
Index: TypeAlias = npt.NDArray[np.int32]  # chosen branches, and sites
Pixels: TypeAlias = npt.NDArray[np.uint8]
Words: TypeAlias = npt.NDArray[np.uint32]


class OnGpu(Protocol):
    """An array on a GPU: of CuPy, of Numba, of torch. Its type does not tell the dtype; the ops check that."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


# What ops take. An op's result is of the kind of its arguments; its annotation is that of the NumPy array.
AnyTensor: TypeAlias = Tensor | OnGpu
AnyMask: TypeAlias = Mask | OnGpu
AnyIndex: TypeAlias = Index | OnGpu
AnyPixels: TypeAlias = Pixels | OnGpu
AnyWords: TypeAlias = Words | OnGpu
AnyTensors: TypeAlias = Sequence[AnyTensor]  # a list or tuple

Number: TypeAlias = float | np.floating[Any] | np.integer[Any]
Operand: TypeAlias = Tensor | OnGpu | Number
Size: TypeAlias = tuple[int, int]  # (h, w)
Pair: TypeAlias = int | tuple[int, int]  # one for both axes, or (y, x)
Sides: TypeAlias = int | tuple[int, int, int, int]  # one for all, or (top, bottom, left, right)

GateMode: TypeAlias = Literal["hard", "soft", "gumbel_hard", "gumbel_soft"]
GateForm: TypeAlias = Literal["kong2018", "torch"]
Comparison: TypeAlias = Literal["gt", "ge", "lt", "le", "eq", "ne"]

FilePath: TypeAlias = str | os.PathLike[str]
_One: TypeAlias = np.ndarray[tuple[int, int, int] | tuple[int, int], np.dtype[np.uint8]]
_Many: TypeAlias = np.ndarray[tuple[int, int, int, int], np.dtype[np.uint8]]
Picture: TypeAlias = "FilePath | PillowImage | Image | _One"  # as is an array of which a type checker knows no axes
AnyPicture = TypeVar("AnyPicture", bound="Picture")
Pictures: TypeAlias = list[AnyPicture] | tuple[AnyPicture, ...] | _Many
Json: TypeAlias = dict[str, Any]  # an object of docs/MODEL_FORMAT.md: a head, the preprocessing
MaybeNone: TypeAlias = Any  # as in `int | MaybeNone`: None in a case that the reader of the value knows to be rare


class LayerMacs(TypedDict):
    """Multiply-adds of a layer: computed everywhere, and as it ran."""

    dense: int
    executed: int


class Macs(TypedDict):
    """Multiply-adds of one image; the gated ones are those of the convs that a two-way gate may skip."""

    dense: int
    executed: int
    gated_dense: int
    gated_executed: int
    layers: dict[str, LayerMacs]


class RunOptions(TypedDict, total=False):
    """The keyword arguments of `Model.__call__`."""

    budget: float | None
    threshold: float | None
    seed: int
    noise: Mapping[str, Tensor] | None
    gate_mode: GateMode | None
    dense: bool
    trace: bool | Literal["digests"]
    flip: bool
    tile: int | None
    progress: Callable[[float], object] | None
