"""The private names of PySCF that denser uses, each in a separate function.

PySCF may change them: attributes with an underscore, the passes of its
multigrid, the part of the pseudopotential that the multigrid keeps in reciprocal space, and pieces
of its gradients. No other file uses them, and `tests/test_pyscf_private.py` checks each one.
`denser.dft` refuses versions of PySCF that were not tested.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.fft
from pyscf import gto, lib
from pyscf.data import nist
from pyscf.gto import pp_int as molecular_pp_int
from pyscf.pbc import gto as pbcgto
from pyscf.pbc.dft import rks, uks
from pyscf.pbc.dft.multigrid import MultiGridNumInt2, multigrid_pair
from pyscf.pbc.grad import rhf as rhf_grad
from pyscf.pbc.gto.pseudo import pp_int
from pyscf.x2c import x2c

if TYPE_CHECKING:
    from denser.dft.isolated import Isolation
    from denser.dft.open_space import OpenSpace

_GAMMA = np.zeros((1, 3))


# Kohn-Sham objects


class _Isolated:
    """As in PySCF, without its report on a charged cell, and with the energy of isolation.

    The report evaluates the density on a mesh other than the requested one and fails with an
    explicit mesh.
    """

    isolation: Isolation | None = None
    open_space: OpenSpace | None = None

    def _finalize(self) -> _Isolated:
        return self

    def get_veff(
        self, cell: pbcgto.Cell | None = None, dm: np.ndarray | None = None, *args: Any, **more: Any
    ) -> np.ndarray:
        own: Any = self
        dm = np.asarray(own.make_rdm1() if dm is None else dm)
        veff = super().get_veff(cell, dm, *args, **more)  # type: ignore[misc]
        if self.isolation is None:
            return veff
        rho = density_on_mesh(own, dm)
        return lib.tag_array(
            veff + local_matrix(own, self.isolation.potential(rho)),
            ecoul=veff.ecoul + self.isolation.energy(rho),
            exc=veff.exc,
            vj=None,
            vk=None,
        )


class _RKS(_Isolated, rks.RKS):
    """Also in open space, where the part of first order is the core Hamiltonian."""

    def get_veff(
        self, cell: pbcgto.Cell | None = None, dm: np.ndarray | None = None, *args: Any, **more: Any
    ) -> np.ndarray:
        known = self.open_space
        if known is None:
            return super().get_veff(cell, dm, *args, **more)
        from denser.dft.isolated import potential_and_energy

        rho = density_on_mesh(self, np.asarray(self.make_rdm1() if dm is None else dm))
        v, energy = potential_and_energy(self, rho, known.grid)
        return lib.tag_array(
            potential_matrix(self, v),
            ecoul=energy - float(np.vdot(rho, known.potential)) * float(known.grid.dv),
            exc=0.0,
            vj=None,
            vk=None,
        )

    def get_hcore(self, *args: Any, **more: Any) -> np.ndarray:
        if self.open_space is not None:
            return self.open_space.matrix
        return super().get_hcore(*args, **more)

    def get_ovlp(self, *args: Any, **more: Any) -> np.ndarray:
        if self.open_space is not None:
            return self.open_space.overlap
        return super().get_ovlp(*args, **more)

    def energy_nuc(self) -> float:
        if self.open_space is not None:
            return self.open_space.constant
        return super().energy_nuc()


class _UKS(_Isolated, uks.UKS):
    pass


def multigrid_rks(cell: pbcgto.Cell, xc: str, isolation: Isolation | None = None) -> rks.RKS:
    """Closed-shell Kohn-Sham object at Gamma with multigrid integration and no check file.

    Parameters
    ----------
    cell : pyscf.pbc.gto.Cell
    xc : str
    isolation : Isolation, optional
        For a molecule on its own: becomes a part of energies and potentials.
    """
    return _multigrid(_RKS(cell), xc, isolation)


def multigrid_uks(cell: pbcgto.Cell, xc: str, isolation: Isolation | None = None) -> uks.UKS:
    """Spin-polarised Kohn-Sham object (`cell.spin` unpaired electrons), as `multigrid_rks`."""
    return _multigrid(_UKS(cell), xc, isolation)


def _multigrid(mf: Any, xc: str, isolation: Isolation | None) -> Any:
    mf.xc = xc
    mf.isolation = isolation
    mf._numint = MultiGridNumInt2(mf.cell)
    without_check_file(mf)
    return mf


def without_check_file(mf: Any) -> None:
    """Close PySCF's check file, which it leaves to the garbage collector, which warns."""
    mf.chkfile = None
    if getattr(mf, "_chkfile", None) is not None:
        mf._chkfile.close()


