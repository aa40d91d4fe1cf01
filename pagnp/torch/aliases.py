"""Which graph value a torch tensor holds after in-place changes, and which values they made worthless."""

from dataclasses import dataclass, field, replace
from typing import Any

from pagnp.torch.values import Ref, UnsupportedError

Key = tuple[str, int]  # of a Ref: its node and its copy, the same for a tensor with and without its channel axis


def _key(ref: Ref) -> Key:
    return ref.name, ref.copy


@dataclass
class Aliases:
    """Follow in-place changes, which torch makes to storage and a graph does not have.

    changed  Key -> Ref of the tensor's new content
    views    Key -> (Key of the whole tensor, first channel, end): slices that share its storage
    stale    Keys of tensors that were changed through another one: reading them is not supported
    copies   number of clones so far
    """

    changed: dict[Key, Ref] = field(default_factory=dict)
    views: dict[Key, tuple[Key, int, int]] = field(default_factory=dict)
    stale: set[Key] = field(default_factory=set)
    copies: int = 0

    def clone(self, ref: Ref) -> Ref:
        """Return a Ref of the same value that in-place changes of `ref` do not reach."""
        self.copies += 1
        return replace(ref, copy=self.copies)

    def view(self, part: Any, ref: Ref, start: int, stop: int) -> Any:
        """Record that `part` is channels start:stop of `ref`, in its storage; return `part`."""
        if isinstance(part, Ref):
            whole, first, _ = self._place(ref)
            self.views[_key(part)] = (whole, first + start, first + stop)
        return part

    def _place(self, ref):
        return self.views.get(_key(ref), (_key(ref), 0, ref.c))

    def change(self, old: Any, new: Any) -> Any:
        """Record that `old` was changed in place and now holds `new`; return `new`."""
        if not isinstance(old, Ref) or not isinstance(new, Ref) or _key(old) == _key(new):
            return new
        whole, start, stop = self._place(old)
        overlapping = {key for key, (of, a, b) in self.views.items() if of == whole and a < stop and start < b}
        self.stale |= (overlapping | {whole}) - {_key(old)}
        self.changed[_key(old)] = new
        return new

    def present(self, value: Any) -> Any:
        """Return what `value` holds now. Raises UnsupportedError if it was changed through another tensor."""
        while isinstance(value, Ref):
            if _key(value) in self.stale:
                what = f"'{value.name}' is read after an in-place change of a tensor that shares its memory"
                raise UnsupportedError(f"{what}; clone() the slice first, or do not change it in place")
            if _key(value) not in self.changed:
                break
            value = replace(self.changed[_key(value)], squeezed=value.squeezed)
        return value
