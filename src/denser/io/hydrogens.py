"""Add the hydrogens that PDB and mmCIF files of proteins and nucleic acids lack, with hydride.

P. Kunzmann, J. M. Anter, K. Hamacher, J. Cheminform. 14, 28 (2022): the surroundings of each heavy
atom in the PDB's dictionary of components give the places of its hydrogens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from warnings import catch_warnings, simplefilter

import gemmi
import numpy as np

from denser.io.residues import ResidueAtom
from denser.types.errors import InputError

PH = 7.0
"""For the charges of amino acids."""

LENGTHS = {"C": 1.09, "N": 1.015, "O": 0.98, "S": 1.34}
"""Bonds to hydrogen, angstrom: means of neutron diffraction (F. H. Allen, I. J. Bruno, Acta Cryst.
B66, 380, 2010; S-H of gas-phase thiols). Those of the dictionary are shorter by up to 0.05."""

_DISULFIDE = 2.5
"""Two sulfur atoms SG nearer than this are bonded, angstrom."""


def with_hydrogens(sites: Sequence[ResidueAtom], notes: list[str]) -> list[ResidueAtom]:
    """Add hydrogens to the residues that have none; notes say what was done.

    Amino acids get their charges at pH 7, phosphates of nucleotides -1. Other molecules are as in
    the PDB's dictionary, mostly neutral; molecules that it does not have are left as they are.

    Parameters
    ----------
    sites : sequence of ResidueAtom
        Without alternate locations, the atoms of a residue one after the other.
    notes : list of str
        Sentences are added to it.

    Raises
    ------
    InputError
        hydride is not installed.
    """
    complete = {site.residue for site in sites if site.element in ("H", "D")}
    bare = np.array([site.residue not in complete for site in sites])
    if not bare.any():
        return list(sites)
    try:
        import hydride
        from biotite.structure import AtomArray, connect_via_residue_names
    except ImportError as error:
        raise InputError(
            "hydrogens of proteins are added by hydride: pip install 'denser[proteins]'"
        ) from error
    keys = {residue: i for i, residue in enumerate(dict.fromkeys(s.residue for s in sites))}
    atoms = AtomArray(len(sites))
    atoms.coord = np.array([site.position for site in sites], dtype=np.float32)
    atoms.element = np.array([site.element.upper() for site in sites])
    atoms.atom_name = np.array([site.name for site in sites])
    atoms.res_name = np.array([site.kind for site in sites])
    atoms.chain_id = np.array([site.residue[0] for site in sites])
    atoms.res_id = np.array([keys[site.residue] for site in sites])
    atoms.bonds = connect_via_residue_names(atoms)
    _join_disulfides(atoms)
    own = np.array([site.charge for site in sites])
    atoms.set_annotation("charge", np.where(own == 0, _charges(atoms, hydride), own))
    lonely = ~np.isin(np.arange(len(sites)), atoms.bonds.as_array()[:, :2])
    unknown = lonely & np.isin(atoms.element, ("C", "N", "P", "S"))
    with catch_warnings():
        simplefilter("ignore")  # atoms that it does not know; they are told below
        grown, old = hydride.add_hydrogen(atoms, mask=bare & ~(lonely & (atoms.element != "O")))
    if len(grown) == len(sites):
        return list(sites)
    grown.coord = hydride.relax_hydrogen(grown, mask=~old)
    _stretch(grown, ~old)
    notes.append(
        f"{len(grown) - len(sites)} hydrogens added by hydride: amino acids with their charges at "
        f"pH {PH:g}, other molecules as in the PDB's dictionary"
    )
    left = sorted({sites[int(i)].kind for i in np.flatnonzero(unknown & bare)})
    if left:
        notes.append(f"no hydrogens were added to {', '.join(left)}, which it does not know")
    first = {keys[site.residue]: site for site in sites}
    return [
        replace(
            first[number],
            element=str(element).capitalize(),
            position=(float(x), float(y), float(z)),
            name=str(name),
            charge=int(charge),
        )
        for element, (x, y, z), charge, number, name in zip(
            grown.element, grown.coord, grown.charge, grown.res_id, grown.atom_name, strict=True
        )
    ]


def _charges(atoms: Any, hydride: Any) -> np.ndarray:
    """Formal charges of the atoms (n_atoms,)."""
    charges = np.asarray(hydride.estimate_amino_acid_charges(atoms, PH), dtype=int)
    kinds = {kind: gemmi.find_tabulated_residue(str(kind)) for kind in set(atoms.res_name)}
    nucleic = np.array([kinds[kind].is_nucleic_acid() for kind in atoms.res_name])
    charges[nucleic] = np.where(atoms.atom_name[nucleic] == "OP2", -1, 0)
    return charges


def _stretch(atoms: Any, added: np.ndarray) -> None:
    """Give the bonds of added hydrogens their usual length."""
    pairs = atoms.bonds.as_array()[:, :2]
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    for light, heavy in pairs[added[pairs[:, 0]]]:
        if length := LENGTHS.get(str(atoms.element[heavy]).capitalize()):
            bond = atoms.coord[light] - atoms.coord[heavy]
            atoms.coord[light] = atoms.coord[heavy] + bond * (length / np.linalg.norm(bond))


def _join_disulfides(atoms: Any) -> None:
    """Add the bonds between sulfur atoms of cysteines that are near each other."""
    (sulfur,) = np.nonzero((atoms.atom_name == "SG") & (atoms.res_name == "CYS"))
    for k, i in enumerate(sulfur):
        for j in sulfur[k + 1 :]:
            if np.linalg.norm(atoms.coord[i] - atoms.coord[j]) < _DISULFIDE:
                atoms.bonds.add_bond(int(i), int(j), 1)
