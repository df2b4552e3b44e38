"""A learned propagator of electrons in real time, beside the exact one and simpler ones.

    python examples/learned_propagator.py FOLDER            # an hour of one core
    python examples/learned_propagator.py FOLDER --short    # 10 s: H2 alone

After a weak kick the density matrix P between virtual orbitals a and occupied orbitals i of the
ground state, X = P_ai, obeys to first order

    i dX/dt = D X + 4 K Re X,    D_ai = e_a - e_i,    K = (ai | 1/r + f_xc | bj).

With y = D^(-1/2) Re X this is y'' = -W y, W = D^(1/2) (D + 4 K) D^(1/2). So cosines and sines of
the square roots of W's eigenvalues carry X over any time at once. For any symmetric K with positive
W this conserves the energy and can be reversed in time.

The Coulomb part of K is exact, from integrals that the ground state has anyway. Exchange and
correlation are learned: at each point of a coarse quadrature a network of the density and its
gradient gives the change of the potential by a change of both,

    (ai | f_xc | bj) = sum_g w_g sum_xy r^x_ai(g) f_xy(g) r^y_bj(g),

r = (phi_a phi_i, its gradient), in a form that turns with the molecule. It learns from short
trajectories of `denser.dft.real_time.Propagation`: along them the matrix F says what K makes of X.

Then 10 fs of molecules and geometries that it has not seen are compared with exact propagations,
with linear response with PBE's own kernel at the same points, and with dynamic mode decomposition,
a linear map that is fitted to the first part of the exact propagation itself.

The files in FOLDER are used again: the same command continues after an interruption.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from pyscf import dft, lib
from pyscf.dft import numint

from denser.analysis.absorption import absorption
from denser.dft.external_field import Kick
from denser.dft.molecular import converge
from denser.dft.real_time import STATIONARY, GroundState, Operators, Propagation
from denser.io.files import replacing
from denser.types.recipe import Recipe
from denser.types.structure import Structure
from denser.types.units import FEMTOSECOND, HARTREE

BASIS = "gth-dzvp"
STEP = 0.01 / FEMTOSECOND  # atomic units
STRENGTH = 1e-3  # of the kicks of the tests, 1/bohr
UP_TO = 18.0  # eV, of peaks that are compared
CLEAR = 0.05  # height of the peaks that are looked for, of the highest
HIGHEST = 30.0  # eV, of transitions whose motion is compared: STEP shifts higher ones
SEEN = ("H2", "LiH", "HF", "H2O", "NH3", "CH4", "C2H2", "C2H4", "H2CO", "HCN", "N2", "CO")
DISTORTED = ("LiH", "H2O", "C2H4", "H2CO")  # geometries that were not learned from
UNSEEN = ("H2O2", "CO2", "CH3OH")
LEARN_EVERY = 4  # steps
LEAST_DENSITY = 1e-6  # e/bohr^3


@dataclass(frozen=True)
class Size:
    """How much is learned and tested."""

    seen: tuple[str, ...] = SEEN
    geometries: int = 3  # of each molecule
    kicks: int = 3  # of each geometry
    steps: int = 100  # of each trajectory
    distorted: tuple[str, ...] = DISTORTED
    unseen: tuple[str, ...] = UNSEEN
    long: int = 1000  # steps of the tests
    pieces: tuple[int, ...] = (100, 200, 400)  # that the decomposition is fitted to
    epochs: int = 300
    strong: tuple[float, ...] = (0.01, 0.03, 0.1)  # kicks, 1/bohr


SHORT = Size(("H2",), 2, 2, 24, ("H2",), (), 60, (20,), 150, ())


def distorted(name: str, rng: np.random.Generator) -> Atoms:
    """A molecule of ASE's G2 set whose coordinates are moved by 0.06 angstrom (rms)."""
    atoms = molecule(name)
    atoms.positions += rng.normal(scale=0.06, size=atoms.positions.shape)
    return atoms


# Exact trajectories


