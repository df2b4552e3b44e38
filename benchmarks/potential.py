"""What a fast potential on the network's features could reach: a study, not a calculator.

python benchmarks/potential.py learn             # learning curve of label energies
python benchmarks/potential.py dissociate        # water dimer and Na+ with water: long range

learn: total energies of the QM9 labels in data/ (PBE, two thirds of them distorted geometries, in
boxes of two kinds) from the features of `denser features` of each atom. The kernel is additive, as
short-range energies are: K(A, B) is the sum over atoms i of A and j of B of the same element of a
Gaussian of their features (the first --components principal components). Labels to measure on are
drawn at random, a molecule and its distorted copies together. Width and noise are chosen by the
likelihood of the labels that are learnt from.
"composition" is a linear fit to the numbers of atoms.

dissociate: interaction energy of two molecules from the multipoles (charges, dipoles and
quadrupoles) of the predicted atoms, which a short-range potential lacks, beside that of PBE in open
space in the same basis. There is no counterpoise correction.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from scipy.linalg import cho_factor, cho_solve

from denser.atoms.sad import valence_charges
from denser.dft.isolated import lattice_expansion
from denser.dft.molecular import converge
from denser.labels.held_out import why_held_out
from denser.labels.packed import PackedLabel, read_shards
from denser.model.predictor import Predictor
from denser.types.structure import Structure
from denser.types.units import HARTREE
from denser.workflows.spectrum import dipole_of_molecules

SIZES = (150, 300, 600, 1000)
N_TEST = 200
WIDTHS = (1.0, 2.0, 4.0)  # of the root mean square distance of two atoms of an element
NOISES = (1e-4, 1e-5, 1e-6)  # relative to the mean of the kernel's diagonal
"""Tried for each size."""


def labels_of_qm9(folder: Path) -> list[PackedLabel]:
    """Labels of neutral QM9 molecules that may be learnt from."""
    return [
        label
        for label in read_shards(folder)
        if label.name.startswith("qm9_")
        and label.e_tot is not None
        and not (label.structure.spin or label.structure.charge)
        and why_held_out(label.name, label.structure) is None
    ]


def of_network(labels: list[PackedLabel], file: Path) -> tuple[list[np.ndarray], np.ndarray]:
    """Features of the atoms, and dipoles, of each label's molecule; kept in a file."""
    ends = np.cumsum([len(label.structure) for label in labels])
    if file.exists():
        with np.load(file) as known:
            if np.array_equal(known["ends"], ends):
                return np.split(known["features"], ends[:-1]), known["dipoles"]
    predictor, rows, dipoles = Predictor(), [], []
    for label in labels:
        s = Structure(label.structure.numbers, label.structure.positions)
        rows.append(predictor.environments(s).astype(np.float32))
        dipoles.append(dipole_of_molecules(s, predictor))
    np.savez(file, features=np.concatenate(rows), dipoles=np.array(dipoles), ends=ends)
    return rows, np.array(dipoles)


class Kernel:
    """Additive kernels of molecules from rows of features of their atoms."""

    def __init__(
        self, structures: list[Structure], rows: list[np.ndarray], train: np.ndarray, n: int
    ) -> None:
        self.n = len(structures)
        owners = np.repeat(np.arange(self.n), [len(s) for s in structures])
        numbers = np.concatenate([s.numbers for s in structures])
        flat = np.concatenate(rows).astype(float)
        learnt = np.isin(owners, train)
        self.blocks = []
        for z in np.unique(numbers):
            of_z = numbers == z
            x = flat[of_z] - flat[of_z & learnt].mean(axis=0)
            _, size, axes = np.linalg.svd(x[learnt[of_z]], full_matrices=False)
            kept = min(n, int((size > 1e-6 * size[0]).sum()))
            x = x @ axes[:kept].T
            x /= np.sqrt(2 * (x[learnt[of_z]] ** 2).sum(axis=1).mean()) + 1e-12
            self.blocks.append((owners[of_z], x.astype(np.float32)))

    def matrix(self, width: float) -> np.ndarray:
        """Kernel of all molecules (n, n)."""
        k = np.zeros((self.n, self.n))
        for owners, x in self.blocks:
            first = np.flatnonzero(np.diff(owners, prepend=-1))
            for start in range(0, len(x), 2000):
                some = slice(start, start + 2000)
                part = x[some] @ x.T
                part -= 0.5 * (x[some] ** 2).sum(axis=1)[:, None]
                part -= 0.5 * (x**2).sum(axis=1)
                part = np.exp(part / np.float32(width**2))
                part = np.add.reduceat(part, first, axis=1).astype(float)
                np.add.at(k, (owners[some][:, None], owners[first][None]), part)
        return k


def learn(options: argparse.Namespace) -> None:
    """Print the learning curve."""
    labels = labels_of_qm9(options.labels)
    structures = [label.structure for label in labels]
    features, dipoles = of_network(labels, options.folder / "features.npz")
    # Energies are those of a box: the interaction of the dipole with its images is taken out.
    energies = np.array(
        [
            label.e_tot + 0.5 * mu @ lattice_expansion(label.grid.cell)[1] @ mu
            for label, mu in zip(labels, dipoles, strict=True)
        ]
    )
    # A molecule and its distorted copies are on the same side.
    molecules = np.array([label.molecule for label in labels])
    drawn = np.random.default_rng(7).permutation(np.unique(molecules))
    order = np.concatenate([np.flatnonzero(molecules == name) for name in drawn])
    test = order[:N_TEST]
    order = np.concatenate([test, order[~np.isin(molecules[order], molecules[test])]])
    counts = np.array([[np.sum(s.numbers == z) for z in (1, 6, 7, 8, 9)] for s in structures])
    print(
        f"{len(structures)} labels, {N_TEST} to measure on, "
        f"{np.mean([len(structures[i]) for i in test]):.1f} atoms in the mean"
    )
    print(f"{'labels':>8} {'input':26} {'mean abs. error, meV':>22} {'meV/atom':>9} {'rms':>7}")
    for n in options.sizes:
        train = order[N_TEST : N_TEST + n]
        linear = np.linalg.lstsq(counts[train], energies[train], rcond=None)[0]
        rest = energies - counts @ linear
        report("composition", n, rest[test], structures, test)
        kernel = Kernel(structures, features, train, options.components)
        best = None
        for width in WIDTHS:
            k = kernel.matrix(width)
            for noise in NOISES:
                found = fitted(k, rest, train, test, noise)
                if best is None or found[0] > best[0]:
                    best = (*found, width, noise)
        assert best is not None
        chosen = f"width {best[2]:g}, noise {best[3]:g}"
        report("features", n, rest[test] - best[1], structures, test, chosen)


