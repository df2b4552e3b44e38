"""Kohn-Sham calculations and atomic tables; the only room that imports PySCF.

PySCF and torch each contain an OpenMP library, and PySCF's compiled parts must all be loaded either
before or after torch. If some are loaded before it and some after, a parallel region of one library
gets its thread number from the other, threads overwrite each other, and energies are silently wrong
(seen with PySCF 2.14 and torch 2.13). Therefore all parts are loaded here at once,
`denser.types.import_order` loads them before torch if PySCF is imported already, and the harmful
order is an error.
"""

import os
import sys
from functools import partial

from denser.types.errors import InputError


def _torch_is_between() -> bool:
    """Whether torch was imported after PySCF began and before its periodic part was loaded."""
    order = list(sys.modules)
    if "pyscf" not in order or "torch" not in order:
        return False
    periodic = "pyscf.pbc.dft.multigrid"
    end = order.index(periodic) if periodic in order else len(order)
    return order.index("pyscf") < order.index("torch") < end


if _torch_is_between():
    raise InputError(
        "torch was imported after pyscf and before its periodic part, and PySCF would "
        "silently compute wrong energies; import torch before pyscf, or denser.dft right after it"
    )

import pyscf  # noqa: E402

TESTED_PYSCF = ("2.14",)
"""Versions of PySCF that were tested, without the last number."""


def require_tested_pyscf(version: str) -> None:
    """Raise an InputError unless this version of PySCF was tested.

    `denser.dft.pyscf_private` uses names that other versions may have changed.
    """
    if ".".join(version.split(".")[:2]) not in TESTED_PYSCF:
        raise InputError(
            f"PySCF {version} is installed, but denser was tested with PySCF "
            f"{' and '.join(TESTED_PYSCF)} only and uses names that other versions may have "
            "changed; install a tested version: pip install 'pyscf>=2.14,<2.15'"
        )


require_tested_pyscf(pyscf.__version__)

import pyscf.pbc.dft.multigrid  # noqa: E402
import pyscf.pbc.scf  # noqa: E402
import pyscf.scf.atom_hf_pp  # noqa: E402

# A forked process has none of the threads that PySCF's libraries wait for.
os.register_at_fork(after_in_child=partial(pyscf.lib.num_threads, 1))