def density_on_mesh(mf: rks.RKS, dm: np.ndarray) -> np.ndarray:
    """Density of a density matrix on the cell's mesh (nx, ny, nz), e/bohr^3.

    `dm` (nao, nao); or (2, nao, nao), whose two spins are added.
    """
    dm = np.asarray(dm)
    rho = mf._numint.get_rho(mf.cell, dm if dm.ndim == 2 else dm.sum(axis=0), None)
    return np.asarray(rho).reshape(mf.cell.mesh)


# Matrices


def core_hamiltonian(mf: rks.RKS) -> np.ndarray:
    """Kinetic energy, short-ranged local and non-local pseudopotential (nao, nao), hartree.

    The long-ranged part stays in reciprocal space, see `long_range_pseudopotential`. The matrix
    is computed once and kept with `mf`. In open space it is `OpenSpace.matrix`.
    """
    if mf.open_space is not None:
        return mf.open_space.matrix
    if getattr(mf, "_denser_hcore", None) is None:
        mf._denser_hcore = np.asarray(mf.get_hcore())
    return mf._denser_hcore


def long_range_pseudopotential(mf: rks.RKS) -> np.ndarray:
    """Fourier components of the long-ranged local pseudopotential (nx, ny, nz), hartree bohr^3.

    `get_hcore` makes them; without it PySCF's multigrid leaves this part out silently.
    """
    core_hamiltonian(mf)
    return np.asarray(mf._numint.vpplocG_part1).reshape(mf.cell.mesh)


def potential_matrix(mf: rks.RKS, v: np.ndarray) -> np.ndarray:
    """Matrix of a local potential plus the long-ranged pseudopotential (nao, nao), hartree.

    Parameters
    ----------
    mf : pyscf.pbc.dft.rks.RKS
        From `multigrid_rks`.
    v : (nx, ny, nz) float
        On the cell's mesh, hartree. In open space the matrix is that of its difference from
        `OpenSpace.potential`, because `core_hamiltonian` has the potential of that density.
    """
    if mf.open_space is not None:
        change = v - mf.open_space.potential
        return local_matrix(mf, change) if change.any() else np.zeros((mf.cell.nao_nr(),) * 2)
    return _matrix_of_waves(mf, _waves(mf, v) + long_range_pseudopotential(mf))


def local_matrix(mf: rks.RKS, v: np.ndarray) -> np.ndarray:
    """Matrix of a local potential alone (nao, nao), hartree; v (nx, ny, nz) on the cell's mesh."""
    return _matrix_of_waves(mf, _waves(mf, v))


def _matrix_of_waves(mf: rks.RKS, v_g: np.ndarray) -> np.ndarray:
    matrix = multigrid_pair._get_j_pass2(mf._numint, v_g.ravel())
    return np.asarray(matrix).reshape(mf.cell.nao_nr(), -1)


def _waves(mf: rks.RKS, v: np.ndarray) -> np.ndarray:
    """Fourier components of a potential (nx, ny, nz), hartree bohr^3."""
    return scipy.fft.fftn(v, workers=lib.num_threads()) * (mf.cell.vol / v.size)


# Derivatives with respect to the atoms


def pseudopotential_gradient(mf: rks.RKS, dm: np.ndarray) -> np.ndarray:
    """Derivative of tr D V_pp with the density matrix D fixed (n_atoms, 3), hartree/bohr."""
    core_hamiltonian(mf)
    mf._numint.rhoG = None  # a density that PySCF stores from an earlier derivative
    gradient = mf._numint.vpploc_part1_nuc_grad(dm, kpts=_GAMMA)
    gradient = gradient + pp_int.vpploc_part2_nuc_grad(mf.cell, dm)
    return gradient + pp_int.vppnl_nuc_grad(mf.cell, dm)