def fitted(
    k: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, noise: float
) -> tuple[float, np.ndarray]:
    """Logarithm of the likelihood of the labels that are learnt from, and predictions."""
    own = k[np.ix_(train, train)]
    factor = cho_factor(own + noise * np.eye(len(train)) * np.diag(own).mean())
    weights = cho_solve(factor, y[train])
    scale = float(y[train] @ weights) / len(train)
    likelihood = -0.5 * len(train) * np.log(scale) - np.log(np.diag(factor[0])).sum()
    return likelihood, k[np.ix_(test, train)] @ weights


def report(
    name: str, n: int, errors: np.ndarray, structures: list[Structure], test: np.ndarray,
    chosen: str = "",
) -> None:  # fmt: skip
    """Print a row."""
    mev = 1000 * HARTREE * errors
    atoms = np.array([len(structures[i]) for i in test])
    print(
        f"{n:8d} {name:26} {np.abs(mev).mean():22.1f} {np.abs(mev / atoms).mean():9.2f} "
        f"{np.sqrt((mev**2).mean()):7.0f}   {chosen}",
        flush=True,
    )


def multipole_energy(structure: Structure, first: np.ndarray, predictor: Predictor) -> float:
    """Coulomb energy, hartree, between predicted atoms of two parts of a structure.

    sum_ij q_i q_j T + (q_i mu_j - mu_i q_j) . T' - mu_i . T'' . mu_j + (q_i Q_j + Q_i q_j) : T''/2
    with T = 1/r and its derivatives, and Q the second moments.

    Parameters
    ----------
    structure : Structure
    first : (n_atoms,) bool
        The atoms of one of the parts.
    predictor : Predictor
    """
    electrons, dipoles, second = predictor.gaussians(structure)[0].of_atoms()
    q, mu, quad = valence_charges(structure) - electrons, -dipoles, -second
    i, j = np.nonzero(first[:, None] & ~first[None])
    x = structure.positions[j] - structure.positions[i]
    r = np.linalg.norm(x, axis=1)
    t1 = -x / r[:, None] ** 3
    t2 = 3 * np.einsum("nx,ny->nxy", x, x) / r[:, None, None] ** 5
    t2 -= np.eye(3) / r[:, None, None] ** 3
    energy = q[i] @ (q[j] / r)
    energy += np.einsum("n,nx,nx->", q[i], mu[j], t1) - np.einsum("nx,n,nx->", mu[i], q[j], t1)
    energy -= np.einsum("nx,nxy,ny->", mu[i], t2, mu[j])
    energy += 0.5 * np.einsum("n,nxy,nxy->", q[i], quad[j], t2)
    energy += 0.5 * np.einsum("nxy,n,nxy->", quad[i], q[j], t2)
    return float(energy)


def dissociate(options: argparse.Namespace) -> None:
    """Print interaction energies at growing distances."""
    predictor = Predictor()
    water = molecule("H2O")
    water.rotate(52, "x", center=water.positions[0])  # an O-H bond points along z
    acceptor = molecule("H2O")
    acceptor.rotate(180, "x", center=acceptor.positions[0])
    pairs = {
        "water dimer": (water, acceptor, 0, 0),
        "Na+ and water": (Atoms("Na"), acceptor, 1, 0),
    }
    for name, (a, b, qa, qb) in pairs.items():
        print(
            f"{name}: r / angstrom; PBE, multipoles of the prediction, difference, meV; predicted "
            "charge of the first"
        )
        a.positions -= a.positions[0]
        b.positions -= b.positions[0]
        parts = [Structure.of(a, qa), Structure.of(b, qb)]
        alone = sum(converge(part, "gth-tzv2p").e_tot for part in parts)
        for r in options.distances:
            moved = b.copy()
            moved.translate([0, 0, r])
            pair = Structure.of(a + moved, qa + qb)
            exact = converge(pair, "gth-tzv2p").e_tot - alone
            first = np.arange(len(pair)) < len(a)
            ours = multipole_energy(pair, first, predictor)
            electrons = predictor.gaussians(pair)[0].of_atoms()[0]
            charge = (valence_charges(pair) - electrons)[first].sum()
            mev = 1000 * HARTREE
            print(
                f"  {r:5.1f} {exact * mev:10.2f} {ours * mev:10.2f} {(ours - exact) * mev:+9.2f} "
                f"{charge:+8.3f}",
                flush=True,
            )


def main() -> None:
    """Run one of the two."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("learn", "dissociate"))
    parser.add_argument("--labels", type=Path, default=Path("data"))
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--components", type=int, default=40)
    parser.add_argument(
        "--distances", type=float, nargs="+", default=[3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
    )
    parser.add_argument("--folder", type=Path, default=Path("potential"))
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    (learn if options.what == "learn" else dissociate)(options)


if __name__ == "__main__":
    main()