def kept(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of a file, or new ones with the CPU time that they took, which are written."""
    if not path.is_file():
        begin = time.process_time()
        arrays = make()
        seconds = np.array(time.process_time() - begin)
        with replacing(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, seconds=seconds, **arrays)
    with np.load(path) as file:
        return dict(file)


def ground_state(path: Path, atoms: Atoms) -> tuple[Operators, float]:
    """Ground state and the CPU seconds that it took."""
    structure = Structure.of(atoms)
    names = ("mo_coeff", "mo_energy", "mo_occ")

    def make() -> dict[str, np.ndarray]:
        result = converge(structure, BASIS, conv_tol=STATIONARY)
        ground = GroundState.of(structure, Recipe(), result)
        return {name: getattr(ground, name) for name in names}

    found = kept(path, make)
    ground = GroundState(structure, BASIS, Recipe(), *(found[name] for name in names))
    return Operators(ground), float(found["seconds"])


def trajectory(
    path: Path, made: Operators, strength: float, direction: np.ndarray, steps: int
) -> dict[str, np.ndarray]:
    """X and change of F (steps + 1, n_virtual, n_occupied) after a kick, and dipoles."""

    def make() -> dict[str, np.ndarray]:
        run = Propagation(made, Kick(strength), direction, STEP)
        n = int(np.count_nonzero(made.ground.mo_occ))
        x, f = [], []
        for step in range(steps + 1):
            if step:
                run.advance()
            c = run.state.orbitals[0]
            x.append(c[n:] @ c[:n].conj().T)
            f.append((run.state.matrices[0] - run.state.reference)[0, n:, :n])
        return {
            "x": np.array(x, np.complex64),
            "f": np.array(f, np.float32),
            "dipoles": np.array(run.state.dipoles),
        }

    return kept(path, make)


# Linear response


class Pairs:
    """What kernels need to know of pairs of a virtual and an occupied orbital.

    Parameters
    ----------
    made : Operators
        Of a closed shell.

    Attributes
    ----------
    gaps : (n_pairs,) float
        Hartree.
    coulomb : (n_auxiliary, n_pairs) float
        (ai | bj) is its square.
    weights, rho : (n_points,), (4, n_points) float
        Quadrature, density and its gradient.
    products : (4, n_points, n_pairs) float
        phi_a phi_i and its gradient.
    dipole : (3, n_pairs) float
        <a| r |i>, bohr.
    """

    def __init__(self, made: Operators) -> None:
        ground, self.xc = made.ground, made.mf.xc
        n = int(np.count_nonzero(ground.mo_occ))
        occupied, virtual = ground.mo_coeff[0][:, :n], ground.mo_coeff[0][:, n:]
        levels = ground.mo_energy[0]
        self.gaps = (levels[n:, None] - levels[None, :n]).ravel()
        self.dipole = made.position[0][:, n:, :n].reshape(3, -1)
        blocks = [lib.unpack_tril(block) for block in made.mf.with_df.loop()]
        half = np.concatenate([block @ occupied for block in blocks])
        self.coulomb = (virtual.T @ half).reshape(len(half), -1)
        grids = dft.gen_grid.Grids(made.mf.mol)
        grids.level = 0
        grids.build()
        values = numint.eval_ao(made.mf.mol, grids.coords, deriv=1)
        i, a = values @ occupied, values @ virtual
        rho = np.concatenate([[2 * (i[0] ** 2).sum(axis=1)], 4 * (i[1:] * i[0]).sum(axis=2)])
        used = rho[0] > LEAST_DENSITY
        i, a = i[:, used], a[:, used]
        self.weights, self.rho = grids.weights[used], rho[:, used]
        products = a[:, :, :, None] * i[0][None, :, None, :]
        products[1:] += a[0][None, :, :, None] * i[1:, :, None, :]
        self.products = products.reshape(4, len(self.weights), -1)

    def kernel(self, f_xc: np.ndarray | None) -> np.ndarray:
        """K (n_pairs, n_pairs) with f_xc (4, 4, n_points), or of Coulomb alone, hartree."""
        k = self.coulomb.T @ self.coulomb
        for x in range(4 if f_xc is not None else 0):
            weighted = np.einsum("yg,ygp->gp", f_xc[x] * self.weights, self.products)
            k += self.products[x].T @ weighted
        return 0.5 * (k + k.T)

    def exact(self) -> np.ndarray:
        """f_xc (4, 4, n_points) of the functional itself."""
        return numint.NumInt().eval_xc_eff(self.xc, self.rho, deriv=2, xctype="GGA")[2]


class LinearPropagator:
    """Carries X over any time.

    Parameters
    ----------
    gaps : (n_pairs,) float
    kernel : (n_pairs, n_pairs) float
        Symmetric.

    Raises
    ------
    ValueError
        The ground state would be unstable.
    """

    def __init__(self, gaps: np.ndarray, kernel: np.ndarray) -> None:
        self._root = np.sqrt(gaps)
        w = np.diag(gaps**2) + 4 * self._root[:, None] * kernel * self._root
        squares, self._modes = np.linalg.eigh(w)
        if squares[0] <= 0:
            raise ValueError("this kernel makes the ground state unstable")
        self.frequencies = np.sqrt(squares)

    def amplitudes(self, x: np.ndarray, up_to: float) -> np.ndarray:
        """Complex amplitudes (..., n) of the transitions up to an energy, hartree, in X."""
        low = self.frequencies < up_to
        y = (x.real / self._root) @ self._modes[:, low]
        velocity = (x.imag * self._root) @ self._modes[:, low]
        return y + 1j * velocity / self.frequencies[low]

    def carry(self, x: np.ndarray, times: np.ndarray) -> np.ndarray:
        """X (n_times, n_pairs) at times, atomic units, after X (n_pairs,) at time 0."""
        z = self.amplitudes(x, np.inf) * np.exp(-1j * np.outer(times, self.frequencies))
        velocity = (z.imag * self.frequencies) @ self._modes.T
        return z.real @ self._modes.T * self._root + 1j * velocity / self._root


# The network


class Kernel(torch.nn.Module):
    """f_xc at a point from the density and its gradient there.

    f_00 = a, f_0x = b n_x, f_xy = c n_x n_y + d delta_xy, with the direction n of the gradient.
    a, b, c and d are those of a network of ln rho and ln(1 + s^2), times rho^(-2/3), rho^-1 and
    rho^(-4/3), which make them numbers of order 1.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2, width), torch.nn.SiLU(), torch.nn.Linear(width, width),
            torch.nn.SiLU(), torch.nn.Linear(width, 4),
        )  # fmt: skip
        torch.nn.init.zeros_(self.layers[-1].weight)
        torch.nn.init.zeros_(self.layers[-1].bias)

    def forward(self, rho: torch.Tensor) -> torch.Tensor:
        """f_xc (4, 4, n) of rho and its gradient (4, n)."""
        density, slope = rho[0], rho[1:].norm(dim=0).clamp_min(1e-12)
        reduced = slope / (6.187 * density ** (4 / 3))
        inputs = torch.stack([density.log() / 4 + 0.5, torch.log1p(reduced**2) / 2], dim=1)
        a, b, c, d = self.layers(inputs).T
        n = rho[1:] / slope
        third = density ** (-1 / 3)
        f = rho.new_zeros(4, 4, len(density))
        f[0, 0] = a * third**2
        f[0, 1:] = f[1:, 0] = b * third**3 * n
        f[1:, 1:] = c * third**4 * n[:, None] * n[None, :]
        f[1:, 1:] += (d * third**4) * torch.eye(3, dtype=rho.dtype)[:, :, None]
        return f

    def of(self, pairs: Pairs) -> np.ndarray:
        """f_xc (4, 4, n_points) of a molecule."""
        with torch.no_grad():
            return self(torch.tensor(pairs.rho, dtype=torch.float32)).double().numpy()