def potential_matrix_slope(mf: rks.RKS, v: np.ndarray) -> np.ndarray:
    """<d phi_p/dr| v + long-ranged pseudopotential |phi_q> (3, nao, nao), hartree/bohr."""
    v_g = _waves(mf, v) + long_range_pseudopotential(mf)
    return multigrid_pair._get_j_pass2_ip1(mf._numint, v_g.ravel(), kpts=_GAMMA)[0]


def contract_by_atom(mf: rks.RKS, matrices: np.ndarray, dm: np.ndarray) -> np.ndarray:
    """sum_pq M_xpq D_pq over the functions p of each atom (n_atoms, 3)."""
    return rhf_grad._contract_vhf_dm(mf, matrices, dm)


def nuclear_repulsion_gradient(mf: rks.RKS) -> np.ndarray:
    """Derivative of the nuclear repulsion of the cell (n_atoms, 3), hartree/bohr."""
    return rhf_grad.grad_nuc(mf.cell)


# Molecules


def basis_and_pseudopotentials(mol: gto.Mole) -> tuple[dict, dict]:
    """Basis functions and pseudopotentials of a built molecule, by the symbols of its atoms."""
    return mol._basis, mol._pseudo


def molecule_of(cell: pbcgto.Cell, origin: np.ndarray) -> gto.Mole:
    """Molecule of a cell without its period; the cell's coordinates start at `origin` (3,)."""
    # The molecule shares its arrays with the cell, so a copy is moved.
    return cell.to_mol().set_geom_(cell.atom_coords() + origin, unit="bohr", inplace=False)


def pseudopotential_terms(mol: gto.Mole, atom: int) -> tuple[float, float, list[float]]:
    """Charge, r_loc (bohr) and C_i (hartree) of the local GTH pseudopotential of an atom."""
    shells, r_loc, _, terms = mol._pseudo[mol.atom_symbol(atom)][:4]
    return float(sum(shells)), float(r_loc), list(terms)


def nonlocal_pseudopotential(mol: gto.Mole) -> np.ndarray:
    """Non-local part of the GTH pseudopotentials of a molecule (nao, nao), hartree."""
    projectors, strengths = pp_int.fake_cell_vnl(mol)
    matrix = np.zeros((mol.nao, mol.nao))
    if not strengths:
        return matrix
    kinds = ("int1e_ovlp", "int1e_r2_origi", "int1e_r4_origi")
    overlaps = molecular_pp_int._int_vnl(mol, projectors, strengths, kinds, comp=1)
    row = [0] * len(kinds)
    for shell, strength in enumerate(strengths):
        size = 2 * projectors.bas_angular(shell) + 1
        found = []
        for i in range(len(strength)):
            found.append(overlaps[i][row[i] : row[i] + size])
            row[i] += size
        matrix += np.einsum("ilp,ij,jlq->pq", found, strength, found, optimize=True)
    return matrix


def nonlocal_pseudopotential_gradient(mol: gto.Mole, dm: np.ndarray) -> np.ndarray:
    """Derivative of tr D V_nl of a molecule with D fixed (n_atoms, 3), hartree/bohr."""
    if not pp_int.fake_cell_vnl(mol)[1]:  # hydrogen alone; PySCF fails
        return np.zeros((mol.natm, 3))
    return molecular_pp_int.vppnl_nuc_grad(mol, dm)


def contraction_coefficients(mol: gto.Mole, shell: int) -> np.ndarray:
    """Coefficients of a shell's normalised primitives (n_primitives, n_contractions)."""
    return mol._libcint_ctr_coeff(shell)


def x2c_hcore(
    kinetic: np.ndarray, potential: np.ndarray, pvp: np.ndarray, overlap: np.ndarray
) -> np.ndarray:
    """Exact two-component Hamiltonian of one electron without spin (n, n), hartree.

    Parameters
    ----------
    kinetic, potential, pvp, overlap : (n, n) float
        Matrices of -nabla^2/2, V, p V p and 1.
    """
    return x2c._x2c1e_get_hcore(kinetic, potential, pvp, overlap, nist.LIGHT_SPEED)
