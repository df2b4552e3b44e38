"""Tables of descriptors in the layout of QTAIM-Embed's data sets.

QTAIM-Embed (github.com/santi921/qtaim_embed) learns from tables that its companion
(github.com/santi921/qtaim_generator) makes from the output of Multiwfn: a row for each molecule,
and lists of the values of its bonds and atoms. `BONDS` has the columns whose definition in Multiwfn
(`showptprop` and what `parse_qtaim.py` reads of it) is the one of `denser.analysis.topology`, in
atomic units. The columns that need orbitals (kinetic energies, ELF, LOL, the average local
ionisation energy), Multiwfn's own free atoms (delta_g) or the density at nuclei (all of
`extra_feat_atom_`) are not there, nor is `e_density`, which is the energy density in some of these
sets and the density in others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from denser.io.charges import ChargedMolecule

_Columns = Mapping[str, np.ndarray]


def _laplacian(found: _Columns) -> np.ndarray:
    return found["laplacian_e_per_bohr5"]


def _determinant(found: _Columns) -> np.ndarray:
    return np.prod([found[f"lambda{i}_e_per_bohr5"] for i in (1, 2, 3)], axis=0)


BONDS: dict[str, Callable[[_Columns], np.ndarray]] = {
    "bond_length": lambda found: found["length_angstrom"],
    "extra_feat_bond_density_all": lambda found: found["density_e_per_bohr3"],
    "extra_feat_bond_lap_e_density": _laplacian,
    "extra_feat_bond_lap_norm": _laplacian,  # "Total" of the components of the Laplacian
    "extra_feat_bond_eig_hess": _laplacian,  # the sum of the eigenvalues
    "extra_feat_bond_det_hessian": _determinant,
    "extra_feat_bond_ellip_e_dens": lambda found: found["ellipticity"],
    "extra_feat_bond_eta": lambda found: (
        np.abs(found["lambda1_e_per_bohr5"]) / found["lambda3_e_per_bohr5"]
    ),
    "extra_feat_bond_esp_nuc": lambda found: found["nuclear_potential_hartree_per_e"],
    "extra_feat_bond_esp_e": lambda found: (
        found["potential_hartree_per_e"] - found["nuclear_potential_hartree_per_e"]
    ),
    "extra_feat_bond_esp_total": lambda found: found["potential_hartree_per_e"],
}
"""Columns from those of `denser.analysis.topology.bond_points.BondPoints`."""

CHARGES = ("hirshfeld", "cm5", "adch", "mbis")
"""Kinds of charges, whose columns are called `KIND_charge`."""


def table(molecules: Sequence[ChargedMolecule]) -> dict[str, list[Any]]:
    """A row for each molecule; the bonds are those with a critical point, atoms count from 0."""
    rows = []
    for molecule in molecules:
        found = molecule.bond_properties
        good = np.isfinite(found["density_e_per_bohr3"]) if found else np.zeros(0, dtype=bool)
        pairs = np.sort(molecule.bonds.pairs[np.flatnonzero(good)], axis=1).tolist()
        row: dict[str, Any] = {"ids": molecule.name, "names": molecule.title}
        row |= {"elements": molecule.structure.symbols}
        row |= {"bonds": pairs, "extra_feat_bond_indices_qtaim": pairs}
        for name, of in BONDS.items():
            values = of(found)[good] if found else []
            row[name] = [float(f"{x:.6g}") for x in values]
        row |= {
            f"{kind}_charge": q.tolist() for kind, q in molecule.charges.items() if kind in CHARGES
        }
        rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}
