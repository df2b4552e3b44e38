"""Make `bader.json`: atomic basins by atom-centred quadrature along gradient paths.

    python tests/reference/make_bader.py

Independent of the grid, the splines and the basins of `denser.analysis`: every density is
evaluated from its Gaussians by PySCF 2.14.0 at every point. "completed" are the orbitals of
`labels/` (PBE/GTH-TZV2P), taken for isolated molecules, with the cores of free atoms added;
"all-electron" is PBE/cc-pVTZ (grid level 4, conv_tol 1e-10) in the same geometry. From each
nucleus rays run along a Lebedev grid of 974 directions; points every 0.1 to 0.25 bohr go to
the nucleus where the steepest ascent from them ends (fourth-order Runge-Kutta in the arc
length, step 0.08 bohr), changes along a ray are bisected to 1e-4 bohr, and what is inside is
integrated by 16 Gauss-Legendre points per interval of `EDGES`, volumes every 0.01 bohr. The sum
of the electrons, which nothing enforces, and the integral of the Laplacian say how good the
basins are.
"""

import json
from pathlib import Path

import numpy as np

from denser.atoms.free_atoms import free_atom
from denser.dft.cell import build_cell
from denser.labels.reading import read_label

from pyscf import dft, gto  # isort: skip
from pyscf.dft.gen_grid import MakeAngularGrid  # isort: skip

HERE = Path(__file__).parent
ISOSURFACE = 1e-3
EDGES = [0, 0.02, 0.1, 0.3, 0.6, 1.0, 1.7, 2.5, 4, 6, 8]


def completed(name):
    label = read_label(HERE / "labels" / f"{name}.npz")
    mol = build_cell(label.structure, label.grid).to_mol()
    mol.set_geom_(label.structure.positions, unit="bohr")
    return mol, label.mo_coeff, label.structure.numbers


def all_electron(name):
    structure = read_label(HERE / "labels" / f"{name}.npz").structure
    mol = gto.M(
        atom=list(zip(structure.symbols, structure.positions, strict=True)),
        unit="bohr",
        basis="cc-pvtz",
        verbose=0,
    )
    mf = dft.RKS(mol, xc="pbe")
    mf.grids.level = 4
    mf.conv_tol = 1e-10
    mf.kernel()
    return mol, mf.mo_coeff[:, mf.mo_occ > 0], np.zeros(0, dtype=int)


def evaluate(mol, c, cores, points, order=1):
    """Density, gradient and (order 2) Laplacian."""
    psi = mol.eval_gto(f"GTOval_sph_deriv{order}", points) @ c
    rho = 2 * (psi[0] ** 2).sum(axis=1)
    gradient = 4 * np.einsum("ni,xni->nx", psi[0], psi[1:4])
    if order == 2:
        squares = (psi[1:4] ** 2).sum(axis=(0, 2))
        laplacian = 4 * (squares + (psi[0] * (psi[4] + psi[7] + psi[9])).sum(axis=1))
    for z, centre in zip(cores, mol.atom_coords()[: len(cores)], strict=True):
        r = np.maximum(np.linalg.norm(points - centre, axis=1), 1e-9)
        near = r < 4
        value, slope, curvature = free_atom(int(z)).core_derivatives(r[near])
        rho[near] += value
        gradient[near] += (slope / r[near])[:, None] * (points - centre)[near]
        if order == 2:
            laplacian[near] += curvature + 2 * slope / r[near]
    return (rho, gradient) if order == 1 else (rho, gradient, laplacian)


def ends(mol, c, cores, points, step=0.08):
    """Nucleus at which the steepest ascent through each point ends, -1 if none."""
    nuclei = mol.atom_coords()
    x, out = points.copy(), np.full(len(points), -1)

    def direction(p):
        g = evaluate(mol, c, cores, p)[1]
        return g / np.maximum(np.linalg.norm(g, axis=1), 1e-30)[:, None]

    for _ in range(2000):
        left = np.flatnonzero(out < 0)
        if left.size == 0:
            break
        p = x[left]
        distance = np.linalg.norm(p[:, None] - nuclei, axis=-1)
        out[left] = np.where(distance.min(axis=1) < 0.16, distance.argmin(axis=1), -1)
        k1 = direction(p)
        k2 = direction(p + step / 2 * k1)
        k3 = direction(p + step / 2 * k2)
        k4 = direction(p + step * k3)
        x[left] = p + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return out


def basin(mol, c, cores, a):
    """Electrons, volume to the isosurface and integral of the Laplacian of basin `a`."""
    centre = mol.atom_coord(a)
    angular = MakeAngularGrid(974)
    rays, weights = angular[:, :3], angular[:, 3]
    scan = np.concatenate([np.arange(0.1, 2, 0.1), np.arange(2, 8.01, 0.25)])
    points = centre + scan[:, None, None] * rays  # (r, rays, 3)
    inside = (ends(mol, c, cores, points.reshape(-1, 3)) == a).reshape(len(scan), len(rays))
    inside = np.vstack([np.ones((1, len(rays)), bool), inside])
    scan = np.concatenate([[0.0], scan])
    k, ray = np.nonzero(inside[1:] != inside[:-1])
    low, high, was = scan[k].copy(), scan[k + 1].copy(), inside[k, ray]
    for _ in range(11):
        middle = (low + high) / 2
        same = (ends(mol, c, cores, centre + middle[:, None] * rays[ray]) == a) == was
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    nodes, w = np.polynomial.legendre.leggauss(16)
    total, fine = np.zeros(3), np.arange(0.005, EDGES[-1], 0.01)
    for i in range(len(rays)):
        cuts = np.sort((low + high)[ray == i] / 2)
        if not inside[-1, i] and cuts.size % 2 == 0:
            raise RuntimeError("a ray's intervals do not add up")
        edges = np.unique(np.concatenate([EDGES, cuts]))
        for r0, r1 in zip(edges[:-1], edges[1:], strict=True):
            if np.searchsorted(cuts, (r0 + r1) / 2) % 2:
                continue
            r = (r0 + r1) / 2 + (r1 - r0) / 2 * nodes
            rho, _, laplacian = evaluate(mol, c, cores, centre + r[:, None] * rays[i], 2)
            f = np.stack([rho, np.zeros_like(rho), laplacian])
            total += 4 * np.pi * weights[i] * (r1 - r0) / 2 * (f * r * r) @ w
        dense = evaluate(mol, c, cores, centre + fine[:, None] * rays[i])[0] > ISOSURFACE
        dense &= np.searchsorted(cuts, fine) % 2 == 0
        total[1] += 4 * np.pi * weights[i] * 0.01 * (fine[dense] ** 2).sum()
    return total


def main():
    out = {}
    for name, make, basins in (
        ("H2O", completed, [0, 1, 1]),  # the hydrogens are equal
        ("H2O", all_electron, [0, 1, 1]),
        ("H2CO", completed, [0, 1, 2, 2]),
    ):
        mol, c, cores = make(name)
        done = {a: basin(mol, c, cores, a) for a in set(basins)}
        rows = np.array([done[a] for a in basins])
        out[f"{name} {make.__name__}"] = {
            "electrons": rows[:, 0].round(5).tolist(),
            "volumes_bohr3": rows[:, 1].round(2).tolist(),
            "laplacians": rows[:, 2].round(5).tolist(),
            "sum_of_electrons": round(float(rows[:, 0].sum()), 5),
        }
        (HERE / "bader.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