@dataclass
class Lesson:
    """What trajectories of a geometry say of the kernel.

    The products s(t) . dF(t') of pairs of times, s = Re X, are those that f_xc must give. Pairs of
    times in place of elements of K stand for the motion that there is, and hold few numbers.
    """

    rho: torch.Tensor  # (4, n_points)
    moved: torch.Tensor  # (4, n_points, n_times): change of the density and its gradient
    weights: torch.Tensor
    target: torch.Tensor  # (n_times, n_times): without the Coulomb part
    scale: float  # of the whole

    @classmethod
    def of(cls, pairs: Pairs, x: np.ndarray, f: np.ndarray) -> Lesson:
        """From X and the change of F (n_times, n_pairs)."""
        s = x.real.astype(float).T
        norm = np.linalg.norm(s)
        s, f = s / norm, f.astype(float) / norm
        whole = f @ s / 4
        rest = whole - (pairs.coulomb @ s).T @ (pairs.coulomb @ s)
        single = [
            torch.tensor(array, dtype=torch.float32)
            for array in (pairs.rho, pairs.products @ s, pairs.weights, 0.5 * (rest + rest.T))
        ]
        return cls(*single, float(np.linalg.norm(whole)))

    def error(self, network: Kernel) -> torch.Tensor:
        """Square of the relative error."""
        f = network(self.rho) * self.weights
        found = sum(self.moved[x].T @ (f[x][:, :, None] * self.moved).sum(dim=0) for x in range(4))
        return ((found - self.target) ** 2).sum() / self.scale**2


