"""MBIS charges beside those of horton-part, on the same densities.

    python benchmarks/mbis_peer.py [MOLECULE ...]

Molecules are names of ASE's collection. The densities are PySCF's (PBE/def2-SVP, all electrons).
horton-part (GPL) has to be installed beside denser for this script alone: pip install horton-part,
which needs SciPy below 1.17. Its grid has 120 radial and 590 angular points per atom.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time

import numpy as np
from ase.build import molecule
from pyscf import dft, gto

from denser.analysis.charges.mbis import partition
from denser.analysis.charges.quadrature import Quadrature
from denser.types.structure import Structure

_NAMES = ("H2O", "CH3OH", "H2CO", "CH3Cl")


def compare(name: str) -> None:
    """Print charges of both programs, the largest difference and CPU seconds."""
    import horton_part
    from grid import BeckeWeights, ExpRTransform, MolGrid, UniformInteger

    atoms = molecule(name)
    pairs = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
    mol = gto.M(atom=pairs, basis="def2-svp", verbose=0)
    mf = dft.RKS(mol, xc="pbe").density_fit().run()
    occupied = mf.mo_coeff[:, mf.mo_occ > 0]

    def rho(points: np.ndarray) -> np.ndarray:
        blocks = np.array_split(points, max(1, len(points) // 20_000))
        values = [2 * ((mol.eval_gto("GTOval_sph", b) @ occupied) ** 2).sum(axis=1) for b in blocks]
        return np.concatenate(values)

    structure = Structure(mol.atom_charges(), mol.atom_coords())
    quadrature = Quadrature.around(structure)
    begin = time.process_time()
    own = partition(structure, quadrature, rho(quadrature.points), mol.nelectron).charges
    middle = time.process_time()
    radial = ExpRTransform(5e-4, 20.0).transform_1d_grid(UniformInteger(120))
    numbers, positions = structure.numbers, structure.positions
    grid = MolGrid.from_size(numbers, positions, 590, radial, BeckeWeights(), store=True)
    with contextlib.redirect_stdout(io.StringIO()):
        peer = horton_part.MBISWPart(
            positions, numbers, numbers.astype(float), grid, rho(grid.points),
            threshold=1e-7, maxiter=2000,
        )  # fmt: skip
        peer.do_all()
    theirs = np.asarray(peer["charges"])
    end = time.process_time()
    print(
        f"{name:8s} largest difference {np.abs(own - theirs).max():.1e} e   "
        f"{middle - begin:6.1f} s and {end - middle:6.1f} s   {own.round(4).tolist()}",
        flush=True,
    )


def main() -> None:
    """Print a line for each molecule."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=_NAMES, metavar="MOLECULE")
    try:
        import horton_part  # noqa: F401
    except ImportError:
        raise SystemExit("install the peer first: pip install horton-part") from None
    for name in parser.parse_args().names:
        compare(name)


if __name__ == "__main__":
    main()
