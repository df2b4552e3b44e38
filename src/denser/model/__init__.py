"""Networks, model files, and predictions of densities."""

import os
import sys

from denser.types.import_order import pyscf_before_torch


def _one_thread() -> None:
    """Give a forked process one thread: it has none of the threads that its parent waits for."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


pyscf_before_torch()
os.register_at_fork(after_in_child=_one_thread)