def learn(lessons: list[Lesson], epochs: int) -> Kernel:
    """Adam with a cosine schedule."""
    torch.manual_seed(0)
    network = Kernel()
    rng = np.random.default_rng(0)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, epochs * len(lessons))
    for epoch in range(epochs):
        total = 0.0
        for k in rng.permutation(len(lessons)):
            optimiser.zero_grad()
            error = lessons[k].error(network)
            error.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += error.item()
        if epoch % 20 == 19:
            print(f"epoch {epoch + 1}: error {np.sqrt(total / len(lessons)):.4f}", flush=True)
    return network


def train(folder: Path, size: Size) -> Kernel:
    """The network of a file, or a new one."""
    path = folder / "network.pt"
    if path.is_file():
        network = Kernel()
        network.load_state_dict(torch.load(path, weights_only=True))
        return network
    begin = time.process_time()
    rng, lessons, seconds = np.random.default_rng(0), [], 0.0
    for name in size.seen:
        for geometry in range(size.geometries):
            label = f"seen_{name}_{geometry}"
            made, _ = ground_state(folder / f"{label}.npz", distorted(name, rng))
            x, f = [], []
            for k in range(size.kicks):
                direction = rng.normal(size=3)
                direction /= np.linalg.norm(direction)
                strength = 10 ** rng.uniform(-3.3, -2)
                found = trajectory(
                    folder / f"{label}_{k}.npz", made, strength, direction, size.steps
                )
                seconds += float(found["seconds"])
                for to, name_of in ((x, "x"), (f, "f")):
                    to.append(found[name_of][::LEARN_EVERY].reshape(-1, found["x"][0].size))
                    to[-1] = to[-1] / strength
            lessons.append(Lesson.of(Pairs(made), np.concatenate(x), np.concatenate(f)))
            print(f"{label}: {size.kicks} trajectories", flush=True)
    network = learn(lessons, size.epochs)
    with replacing(path) as temporary:
        torch.save(network.state_dict(), temporary)
    print(
        f"{len(lessons) * size.kicks} trajectories, {seconds:.0f} s of CPU; training "
        f"{time.process_time() - begin:.0f} s with those that were made now"
    )
    return network


# Dynamic mode decomposition


