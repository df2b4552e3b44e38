"""Exchange-correlation functionals of a density on a grid, with libxc through PySCF.

Energy, Hartree and exchange-correlation potential, and their kernel (the derivative of the
potential), for closed shells and LDA or GGA functionals; for open shells energy and potentials.
Gradients are those of `denser.fields.derivatives`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
from pyscf import lib
from pyscf.dft import libxc
from pyscf.dft.numint import NumInt

from denser.fields.derivatives import divergence, gradient
from denser.fields.fourier import poisson
from denser.types.errors import InputError
from denser.types.grid import Grid

XC_CUTOFF = 1e-10
"""Exchange and correlation are neglected below this density, e/bohr^3; this changes the energy of
a molecule in its box by 1e-9 hartree."""

MOST_POLARISED = 0.95
"""Polarisation where a spin density exceeds its density: at 1 the correlation potential of the
empty spin is infinite."""

_BLOCK = 200_000


def require_density_functional(xc: str) -> None:
    """Raise an InputError unless libxc knows `xc` as an LDA or GGA without exact exchange."""
    try:
        kind, exact = libxc.xc_type(xc), libxc.is_hybrid_xc(xc) or libxc.is_nlc(xc)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"libxc does not know functional {xc!r}; use lda,vwn pbe blyp revpbe or pbesol"
        ) from error
    if exact or kind not in ("LDA", "GGA"):
        raise InputError(
            f"functional {xc!r} needs orbitals or a nonlocal kernel; only LDA and GGA functionals "
            "without exact exchange can be evaluated for a density on a grid, such as pbe"
        )


def xc_energy(xc: str, rho: np.ndarray, slope: np.ndarray, dv: float) -> float:
    """Exchange-correlation energy of a closed-shell density, hartree.

    E_xc = integral rho e_xc(rho, |grad rho|^2) dr, over the nodes with rho above `XC_CUTOFF`.

    Parameters
    ----------
    xc : str
        Name of an LDA or GGA in PySCF.
        rho : (n,) float
        e/bohr^3.
    slope : (3, n) float
        Gradient of rho, e/bohr^4; not used by an LDA.
    dv : float
        Volume of a node, bohr^3.

    Raises
    ------
    InputError
        The functional is unknown or needs more than the density.
    """
    require_density_functional(xc)
    local = libxc.xc_type(xc) == "LDA"
    energy = 0.0
    for start in range(0, rho.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        here = rho[block] > XC_CUTOFF
        n = np.ascontiguousarray(rho[block][here], dtype=float)
        if n.size:
            variables = n[None] if local else np.vstack([n, slope[:, block][:, here]])
            energy += float(n @ _derivatives(xc, variables, 0)[0])
    return energy * dv


def hartree_xc(xc: str, rho: np.ndarray, grid: Grid) -> tuple[np.ndarray, float]:
    """Hartree plus exchange-correlation potential and energy of a density in a periodic box.

    v = v_H + de/drho - div(de/dgrad rho), v_H(G) = 4 pi rho(G) / G^2, v_H(G=0) = 0; gradient
    and divergence are spectral.

    Parameters
    ----------
    xc : str
        LDA or GGA.
    rho : (nx, ny, nz) float
        e/bohr^3.
    grid : Grid
        Its box is the period.

    Returns
    -------
    potential : (nx, ny, nz) float
        Hartree.
    energy : float
        E_H + E_xc, hartree.
    """
    rho = np.asarray(rho, dtype=float)
    v = _hartree(rho, grid)
    energy = 0.5 * float(np.vdot(rho, v)) * grid.dv
    here = rho > XC_CUTOFF
    variables = _variables(xc, rho, grid, here)
    e_xc, w = _derivatives(xc, variables, 1)
    energy += float(variables[0] @ e_xc) * grid.dv
    v += _potential(w, grid, here)
    return v, energy


def spin_hartree_xc(
    xc: str, rho: np.ndarray, m: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray, float]:
    """As `hartree_xc` for a density rho and a spin density m.

    v = dE/drho and w = dE/dm. The potentials of the spins are v + w and v - w, because
    sum_s <drho_s|v_s> = <drho|v> + <dm|w>.

    Parameters
    ----------
    xc : str
        LDA or GGA.
    rho, m : (nx, ny, nz) float
        Density, and that of spin up minus that of spin down, e/bohr^3; |m| <= rho.
    grid : Grid
        Its box is the period.

    Returns
    -------
    v, w : (nx, ny, nz) float
        Hartree.
    energy : float
        E_H + E_xc, hartree.
    """
    rho, m = np.asarray(rho, dtype=float), np.asarray(m, dtype=float)
    v = _hartree(rho, grid)
    energy = 0.5 * float(np.vdot(rho, v)) * grid.dv
    here = rho > XC_CUTOFF
    sums = [_variables(xc, field, grid, here) for field in (rho, m)]
    spins = np.stack([0.5 * (sums[0] + sums[1]), 0.5 * (sums[0] - sums[1])])
    found = NumInt().eval_xc_eff(xc, spins, deriv=1, spin=1)
    energy += float(sums[0][0] @ np.ravel(found[0])) * grid.dv
    up, down = np.reshape(found[1], spins.shape)
    v += _potential(0.5 * (up + down), grid, here)
    return v, _potential(0.5 * (up - down), grid, here), energy


def spin_potentials(xc: str, fields: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Derivatives of the energy density by the fields of both spins (2, k, n), hartree.

    Parameters
    ----------
    xc : str
        LDA or GGA.
    fields, m : (k, n) float
        Density and, for a GGA, its gradient; those of the spin density. Where |m| exceeds the
        density, as it does in places for predicted ones, it is `MOST_POLARISED` of it.
    """
    too_large = np.abs(m[0]) > fields[0]
    m = np.where(too_large, MOST_POLARISED * np.sign(m[0]) * fields, m)
    spins = np.stack([0.5 * (fields + m), 0.5 * (fields - m)])
    return np.reshape(NumInt().eval_xc_eff(xc, spins, deriv=1, spin=1)[1], spins.shape)


