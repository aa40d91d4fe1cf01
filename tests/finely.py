"""Cut every call of the Numba backend on several threads into five or more pieces: small maps have seams, too."""

import sys

PACKAGE = "pagnp.backends.numba_cpu."


def cut(patch=setattr):
    """Do so from now on; `patch` is called as setattr, for each of the backend's modules."""
    import pagnp.backends.numba_cpu  # noqa: F401  all its modules

    parallel = sys.modules[f"{PACKAGE}threads"].parallel

    def finely(kernel, total, threads, *args, chunk=None, **options):
        if threads > 1:
            chunk = min(chunk or total, max(1, total // 5))
        parallel(kernel, total, threads, *args, chunk=chunk, **options)

    for name, module in list(sys.modules.items()):
        if name.startswith(PACKAGE) and name != f"{PACKAGE}threads" and hasattr(module, "parallel"):
            patch(module, "parallel", finely)