def decomposed(pieces: np.ndarray, n: int) -> np.ndarray:
    """Continue X by the linear map that fits a piece of it (Schmid, J. Fluid Mech. 656, 5 (2010)).

    Parameters
    ----------
    pieces : (n_runs, m, n_pairs) complex
        The same times after several kicks; one map for all.
    n : int

    Returns
    -------
    (n_runs, n, n_pairs) complex
    """
    states = np.concatenate([pieces.real, pieces.imag], axis=2).astype(float)
    before = states[:, :-1].reshape(-1, states.shape[2]).T
    after = states[:, 1:].reshape(-1, states.shape[2]).T
    u, s, vt = np.linalg.svd(before, full_matrices=False)
    rank = int(np.count_nonzero(s > 1e-4 * s[0]))
    u, s, vt = u[:, :rank], s[:rank], vt[:rank]
    values, vectors = np.linalg.eig(u.T @ after @ vt.T / s)
    values /= np.abs(values)  # nothing grows or fades
    start = np.linalg.solve(vectors, u.T @ states[:, 0].T)  # (rank, n_runs)
    powers = values[None] ** np.arange(n)[:, None]
    out = np.einsum("pr,tr,rk->ktp", u @ vectors, powers, start, optimize=True).real
    half = out.shape[2] // 2
    return out[:, :, :half] + 1j * out[:, :, half:]


# Comparison


def peaks_of(dipoles: np.ndarray, least: float = 0.0) -> list[np.ndarray]:
    """Energies, eV, of the peaks of each of the dipoles (3, n_times) along their kicks.

    Those whose height is at least this share of the highest.
    """
    out = []
    for one in dipoles:
        peaks = np.array(absorption(one, STEP, STRENGTH, UP_TO / HARTREE).peaks()).reshape(-1, 2)
        high = peaks[:, 1] >= least * peaks[:, 1].max(initial=0.0)
        out.append(HARTREE * peaks[high, 0])
    return out


def relative(found: np.ndarray, exact: np.ndarray) -> list[float]:
    """Error of amplitudes (3, n, n_transitions) in each tenth of the time, relative to them."""
    parts = np.array_split(np.arange(1, exact.shape[1]), 10)
    return [
        float(np.linalg.norm((found - exact)[:, p]) / np.linalg.norm(exact[:, p])) for p in parts
    ]


def compare(folder: Path, label: str, atoms: Atoms, network: Kernel, size: Size) -> dict:
    """Errors and CPU times of all propagators for one molecule, from kicks along x, y, z."""
    made, scf = ground_state(folder / f"{label}.npz", atoms)
    runs = [
        trajectory(folder / f"{label}_{axis}.npz", made, STRENGTH, direction, size.long)
        for axis, direction in zip("xyz", np.eye(3), strict=True)
    ]
    exact = np.array([run["x"].reshape(size.long + 1, -1) for run in runs])
    dipoles = np.array([run["dipoles"][:, k] for k, run in enumerate(runs)])
    expected = peaks_of(dipoles, CLEAR)
    seconds = sum(float(run["seconds"]) for run in runs)
    times = STEP * np.arange(size.long + 1)
    pairs = Pairs(made)
    true = LinearPropagator(pairs.gaps, pairs.kernel(pairs.exact()))

    def low(x: np.ndarray) -> np.ndarray:
        return true.amplitudes(x, HIGHEST / HARTREE)

    def result(x: np.ndarray, cost: float) -> dict:
        induced = dipoles[:, :1] - 4 * np.einsum("kp,ktp->kt", pairs.dipole, x.real)
        pairs_of = zip(peaks_of(induced), expected, strict=True)
        shifts = [float(np.abs(found - peak).min()) for found, these in pairs_of for peak in these]
        return {
            "errors": relative(low(x), low(exact)),
            "shifts_ev": shifts,
            "worst_ev": max(shifts),
            "mean_ev": float(np.mean(shifts)),
            "seconds": cost,
        }

    def linear(kernel: Callable[[Pairs], np.ndarray]) -> dict:
        begin = time.process_time()
        pairs = Pairs(made)
        propagator = LinearPropagator(pairs.gaps, kernel(pairs))
        x = np.array([propagator.carry(some[0], times) for some in exact])
        return result(x, time.process_time() - begin)

    out = {
        "n_pairs": exact.shape[2],
        "ground_state_seconds": scf,
        "exact_seconds": seconds,
        "peaks_ev": [peaks.tolist() for peaks in expected],
        "independent": linear(lambda pairs: np.zeros((len(pairs.gaps),) * 2)),
        "coulomb": linear(lambda pairs: pairs.kernel(None)),
        "learned": linear(lambda pairs: pairs.kernel(network.of(pairs))),
        "linear response": linear(lambda pairs: pairs.kernel(pairs.exact())),
    }
    for piece in size.pieces:
        begin = time.process_time()
        x = decomposed(exact[:, : piece + 1], size.long + 1)
        cost = time.process_time() - begin + seconds * piece / size.long
        out[f"decomposition {piece * STEP * FEMTOSECOND:g} fs"] = result(x, cost)
    return out


