"""Mathematics on a grid: Fourier transforms, metrics, windows, the symmetries of the cube."""

from denser.types.import_order import pyscf_before_torch

pyscf_before_torch()
