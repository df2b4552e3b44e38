"""The order in which PySCF and torch are loaded; `denser.dft` says why it matters."""

from __future__ import annotations

import sys
from importlib import import_module


def pyscf_before_torch() -> None:
    """Load all of PySCF now if a part of it is loaded, and torch is not.

    Called by every room that loads torch, so that `import denser` and `import pyscf` may come in
    any order. Only `import pyscf` followed by the user's own `import torch` is left.
    """
    if "pyscf" in sys.modules and "torch" not in sys.modules:
        import_module("denser.dft")
