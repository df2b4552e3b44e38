"""Form factors of the Hirshfeld atoms of an all-electron molecule, made with PySCF alone.

python tests/reference/make_form_factors.py tests/reference

All-electron PBE of the water molecule in labels/H2O.npz, and of its free atoms (spherically
averaged, spin-restricted), in aug-cc-pVQZ; the atoms f_a(q) = integral w_a rho exp(i q.(r - R_a))
on PySCF's atom-centred grids, level 8. Nothing of denser is used.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyscf
from pyscf import dft, gto
from pyscf.scf import atom_ks

BASIS = "aug-cc-pvqz"


def main() -> None:
    folder = Path(sys.argv[1])
    with np.load(folder / "labels" / "H2O.npz") as label:
        numbers, positions = label["numbers"], label["positions"]
    mol = gto.M(
        atom=[[int(z), x] for z, x in zip(numbers, positions, strict=True)],
        basis=BASIS,
        verbose=0,
    )
    mf = dft.RKS(mol, xc="pbe")
    mf.grids.level = 6
    mf.conv_tol = 1e-10
    mf.kernel()
    grids = dft.gen_grid.Grids(mol)
    grids.level, grids.prune = 8, None
    grids.build()
    points, weights = grids.coords, grids.weights
    dm = mf.make_rdm1()
    rho = mf._numint.get_rho(mol, dm, grids)
    free = []
    for symbol, centre in zip(mol.elements, mol.atom_coords(), strict=True):
        atom = gto.M(atom=[[symbol, centre]], basis=BASIS, unit="B", spin=None, verbose=0)
        _, _, c, occ = atom_ks.get_atm_nrks(atom, xc="pbe")[symbol]
        ao = atom.eval_gto("GTOval", points)
        free.append(((ao @ c) ** 2 * occ).sum(axis=1))
    shares = np.array(free) / np.sum(free, axis=0)
    rng = np.random.default_rng(5)
    q = rng.normal(size=(60, 3))
    q *= (np.linspace(0.05, 6.0, 60) / np.linalg.norm(q, axis=1))[:, None]
    f = []
    for share, centre in zip(shares, mol.atom_coords(), strict=True):
        phase = np.exp(1j * (points - centre) @ q.T)
        f.append((weights * share * rho) @ phase)
    f = np.array(f)
    out = {
        "program": f"PySCF {pyscf.__version__}, RKS PBE/{BASIS}, grids of level 8, unpruned",
        "what": "Hirshfeld atoms of all-electron water; q in 1/bohr, f in electrons",
        "q": q.tolist(),
        "f_real": f.real.tolist(),
        "f_imag": f.imag.tolist(),
        "populations": ((shares * rho) @ weights).tolist(),
    }
    (folder / "form_factors_water.json").write_text(json.dumps(out) + "\n")


if __name__ == "__main__":
    main()
