"""Reference labels: one label, stores of them, their rendering to grids, QM9; no PySCF."""

from denser.types.import_order import pyscf_before_torch

pyscf_before_torch()
