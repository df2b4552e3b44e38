"""Exchange-correlation energies of a density on a grid, with libxc through PySCF."""

from __future__ import annotations

import numpy as np
from pyscf.dft import libxc

from denser.dft.one_step import XC_CUTOFF
from denser.types.errors import InputError

_BLOCK = 200_000


def require_density_functional(xc: str) -> None:
    """Raise an InputError unless libxc knows `xc` as an LDA or GGA without exact exchange."""
    try:
        kind, exact = libxc.xc_type(xc), libxc.is_hybrid_xc(xc) or libxc.is_nlc(xc)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"libxc knows no functional {xc!r}; try one such as lda,vwn pbe blyp revpbe or pbesol"
        ) from error
    if exact or kind not in ("LDA", "GGA"):
        raise InputError(
            f"{xc} needs orbitals or a nonlocal kernel; of a density alone only LDA and GGA "
            "functionals without exact exchange can be evaluated, such as pbe"
        )


def xc_energy(xc: str, rho: np.ndarray, gradient: np.ndarray, dv: float) -> float:
    """Exchange-correlation energy of a closed-shell density, hartree.

    E_xc = integral rho e_xc(rho, |grad rho|^2) dr, over the nodes with rho above `XC_CUTOFF`.

    Parameters
    ----------
    xc : str
        An LDA or GGA by PySCF's name.
    rho : (n,) float
        e/bohr^3.
    gradient : (3, n) float
        e/bohr^4; not used by an LDA.
    dv : float
        Volume of a node, bohr^3.

    Raises
    ------
    InputError
        A functional that is unknown or needs more than the density.
    """
    require_density_functional(xc)
    local = libxc.xc_type(xc) == "LDA"
    energy = 0.0
    for start in range(0, rho.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        here = rho[block] > XC_CUTOFF
        n = np.ascontiguousarray(rho[block][here], dtype=float)
        if n.size:
            variables = n if local else np.vstack([n, gradient[:, block][:, here]])
            energy += float(n @ libxc.eval_xc(xc, variables, deriv=0)[0])
    return energy * dv
