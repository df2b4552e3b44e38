"""Arrays of MBIS that EMLE, an embedding of machine-learning potentials, is trained with.

They are arguments of `EMLETrainer.train` of emle-engine: z and xyz (angstrom) of the atoms, s the
width of the valence shell (bohr), q_val the charge of its electrons and q_core that of nucleus and
core (e), each (n_molecules, n_atoms) and zero beyond the atoms of a molecule. Its polarizabilities
are not in them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from denser.types.errors import InputError
from denser.types.units import BOHR

if TYPE_CHECKING:
    from denser.io.charges import ChargedMolecule

ELECTRONS, WIDTH = "mbis_valence_electrons", "mbis_valence_width_angstrom"
"""Properties that are needed."""


def emle_arrays(molecules: Sequence[ChargedMolecule]) -> bytes:
    """Content of a .npz file; single ions, which have no shells, are left out.

    Raises
    ------
    InputError
        No molecule has the properties.
    """
    known = [molecule for molecule in molecules if ELECTRONS in molecule.properties]
    if not known:
        raise InputError(
            "no molecule has shells of MBIS, which .npz files hold; give --charges mbis "
            "--multipoles, and molecules of two atoms or more"
        )
    shape = len(known), max(len(molecule.structure) for molecule in known)
    z, xyz = np.zeros(shape, dtype=int), np.zeros((*shape, 3))
    s, q_core, q_val = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for i, molecule in enumerate(known):
        n, electrons = len(molecule.structure), np.asarray(molecule.properties[ELECTRONS])
        z[i, :n] = molecule.structure.numbers
        xyz[i, :n] = np.round(molecule.structure.positions * BOHR, 6)
        s[i, :n] = np.asarray(molecule.properties[WIDTH]) / BOHR
        q_val[i, :n] = -electrons
        q_core[i, :n] = molecule.charges["mbis"] + electrons
    file = io.BytesIO()
    np.savez_compressed(file, z=z, xyz=xyz, s=s, q_core=q_core, q_val=q_val)
    return file.getvalue()