def strong_kicks(folder: Path, label: str, atoms: Atoms, network: Kernel, size: Size) -> dict:
    """Errors of the learned propagator after kicks along z, by their strength."""
    made, _ = ground_state(folder / f"{label}.npz", atoms)
    pairs = Pairs(made)
    learned = LinearPropagator(pairs.gaps, pairs.kernel(network.of(pairs)))
    true = LinearPropagator(pairs.gaps, pairs.kernel(pairs.exact()))
    out = {}
    for strength in size.strong:
        path = folder / f"{label}_strong_{strength:g}.npz"
        exact = trajectory(path, made, strength, np.eye(3)[2], size.long)["x"]
        exact = exact.reshape(1, size.long + 1, -1)
        times = STEP * np.arange(size.long + 1)
        low = [
            true.amplitudes(x, HIGHEST / HARTREE)
            for x in (learned.carry(exact[0, 0], times)[None], exact)
        ]
        out[f"{strength:g}"] = relative(*low)
    return out


def tests(size: Size) -> Iterator[tuple[str, Atoms]]:
    """Names and structures of what was not learned from."""
    rng = np.random.default_rng(1)
    for name in size.distorted:
        yield f"distorted_{name}", distorted(name, rng)
    for name in size.unseen:
        yield f"unseen_{name}", molecule(name)


def table(results: dict[str, dict]) -> str:
    """Costs and peaks of each molecule, and the growth of errors in their mean, as Markdown."""
    names = [name for name, r in next(iter(results.values())).items() if isinstance(r, dict)]
    lines = [
        "| molecule | pairs | CPU s: ground state, exact | "
        + " | ".join(f"{name}: peaks, eV (s)" for name in names)
        + " |",
        "|---" * (len(names) + 3) + "|",
    ]
    for label, result in results.items():
        times = f"{result['ground_state_seconds']:.1f}, {result['exact_seconds']:.0f}"
        cells = [
            "{mean_ev:.3f}, {worst_ev:.3f} ({seconds:.2f})".format(**result[name]) for name in names
        ]
        lines.append(f"| {label} | {result['n_pairs']} | {times} | {' | '.join(cells)} |")
    lines += ["", "| error in tenths of the time |" + " |" * 10, "|---" * 11 + "|"]
    for name in names:
        errors = np.mean([result[name]["errors"] for result in results.values()], axis=0)
        lines.append(f"| {name} | {' | '.join(f'{e:.3f}' for e in errors)} |")
    return "\n".join(lines)


def main() -> None:
    """Make trajectories, train, and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--short", action="store_true")
    options = parser.parse_args()
    size = SHORT if options.short else Size()
    folder = options.folder / "short" if options.short else options.folder
    folder.mkdir(parents=True, exist_ok=True)
    network = train(folder, size)
    results = {}
    for label, atoms in tests(size):
        results[label] = compare(folder, label, atoms, network, size)
        print(f"{label}: compared", flush=True)
    print(table(results))
    if size.strong:
        label, atoms = next(pair for pair in tests(size) if pair[0].endswith("_H2O"))
        results["strong kicks"] = strong_kicks(folder, label, atoms, network, size)
        print("strong kicks of water, 1/bohr:", results["strong kicks"])
    with replacing(folder / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
