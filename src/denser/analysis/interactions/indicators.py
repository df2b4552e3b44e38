"""Fields that show bonds and contacts: IRI, DORI and the IGMH between molecules.

They are drawn as isosurfaces, coloured by `sign-lambda2-rho`. Derivatives are those of
`denser.analysis.fields` (local differences), of the density as it is given.
"""

from __future__ import annotations

import numpy as np

from denser.analysis.charges.stockholder import promolecules
from denser.analysis.fields import gradient, gradient_norm, hessian
from denser.dft.interaction import atoms_of_fragments
from denser.fields.derivatives import PAIRS
from denser.types.density import Density, Field

IRI_POWER = 1.1
IRI_EMPTY, IRI_LEAST = 5.0, 5e-5
"""IRI where the density is below the least one, e/bohr^3, as in Multiwfn."""

DORI_LEAST = 1e-4
"""DORI is zero where the density is below this, e/bohr^3, as in Q-stack."""


def iri(density: Density) -> Field:
    """Interaction region indicator |grad rho| / rho^1.1, atomic units.

    Small along bonds and where molecules touch; the usual isosurface is 1. Lu and Chen,
    Chemistry-Methods 1, 231 (2021). It is 2 (3 pi^2)^(1/3) rho^(4/3 - 1.1) times the reduced
    density gradient.
    """
    rho = np.asarray(density.values, dtype=float)
    dense = rho > IRI_LEAST
    values = np.full(rho.shape, IRI_EMPTY)
    norm = np.asarray(gradient_norm(density, local=True).values)
    values[dense] = norm[dense] / rho[dense] ** IRI_POWER
    return Field(density.grid, values, "a.u.")


def dori(density: Density) -> Field:
    """Density overlap regions indicator theta / (1 + theta), from 0 to 1.

    theta = |grad k^2|^2 / |k|^6 with k = grad rho / rho. It is one where k vanishes, as between two
    atoms, and zero where rho decays exponentially. The usual isosurfaces are 0.9 and above. de
    Silva and Corminboeuf, J. Chem. Theory Comput. 10, 3745 (2014).
    """
    rho = np.asarray(density.values, dtype=float)
    dense = rho > DORI_LEAST
    k = np.stack([component[dense] for component in gradient(density, local=True)]) / rho[dense]
    second = np.empty((3, 3, k.shape[1]))  # of the density, over the density
    for (i, j), component in zip(PAIRS, hessian(density, local=True), strict=True):
        second[i, j] = second[j, i] = component[dense] / rho[dense]
    squared = np.einsum("in,in->n", k, k)
    slope = 2 * (np.einsum("ijn,jn->in", second, k) - squared * k)  # of k^2
    steep = np.einsum("in,in->n", slope, slope)
    values = np.zeros(rho.shape)
    total = steep + squared**3
    values[dense] = np.divide(steep, total, out=np.ones_like(total), where=total > 0)
    return Field(density.grid, values, "1")


def igmh(density: Density, fragments: str = "bonds") -> Field:
    """IGMH between molecules: delta g_inter = |sum_A abs(grad rho_A)| - |grad rho|, e/bohr^4.

    rho_A = w_A rho is the part of the density that Hirshfeld's atoms of molecule A have, and abs is
    of each component, so that the value depends somewhat on the axes (as in other programs). It is
    large where the gradients of two molecules point against each other: in contacts. Usual
    isosurfaces are 0.002 to 0.01. Lu and Chen, J. Comput. Chem. 43, 539 (2022). Within 0.6 angstrom
    of a nucleus it has no meaning.

    Parameters
    ----------
    density : Density
    fragments : str
        As in `denser.dft.interaction.fragments_of`; charges are not needed.

    Raises
    ------
    InputError
        There is one molecule only, or the text names other atoms.
    """
    rho = np.asarray(density.values, dtype=float)
    sizes = [np.zeros(rho.shape) for _ in range(3)]
    parts = promolecules(density, atoms_of_fragments(density.structure, fragments))
    whole = np.sum(parts, axis=0)
    for part in parts:
        share = np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)
        own = Field(density.grid, share * rho, density.unit)
        for size, component in zip(sizes, gradient(own, local=True), strict=True):
            size += np.abs(component)
    apart = np.sqrt(sum(size**2 for size in sizes))
    values = apart - np.asarray(gradient_norm(density, local=True).values)
    return Field(density.grid, np.maximum(values, 0.0), "e/bohr^4")
