"""A ShimDevice that records launches as a CUDA graph does, and is strict about what may not happen in one."""

from cuda_shim.device import ShimDevice


class RecordingDevice(ShimDevice):
    """waits  how often the host waited for the device;  replays  how often a graph ran

    While launches are recorded nothing is carried out, and neither memory nor an answer may be asked for.
    """

    can_record = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.waits = self.replays = self.allocations = 0
        self._recorded = None

    def allocate(self, shape, dtype):
        assert self._recorded is None, "memory was taken while launches were recorded"
        self.allocations += 1
        return super().allocate(shape, dtype)

    def to_device(self, array):
        assert self._recorded is None, "an array was sent while launches were recorded"
        return super().to_device(array)

    def to_host(self, array):
        assert self._recorded is None, "the host waited while launches were recorded"
        self.waits += 1
        return super().to_host(array)

    def record(self, launches):
        self._recorded = recorded = []
        try:
            launches()
        finally:
            self._recorded = None
        return recorded

    def replay(self, graph):
        self.replays += 1
        for function, args in graph:
            function(*args)

    def _now_or_later(self, function, *args):
        if self._recorded is None:
            function(*args)
        else:
            self._recorded.append((function, args))

    def launch(self, kernel, grid, block, args, shared=0):
        self._now_or_later(super().launch, kernel, grid, block, args, shared)

    def copy(self, source, out):
        self._now_or_later(super().copy, source, out)

    def zero(self, out):
        self._now_or_later(super().zero, out)
