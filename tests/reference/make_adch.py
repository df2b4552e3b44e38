"""Hirshfeld charges and dipoles of acetamide by PySCF alone, for ADCH charges.

B3LYP/6-31G*, at its own geometry. Free atoms are those of make_stockholder.py. Nothing here goes
through denser. Charges published beside it: the manual of Multiwfn, section 4.7.2.

    python tests/reference/make_adch.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyscf
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.optimize import BFGS
from ase.units import Bohr, Hartree
from make_stockholder import free_atom
from pyscf import dft, gto
from rdkit import Chem
from rdkit.Chem import AllChem

FOLDER = Path(__file__).parent


def mean_field(symbols: list[str], positions: np.ndarray) -> dft.rks.RKS:
    """Converged B3LYP/6-31G*; positions in angstrom."""
    mol = gto.M(
        atom=list(zip(symbols, positions.tolist(), strict=True)),
        basis="6-31g*",
        cart=True,
        verbose=0,
    )
    mf = dft.RKS(mol, xc="b3lyp").density_fit()
    mf.conv_tol = 1e-9
    mf.kernel()
    if not mf.converged:
        raise RuntimeError("the SCF did not converge")
    return mf


class B3LYP(Calculator):
    """Energy and forces for ASE."""

    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        """Fill `results`."""
        super().calculate(atoms, properties, system_changes)
        mf = mean_field(atoms.get_chemical_symbols(), atoms.positions)
        forces = -mf.nuc_grad_method().kernel() * Hartree / Bohr
        self.results = {"energy": mf.e_tot * Hartree, "forces": forces}


def main() -> None:
    """Write adch.json beside this file."""
    molecule = Chem.AddHs(Chem.MolFromSmiles("CC(=O)N"))
    AllChem.EmbedMolecule(molecule, randomSeed=1)
    AllChem.MMFFOptimizeMolecule(molecule)
    symbols = [atom.GetSymbol() for atom in molecule.GetAtoms()]
    atoms = Atoms(symbols, molecule.GetConformer().GetPositions())
    atoms.calc = B3LYP()
    BFGS(atoms).run(fmax=0.01, steps=40)
    mf = mean_field(symbols, atoms.positions)
    grids = dft.gen_grid.Grids(mf.mol)
    grids.atom_grid, grids.prune = (100, 434), None
    grids.build()
    ao = dft.numint.eval_ao(mf.mol, grids.coords)
    rho = np.einsum("pi,pi->p", ao @ mf.make_rdm1(), ao) * grids.weights
    vectors = grids.coords - mf.mol.atom_coords()[:, None]
    r = np.linalg.norm(vectors, axis=-1)
    kinds = {symbol: free_atom(symbol) for symbol in set(symbols)}
    free = np.array([kinds[s](d) for s, d in zip(symbols, r, strict=True)])
    share = free / np.maximum(free.sum(axis=0), 1e-300) * rho
    data = {
        "program": f"PySCF {pyscf.__version__}",
        "settings": "RKS B3LYP/6-31G*, density fitting, relaxed to 0.01 eV/angstrom, grid "
        "(100, 434) unpruned; free atoms as in stockholder.json; charges in e, lengths in bohr",
        "numbers": atoms.numbers.tolist(),
        "positions": mf.mol.atom_coords().tolist(),
        "charges": (atoms.numbers - share.sum(axis=1)).tolist(),
        "dipoles": (-np.einsum("ap,apx->ax", share, vectors)).tolist(),
        "dipole": mf.dip_moment(unit="AU", verbose=0).tolist(),
    }
    (FOLDER / "adch.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