def hartree_xc_kernel(
    xc: str, rho: np.ndarray, grid: Grid, cutoff: float = XC_CUTOFF
) -> Callable[[np.ndarray], np.ndarray]:
    """Kernel of Hartree, exchange and correlation at a density, the derivative of `hartree_xc`.

    K d(r) = integral d(r')/|r - r'| dr' + integral f_xc[rho](r, r') d(r') dr'. The second
    derivatives of the functional are evaluated once, for any number of products with the kernel.

    Parameters
    ----------
    xc : str
        LDA or GGA.
    rho : (nx, ny, nz) float
        Density at which the kernel is evaluated, e/bohr^3.
    grid : Grid
        Its box is the period.
    cutoff : float
        Density below which exchange and correlation do not respond, e/bohr^3.

    Returns
    -------
    function
        From a change d of the density (nx, ny, nz), e/bohr^3, to the first-order change of the
        potential (nx, ny, nz), hartree.
    """
    rho = np.asarray(rho, dtype=float)
    here = rho > cutoff
    f_xc = _derivatives(xc, _variables(xc, rho, grid, here), 2)[1]

    def product(change: np.ndarray) -> np.ndarray:
        change = np.asarray(change, dtype=float)
        w = np.einsum("xyg,yg->xg", f_xc, _variables(xc, change, grid, here))
        v = _hartree(change, grid)
        v += _potential(w, grid, here)
        return v

    return product


def _hartree(rho: np.ndarray, grid: Grid) -> np.ndarray:
    with scipy.fft.set_workers(lib.num_threads()):
        return poisson(rho, grid)


def _variables(xc: str, values: np.ndarray, grid: Grid, here: np.ndarray) -> np.ndarray:
    """Values and, for a GGA, their gradient at some nodes (1 or 4, n)."""
    slopes = gradient(values, grid) if libxc.xc_type(xc) == "GGA" else ()
    return np.stack([values[here], *(slope[here] for slope in slopes)])


def _derivatives(xc: str, variables: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Energy per electron (n,) and the derivatives of the energy density of one order.

    First derivatives have the shape (k, n), second derivatives (k, k, n). The variables are the
    density and, for a GGA, the components of its gradient.
    """
    k, n = variables.shape
    found = NumInt().eval_xc_eff(xc, variables, deriv=order, spin=0)
    e_xc = np.asarray(found[0]).ravel()
    return e_xc, e_xc if order == 0 else np.asarray(found[order]).reshape(*(k,) * order, n)


def _potential(w: np.ndarray, grid: Grid, here: np.ndarray) -> np.ndarray:
    """Potential of derivatives (1 or 4, n) by the density and its gradient: w_0 - div w."""

    def on_grid(values: np.ndarray) -> np.ndarray:
        field = np.zeros(grid.shape)
        field[here] = values
        return field

    v = on_grid(w[0])
    if len(w) > 1:
        v -= divergence((on_grid(component) for component in w[1:]), grid)
    return v
