"""Write torch_ops.npz: PyTorch's answers to the rows of tests/torch_rows.py and tests/torch_norms.py.

    python tests/golden/make_torch_ops.py

The inputs are not stored: they are made again from their seeds (pagnp.testing.fills).
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]


def main():
    """Compute every row and save it under its id, with the versions beside."""
    import torch
    import torch_norms
    import torch_rows

    about = {
        "command": "python tests/golden/make_torch_ops.py",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    arrays = {case.id: torch_rows.answer(torch, case) for case in torch_rows.ROWS}
    arrays.update({row.id: torch_norms.answer(torch, row) for row in torch_norms.ROWS})
    note = np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8)
    path = HERE / "torch_ops.npz"
    np.savez_compressed(path, about=note, **arrays)
    print(f"{path.name}: {len(arrays)} rows, {path.stat().st_size} bytes, torch {torch.__version__}")


if __name__ == "__main__":
    main()
