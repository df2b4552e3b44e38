"""The training loop and its configuration."""

from denser.types.import_order import pyscf_before_torch

pyscf_before_torch()
