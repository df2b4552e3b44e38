"""Density of occupied orbitals on any grid, computed with torch, without PySCF.

rho(r) = 2 sum_i |psi_i(r)|^2, psi_i = sum_p C_pi X_p(x) Y_p(y) Z_p(z): each primitive Gaussian
is a product of one-dimensional functions, whose periodic images are summed for each axis. The
sum over p is a matrix product for each column of the grid, over the primitives that reach it. In a
box that is not along x, y and z, images are no products: there each block of nodes has the
primitives, with their images, that reach it.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from itertools import product

import numpy as np
import torch
from ase.data import chemical_symbols

from denser.fields.periodic import images_near, wrapped
from denser.fields.windows import compact_groups, gaussian_reach
from denser.types.grid import Grid

# Real solid harmonics in PySCF's order, as {monomial (i, j, k): coefficient}.
_S, _P, _D = np.sqrt(1 / (4 * np.pi)), np.sqrt(3 / (4 * np.pi)), np.sqrt(15 / (4 * np.pi))
_Z2 = np.sqrt(5 / (16 * np.pi))
_F0, _F1 = np.sqrt(7 / (16 * np.pi)), np.sqrt(21 / (32 * np.pi))
_F2, _F3 = np.sqrt(105 / (16 * np.pi)), np.sqrt(35 / (32 * np.pi))
_HARMONICS = {
    0: [{(0, 0, 0): _S}],
    1: [{(1, 0, 0): _P}, {(0, 1, 0): _P}, {(0, 0, 1): _P}],
    2: [
        {(1, 1, 0): _D},
        {(0, 1, 1): _D},
        {(2, 0, 0): -_Z2, (0, 2, 0): -_Z2, (0, 0, 2): 2 * _Z2},
        {(1, 0, 1): _D},
        {(2, 0, 0): _D / 2, (0, 2, 0): -_D / 2},
    ],
    3: [
        {(2, 1, 0): 3 * _F3, (0, 3, 0): -_F3},
        {(1, 1, 1): 2 * _F2},
        {(0, 1, 2): 4 * _F1, (2, 1, 0): -_F1, (0, 3, 0): -_F1},
        {(0, 0, 3): 2 * _F0, (2, 0, 1): -3 * _F0, (0, 2, 1): -3 * _F0},
        {(1, 0, 2): 4 * _F1, (3, 0, 0): -_F1, (1, 2, 0): -_F1},
        {(2, 0, 1): _F2, (0, 2, 1): -_F2},
        {(3, 0, 0): _F3, (1, 2, 0): -3 * _F3},
    ],
}
_NEGLIGIBLE = 1e-8
_BLOCK = 16
_SMALL = 8
"""Nodes along each edge of a block of an oblique grid."""


@cache
def _bases() -> dict:
    return json.loads((files("denser.atoms") / "tables" / "basis.json").read_text())["elements"]


def _basis(symbol: str) -> list[dict]:
    return _bases()[symbol]["shells"]


def n_orbitals(numbers: np.ndarray) -> int:
    """Number of basis functions of atoms with these atomic numbers."""
    return sum(
        (2 * shell["l"] + 1) * len(shell["coefficients"])
        for z in numbers
        for shell in _basis(chemical_symbols[z])
    )


def primitives(
    numbers: np.ndarray, mo_coeff: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Expand orbitals in Cartesian primitives: atom, exponent, powers (n, 3), C (n, n_occ)."""
    index: dict[tuple, int] = {}
    rows: list[np.ndarray] = []
    ao = 0
    for i, z in enumerate(numbers):
        for shell in _basis(chemical_symbols[z]):
            for coefficients in shell["coefficients"]:
                for harmonic in _HARMONICS[shell["l"]]:
                    for powers, h in harmonic.items():
                        for a, c in zip(shell["exponents"], coefficients, strict=True):
                            key = (i, a, powers)
                            if key not in index:
                                index[key] = len(rows)
                                rows.append(np.zeros(mo_coeff.shape[1]))
                            rows[index[key]] += h * c * mo_coeff[ao]
                    ao += 1
    keys = list(index)
    return (
        np.array([key[0] for key in keys]),
        np.array([key[1] for key in keys]),
        np.array([key[2] for key in keys]),
        np.array(rows),
    )


