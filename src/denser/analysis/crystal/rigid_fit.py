"""Rigid-body fit of a molecule into a map: a coarse search of all orientations, then gradients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.fft import ifftn, next_fast_len
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from denser.analysis.crystal.form_factors import electron_form_factor, spherical_form_factor
from denser.analysis.crystal.symmetry import miller_indices
from denser.fields.periodic import nearest_image
from denser.types.density import Field
from denser.types.errors import InputError
from denser.types.structure import Structure
from denser.types.units import BOHR


@dataclass(frozen=True, eq=False)
class RigidFit:
    """A molecule moved into a map: x' = R (x - centre) + centre + translation.

    Parameters
    ----------
    quaternion : (4,) float
        (w, x, y, z) of the rotation, w >= 0.
    translation : (3,) float
        Bohr.
    centre : (3,) float
        Mean of the original coordinates, bohr.
    structure : Structure
        The molecule after the fit.
    correlation : float
        Correlation of the computed and the given map to `d_min` over the whole box, without mean.
    correlation_before : float
        The same for the molecule before the fit.
    """

    quaternion: np.ndarray
    translation: np.ndarray
    centre: np.ndarray
    structure: Structure
    correlation: float
    correlation_before: float

    def to_dict(self) -> dict:
        """Return plain data."""
        return {
            "quaternion_wxyz": self.quaternion.tolist(),
            "translation_angstrom": (self.translation * BOHR).tolist(),
            "centre_angstrom": (self.centre * BOHR).tolist(),
            "positions_angstrom": (self.structure.positions * BOHR).tolist(),
            "correlation": self.correlation,
            "correlation_before": self.correlation_before,
        }

    def lines(self) -> list[str]:
        """Readable lines of a report."""
        angle = np.degrees(2 * np.arccos(np.clip(self.quaternion[0], -1, 1)))
        w, x, y, z = self.quaternion
        tx, ty, tz = self.translation * BOHR
        return [
            f"correlation {self.correlation:.4f} (before the fit {self.correlation_before:.4f})",
            f"rotation {angle:.2f} degrees, quaternion {w:.5f} {x:.5f} {y:.5f} {z:.5f}",
            f"translation {tx:.3f} {ty:.3f} {tz:.3f} angstrom",
        ]


class _Target:
    """Fourier components of a map to a resolution, and their correlation with the molecule's."""

    def __init__(
        self, structure: Structure, field: Field, d_min: float, b_factor: float, kind: str
    ) -> None:
        grid = field.grid
        self.hkl = miller_indices(grid.cell, d_min)
        if len(self.hkl) < 10:
            raise InputError(
                f"the map's box has {len(self.hkl)} Fourier components to {d_min:g} angstrom, "
                "too few for a fit; use a higher resolution or a larger box"
            )
        self.h = self.hkl @ np.linalg.inv(grid.cell).T
        self.centre = structure.positions.mean(axis=0)
        self.arms = structure.positions - self.centre
        spectrum = ifftn(np.asarray(field.values, dtype=float))
        origin = np.exp(2j * np.pi * self.h @ grid.origin)
        self.observed = spectrum[tuple(self.hkl.T)] * origin
        norm = np.linalg.norm(self.observed)
        if not norm > 0:
            raise InputError("the map is constant, so nothing can be fitted to it")
        self.observed /= norm
        length = np.linalg.norm(self.h, axis=1)
        factor = electron_form_factor if kind == "electron" else spherical_form_factor
        damping = np.exp(-b_factor * (length / BOHR) ** 2 / 4)
        curves = {z: factor(z, 2 * np.pi * length) for z in np.unique(structure.numbers)}
        self.f = np.array([curves[z] for z in structure.numbers]) * damping
        # Translations are searched on nodes d_min/4 apart.
        edges = np.linalg.norm(grid.cell, axis=1)
        self.cell = grid.cell
        self.shape = tuple(next_fast_len(int(np.ceil(x * BOHR / d_min * 4))) for x in edges)

    def best_translation(self, rotation: np.ndarray) -> tuple[float, np.ndarray]:
        """Best correlation over all nodes, and the position of the centre, for one orientation."""
        model = self._model(self.arms @ rotation.T)[0]
        product = np.zeros(self.shape, dtype=complex)
        product[tuple(self.hkl.T)] = model * self.observed.conj()
        # C(x) = Re sum conj(F_o) F_m exp(2 pi i h.x)
        values = ifftn(product, overwrite_x=True).real * product.size / np.linalg.norm(model)
        node = np.unravel_index(int(values.argmax()), self.shape)
        return float(values[node]), (np.array(node) / self.shape) @ self.cell

    def correlation(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """C = Re sum conj(F_o) F_m / (|F_o| |F_m|) and its gradient (n_atoms, 3)."""
        model, waves = self._model(positions)
        norm = np.linalg.norm(model)
        value = float((self.observed.conj() * model).sum().real / norm)
        weight = (self.observed - value * model / norm) / norm
        gradient = -2 * np.pi * (waves * weight.conj()).imag @ self.h
        return value, gradient

    def _model(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        waves = self.f * np.exp(2j * np.pi * positions @ self.h.T)
        return waves.sum(axis=0), waves

    def refine(self, rotation: Rotation, place: np.ndarray) -> tuple[float, Rotation, np.ndarray]:
        """Nearest maximum of the correlation: its value, rotation and position of the centre."""

        def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
            arms = (Rotation.from_rotvec(x[:3]) * rotation).apply(self.arms)
            value, gradient = self.correlation(arms + place + x[3:])
            torque = np.cross(arms, gradient).sum(axis=0)
            turn = _left_jacobian(x[:3]).T @ torque
            return -value, -np.concatenate([turn, gradient.sum(axis=0)])

        found = minimize(loss, np.zeros(6), jac=True, method="BFGS", options={"gtol": 1e-7})
        return -found.fun, Rotation.from_rotvec(found.x[:3]) * rotation, place + found.x[3:]


def _left_jacobian(v: np.ndarray) -> np.ndarray:
    """J with exp(v + dv) = exp(J dv) exp(v) for rotation vectors."""
    angle = np.linalg.norm(v)
    x, y, z = v
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-4:
        return np.eye(3) + k / 2
    first, second = (1 - np.cos(angle)) / angle**2, (angle - np.sin(angle)) / angle**3
    return np.eye(3) + first * k + second * k @ k


def orientations(n: int) -> Rotation:
    """`n` rotations that cover SO(3) evenly: super-Fibonacci spirals (Alexa, CVPR 2022)."""
    s = np.arange(n) + 0.5
    r, big_r = np.sqrt(s / n), np.sqrt(1 - s / n)
    alpha, beta = 2 * np.pi * s / np.sqrt(2), 2 * np.pi * s / 1.533751168755204288118041
    return Rotation.from_quat(
        np.stack(
            [r * np.sin(alpha), r * np.cos(alpha), big_r * np.sin(beta), big_r * np.cos(beta)],
            axis=1,
        )
    )


def fit_rigid(
    structure: Structure,
    target: Field,
    d_min: float,
    b_factor: float = 0.0,
    kind: str = "xray",
    n_orientations: int = 1000,
    n_starts: int = 12,
) -> RigidFit:
    """Rotate and shift a molecule for the best correlation of its computed map with a map.

    The computed map is that of spherical free atoms. All orientations are tried at a resolution of
    2.5 angstrom or lower, each with all translations at once by Fourier transform. The best ones
    are refined with analytic gradients, first at this resolution and then at `d_min`. The box of
    the map is periodic.

    Parameters
    ----------
    structure : Structure
        At any position; H to Xe.
    target : Field
        Electron density or potential, of any scale and offset.
    d_min : float
        Resolution of the map, angstrom.
    b_factor : float
        B factor of all atoms, angstrom^2.
    kind : str
        "xray" or "electron".
    n_orientations, n_starts : int
        Number of orientations to try, and of those to refine.

    Raises
    ------
    InputError
        There is no free atom for an element, the kind is unknown, the resolution is too high for
        the map's spacing, or the map has no features.
    """
    if kind not in ("xray", "electron"):
        raise InputError(f"kind is 'xray' or 'electron', found {kind!r}")
    limit = 2 * target.grid.spacing.max() * BOHR
    if not (np.isfinite(d_min) and d_min >= limit * (1 - 1e-6)):
        raise InputError(
            f"the map's spacing allows a resolution of {limit:.3f} angstrom, found d_min {d_min}; "
            "give the resolution of the map"
        )
    fine = _Target(structure, target, d_min, b_factor, kind)
    coarse = _Target(structure, target, 2.5, b_factor, kind) if d_min < 2.5 else fine
    tried = orientations(n_orientations)
    found = [coarse.best_translation(matrix) for matrix in tried.as_matrix()]
    order = np.argsort([-value for value, _ in found])[:n_starts]
    starts = [coarse.refine(tried[int(i)], found[i][1]) for i in order]
    starts.append((0.0, Rotation.identity(), fine.centre))  # the present position may be right
    best = max((fine.refine(turn, place) for _, turn, place in starts), key=lambda fit: fit[0])
    correlation, rotation, place = best
    # Take the periodic image nearest to the original position.
    shift = nearest_image(place - fine.centre, fine.cell)
    quaternion = rotation.as_quat()[[3, 0, 1, 2]]
    quaternion = -quaternion if quaternion[0] < 0 else quaternion
    return RigidFit(
        quaternion,
        shift,
        fine.centre,
        replace(structure, positions=rotation.apply(fine.arms) + fine.centre + shift),
        correlation,
        fine.correlation(structure.positions)[0],
    )
