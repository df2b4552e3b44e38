"""Energies from the density alone: orbital-free kinetic, Hartree, exchange-correlation."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

import numpy as np

from denser.analysis.fields import S_CONSTANT, THOMAS_FERMI
from denser.atoms.free_atoms import pseudo_charges
from denser.atoms.sad import require_closed_shell
from denser.fields.derivatives import gradient
from denser.fields.fourier import poisson, poisson_isolated
from denser.fields.windows import ball, pieces
from denser.types.density import Density
from denser.types.errors import InputError
from denser.types.grid import Grid

KINETIC = ("thomas-fermi", "von-weizsaecker", "tf+vw/5", "lkt")
"""Kinetic functionals, in the order of the report."""

LKT_A = 1.3
"""Parameter of Luo, Karasiev and Trickey (2018)."""

CUTOFF = 1e-10
"""Below this density (e/bohr^3) its gradient is noise, and there is no kinetic energy density."""

DENSE = 0.01
"""Spectral gradients are used above this density, e/bohr^3."""

FAINT, STEEPEST = 1e-5, 8.0
"""Below `DENSE` the gradient is at most this times the density (bohr^-1). Far from the nuclei the
density decays as exp(-2 sqrt(2 I) r); 2 sqrt(2 I) is 2.7 for helium, the highest ionisation
energy."""

REACH = 6
"""Nodes on each side of the differences below `DENSE`, of twelfth order in the spacing."""

STATEMENT = (
    "Hartree and xc are the functionals' values for this density. The kinetic functionals are "
    "approximations: for 30 QM9 molecules LKT deviates from the orbitals' kinetic energy by "
    "-2.0 % (standard deviation 1.9), TF+vW/5 by -18 %, TF by -25 %; vW is a lower bound. Use "
    "them for trends and to test functionals, not for reaction or bond energies (use denser "
    "energy)."
)


@dataclass(frozen=True, eq=False)
class OrbitalFreeEnergies:
    """Energies of a valence density, hartree.

    Parameters
    ----------
    kinetic : dict of str to float
        Kinetic energies by the names of `KINETIC`.
    hartree : float
        Electron-electron Coulomb energy.
    exchange_correlation : dict of str to float
        By functional.
    external_local : float or None
        Energy in the local GTH-PBE potentials; None with other valence charges.
    periodic : bool
        Coulomb energies are those per cell, in a uniform neutralising background.
    """

    kinetic: dict[str, float]
    hartree: float
    exchange_correlation: dict[str, float]
    external_local: float | None
    periodic: bool

    def to_dict(self) -> dict:
        """Plain numbers in hartree."""
        return {
            "e_kinetic_hartree": dict(self.kinetic),
            "e_coulomb_hartree": self.hartree,
            "e_exchange_correlation_hartree": dict(self.exchange_correlation),
            "e_external_local_hartree": self.external_local,
            "periodic": self.periodic,
            "kind": "valence",
            "note": STATEMENT,
        }

    def lines(self) -> list[str]:
        """Lines of a report."""
        names = {
            "thomas-fermi": "Thomas-Fermi",
            "von-weizsaecker": "von Weizsaecker",
            "tf+vw/5": "TF + vW/5",
            "lkt": "Luo-Karasiev-Trickey",
        }
        rows = [(f"kinetic, {names[key]}", value) for key, value in self.kinetic.items()]
        rows.append(("Hartree" + (" (per cell)" if self.periodic else ""), self.hartree))
        rows += [(f"xc, {xc}", value) for xc, value in self.exchange_correlation.items()]
        if self.external_local is not None:
            rows.append(("external, local GTH part", self.external_local))
        lines = [f"{name:<32}{value:16.6f} Ha" for name, value in rows]
        lines.append("valence electrons only; the nonlocal pseudopotential needs orbitals")
        return [*lines, *wrap(STATEMENT, 100)]


def orbital_free_energies(
    density: Density, functionals: tuple[str, ...] = ("pbe",)
) -> OrbitalFreeEnergies:
    """Energies that follow from the density without orbitals.

    With t_TF = (3/10) (3 pi^2)^(2/3) rho^(5/3) and s = |grad rho| / (2 (3 pi^2)^(1/3) rho^(4/3)),

    T_TF  = integral t_TF dr                          (Thomas 1927, Fermi 1927)
    T_vW  = integral |grad rho|^2 / (8 rho) dr        (von Weizsaecker 1935; T_s >= T_vW)
    T_LKT = T_vW + integral t_TF / cosh(1.3 s) dr     (Luo, Karasiev, Trickey, Phys. Rev. B 98,
                                                       041111(R), 2018)
    E_H   = (1/2) integral integral rho(r) rho(r') / |r - r'| dr dr'
    E_xc  = integral rho e_xc(rho, |grad rho|) dr
    E_loc = integral rho sum_a V_a^loc dr

    For a periodic structure, Coulomb energies are those of the cell without G = 0 (the finite part
    of V_loc at G = 0 is kept, as in plane-wave programs).

    Parameters
    ----------
    density : Density
        Valence density: the kinetic energy of a core is concentrated at the nucleus, where a
        uniform grid does not resolve it.
    functionals : tuple of str
        LDA or GGA functionals by PySCF's names, such as "pbe", "lda,vwn" or "b88,lyp".

    Raises
    ------
    InputError
        The density is all-electron or of an open shell, a functional needs more than the
        density, or the box of an isolated molecule is not orthorhombic.
    """
    from denser.dft.functionals import require_density_functional, xc_energy

    if density.all_electron:
        raise InputError(
            "orbital-free energies need a valence density: a uniform grid does not resolve the "
            "kinetic energy of the cores"
        )
    require_closed_shell(density.structure, "orbital-free energies")
    for xc in functionals:
        require_density_functional(xc)
    grid = density.grid
    periodic = density.structure.cell is not None
    rho = np.asarray(density.values, dtype=float)
    potential = (poisson if periodic else poisson_isolated)(rho, grid)
    slope = density_gradient(rho, grid)
    return OrbitalFreeEnergies(
        kinetic=kinetic_energies(rho, slope, grid.dv),
        hartree=float(0.5 * np.vdot(rho, potential) * grid.dv),
        exchange_correlation={
            xc: xc_energy(xc, rho.ravel(), slope.reshape(3, -1), grid.dv) for xc in functionals
        },
        external_local=_external_local(density, potential, periodic),
        periodic=periodic,
    )


def density_gradient(rho: np.ndarray, grid: Grid) -> np.ndarray:
    """Gradient of a density for |grad rho|^2 / rho, which is (3, nx, ny, nz), e/bohr^4.

    It is spectral where the density is high. Components of a nucleus beyond the grid's wave
    numbers cause oscillations in the whole spectral gradient. In the vacuum they would dominate
    |grad rho|^2 / rho (140 hartree for water at a spacing of 0.157 bohr). Below `DENSE` the
    gradient is therefore that of finite differences of twelfth order, which use only the next six
    nodes, and at most `STEEPEST` times the density, to suppress noise where the density ends.
    """
    slope = np.stack(list(gradient(rho, grid)))
    thin = rho < DENSE
    for component, local in zip(slope, gradient(rho, grid, REACH), strict=True):
        component[thin] = local[thin]
    faint = rho < FAINT
    steep = np.sqrt(sum(component[faint] ** 2 for component in slope))
    excess = np.maximum(steep / np.maximum(STEEPEST * rho[faint], 1e-300), 1.0)
    for component in slope:
        component[faint] /= excess
    return slope


def kinetic_energies(
    rho: np.ndarray, slope: np.ndarray, dv: float | np.ndarray
) -> dict[str, float]:
    """Kinetic energies of `KINETIC`, hartree.

    Parameters
    ----------
    rho : (...) float
    slope : (3, ...) float
        Gradient of rho.
    dv : float
        Volume of a node, bohr^3, or weights with the shape of rho.
    """
    here = rho > CUTOFF
    n, dv = rho[here], np.broadcast_to(dv, rho.shape)[here]
    slope2 = sum(component[here] ** 2 for component in slope)
    cube_root = np.cbrt(n)
    t_tf = THOMAS_FERMI * n * cube_root**2 * dv
    s = np.sqrt(slope2) / (S_CONSTANT * n * cube_root)
    tf = float(t_tf.sum())
    vw = float((slope2 / n) @ dv / 8)
    lkt = vw + float((t_tf / np.cosh(np.minimum(LKT_A * s, 500.0))).sum())
    return dict(zip(KINETIC, (tf, vw, tf + vw / 5, lkt), strict=True))


def _external_local(density: Density, potential: np.ndarray, periodic: bool) -> float | None:
    """Energy in the local potentials of GTH-PBE; None if the valence charges differ.

    -Z erf(r / sqrt(2) r_loc) / r is the potential of a Gaussian charge -Z of width r_loc, so its
    energy is that of the Gaussian in the Hartree potential of the density.
    """
    from denser.dft.tables.free_atoms import gth_local

    structure, grid = density.structure, density.grid
    try:
        expected = pseudo_charges(structure)
    except InputError:
        return None
    if not np.allclose(expected, density.valence_charges):
        return None
    n_electrons = density.integrate()
    energy = 0.0
    for symbol, position in zip(structure.symbols, structure.positions, strict=True):
        charge, r_loc, coefficients = gth_local(symbol)
        nodes, x2 = ball(grid, position, 8.5 * r_loc, periodic)
        if not x2.size:
            continue
        x2 /= r_loc**2
        gaussian = np.exp(-x2 / 2)
        cloud = -charge / (2 * np.pi * r_loc**2) ** 1.5 * gaussian
        short = gaussian * sum(c * x2**k for k, c in enumerate(coefficients))
        for on_grid, in_patch in pieces(nodes, grid.shape):
            energy += np.vdot(cloud[in_patch], potential[on_grid]) * grid.dv
            energy += np.vdot(short[in_patch], density.values[on_grid]) * grid.dv
        if periodic:  # the mean of -Z erf/r minus that of -Z/r
            energy += n_electrons * 2 * np.pi * charge * r_loc**2 / grid.volume
    return float(energy)