def axis_functions(
    x: np.ndarray, length: float, centres: np.ndarray, exponents: np.ndarray, powers: np.ndarray
) -> np.ndarray:
    """sum_L (x - x0 - L)^n exp(-a (x - x0 - L)^2) for each primitive (n_primitives, n_nodes)."""
    reach = np.sqrt(np.log(1e9) / exponents.min())
    n_images = int(np.ceil(reach / length)) + 1
    out = np.zeros((exponents.size, x.size))
    for image in range(-n_images, n_images + 1):
        d = x[None, :] - centres[:, None] - image * length
        out += d ** powers[:, None] * np.exp(-exponents[:, None] * d * d)
    return out


def density_on_grid(
    numbers: np.ndarray,
    positions: np.ndarray,
    mo_coeff: np.ndarray,
    grid: Grid,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Density of doubly occupied orbitals on a periodic grid.

    Parameters
    ----------
    numbers : (n_atoms,) int
    positions : (n_atoms, 3) float
        Bohr, in the frame of `grid`.
    mo_coeff : (nao, nocc) float
        In PySCF's order of basis functions.
    grid : Grid
        Its box, of any shape, is the period of the orbitals.

    Returns
    -------
    (nx, ny, nz) tensor, e/bohr^3.
    """
    if mo_coeff.shape[1] == 0:  # no electron of one spin
        return torch.zeros(grid.shape, dtype=dtype, device=device)
    if not grid.is_orthorhombic:
        orbitals = _Oblique(numbers, positions, mo_coeff, grid, device, dtype)
        rho = torch.empty(grid.shape, dtype=dtype, device=device)
        starts = [range(0, n, _SMALL) for n in grid.shape]
        for corner in product(*starts):
            part = tuple(slice(i, i + _SMALL) for i in corner)
            nodes = [np.arange(n)[s] / n for n, s in zip(grid.shape, part, strict=True)]
            fractions = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1)
            points = grid.origin + fractions.reshape(-1, 3) @ grid.cell
            rho[part] = orbitals.density(points).view(fractions.shape[:3])
        return rho
    atom, exponents, powers, c = primitives(numbers, mo_coeff)
    x, y, z = (
        torch.as_tensor(
            axis_functions(
                grid.axis(i), grid.cell[i, i], positions[atom, i], exponents, powers[:, i]
            ),
            dtype=dtype,
            device=device,
        )
        for i in range(3)
    )
    # Scale so that "negligible" means the same for every primitive.
    weight = torch.as_tensor(np.abs(c).max(axis=1), dtype=dtype, device=device)
    weight = weight * z.abs().amax(dim=1)
    coefficients = torch.as_tensor(c, dtype=dtype, device=device)
    nx, ny, nz = grid.shape
    rho = torch.empty((nx, ny, nz), dtype=dtype, device=device)
    peak = [
        torch.stack([f[:, i : i + _BLOCK].abs().amax(dim=1) for i in range(0, n, _BLOCK)])
        for f, n in ((x, nx), (y, ny))
    ]
    for bx, i in enumerate(range(0, nx, _BLOCK)):
        for by, j in enumerate(range(0, ny, _BLOCK)):
            near = torch.nonzero(peak[0][bx] * peak[1][by] * weight > _NEGLIGIBLE).squeeze(1)
            if near.numel() == 0:
                rho[i : i + _BLOCK, j : j + _BLOCK] = 0.0
                continue
            xy = x[near, i : i + _BLOCK, None] * y[near, None, j : j + _BLOCK]  # (p, bx, by)
            zc = coefficients[near, :, None] * z[near, None, :]  # (p, i, z)
            psi = xy.flatten(1).T @ zc.flatten(1)  # (bx by, i z)
            block = psi.square_().view(xy.shape[1], xy.shape[2], c.shape[1], nz).sum(dim=2)
            rho[i : i + _BLOCK, j : j + _BLOCK] = 2.0 * block
    return rho


def density_at_points(
    numbers: np.ndarray, positions: np.ndarray, mo_coeff: np.ndarray, grid: Grid, points: np.ndarray
) -> np.ndarray:
    """Density of the same orbitals at any points (n, 3) in bohr: (n,) float64, e/bohr^3.

    Parameters
    ----------
    numbers, positions, mo_coeff, grid
        As in `density_on_grid`.
    points : (n, 3) float
        Bohr, in the frame of `grid` and inside its box.
    """
    if not grid.is_orthorhombic:
        orbitals = _Oblique(numbers, positions, mo_coeff, grid)
        points = wrapped(points, grid.cell, grid.origin)
        rho = np.empty(len(points))
        for some in compact_groups(points, _SMALL**3):
            rho[some] = orbitals.density(points[some]).numpy()
        return rho
    atom, exponents, powers, c = primitives(numbers, mo_coeff)
    # Primitives of one atom and exponent differ only in their powers of x, y and z.
    (centre, alpha), pair = np.unique(np.stack([atom, exponents]), axis=1, return_inverse=True)
    reach = np.sqrt(np.log(1e9) / alpha.min())
    values = np.ones((exponents.size, len(points)))
    for i in range(3):
        length = grid.cell[i, i]
        d = points[:, i] - positions[centre.astype(int), i, None]  # (pair, point)
        d -= length * np.round(d / length)
        n_images = int(reach / length + 0.5)
        f = np.zeros((powers.max() + 1, *d.shape))
        for image in range(-n_images, n_images + 1):
            x = d - image * length
            term = np.exp(-alpha[:, None] * x * x)
            for power in f:
                power += term
                term = term * x
        values *= f[powers[:, i], pair.ravel()]
    return 2.0 * np.square(c.T @ values).sum(axis=0)


class _Oblique:
    """Orbitals of a box of any shape, for points that are close together.

    Parameters
    ----------
    numbers, positions, mo_coeff, grid, device, dtype
        As in `density_on_grid`.
    """

    def __init__(
        self,
        numbers: np.ndarray,
        positions: np.ndarray,
        mo_coeff: np.ndarray,
        grid: Grid,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        atom, exponents, powers, c = primitives(numbers, mo_coeff)
        # Primitives of one atom and exponent are a shell: they differ only in their powers.
        (centre, alphas), shell = np.unique(
            np.stack([atom, exponents]), axis=1, return_inverse=True
        )
        shell = shell.ravel()
        size = np.zeros(len(alphas))
        np.maximum.at(size, shell, np.abs(c).max(axis=1))
        reach = gaussian_reach(size, alphas, int(powers.sum(axis=1).max()), _NEGLIGIBLE)
        self.centres, self.shells = images_near(positions[centre.astype(int)], grid, reach)
        self.reach, self.alphas = reach[self.shells], alphas[self.shells]
        kinds, kind = np.unique(powers, axis=0, return_inverse=True)
        rows = np.full((len(kinds), len(alphas)), -1)
        rows[kind.ravel(), shell] = np.arange(len(c))
        self.terms = list(zip(kinds.tolist(), rows, strict=True))
        self.coefficients = torch.as_tensor(c, dtype=dtype, device=device)

    def density(self, points: np.ndarray) -> torch.Tensor:
        """Density (n,), e/bohr^3, at points (n, 3) that are close together, in the box."""
        c = self.coefficients
        middle = points.mean(axis=0)
        radius = np.linalg.norm(points - middle, axis=1).max()
        distance = np.linalg.norm(self.centres - middle, axis=1)
        near = np.flatnonzero(distance < self.reach + radius)
        d = (points - self.centres[near, None]).transpose(2, 0, 1)  # (3, image, point)
        xyz = torch.as_tensor(d, dtype=c.dtype, device=c.device)
        alphas = torch.as_tensor(self.alphas[near, None], dtype=c.dtype, device=c.device)
        gaussians = torch.exp(-alphas * xyz.square().sum(dim=0))
        psi = c.new_zeros(c.shape[1], len(points))
        for powers, rows in self.terms:
            row = rows[self.shells[near]]
            has = np.flatnonzero(row >= 0)
            values = gaussians[has]
            for x, power in zip(xyz, powers, strict=True):
                if power:
                    values = values * x[has] ** power
            psi.addmm_(c[row[has]].T, values)
        return 2.0 * psi.square_().sum(dim=0)
