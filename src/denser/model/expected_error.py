"""Expected error of a prediction, from what the network knows of each atom.

The last features of an atom are functions on the sphere around it. Their lengths in each channel
and degree do not change when the molecule turns; centred and whitened over the atoms of the
examples they are u_a. The wrong electrons of an atom,

e_a = integral w_a |rho_pred - rho| dr    (w_a: the share of the atom in the superposed atoms),

are estimated by ln e_a = c . (1, u_a, v_a, v_a^2, element),  v_a = ln(1 + |u_a|^2 / n),

where v_a is large for an environment unlike those of the examples. The expected Err_rho of a
molecule is

E = exp(g_0 + g_1 ln(sum_a e_a / N_e) + g_2 ln(|excess| + 2e-4)),

with the excess electrons of the density before scaling. Both are linear least squares on molecules
with known errors. The model must not have been trained on these.

What is far from all of them may have no such error. But if x electrons are missing in a small
region before scaling, and scaling makes up for them everywhere, 2 x electrons are wrong. So many
are expected at least (`at_least_of_scaling`); not in crystals, where electrons lack everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from denser.atoms.molecules import whole_molecules
from denser.types.structure import Structure

N_AXES = 96
"""Directions u of the features that enter the estimate."""

N_WHITENED = 128
"""Directions for the distance v from the examples."""

ELEMENTS = (1, 6, 7, 8)
"""Atomic numbers with an own constant; all others share one."""

_FAINT = 1e-3
"""Added to the variances of whitened directions; the features have a variance of 1."""

_LEAST = 1e-4
"""Added to the wrong electrons of an atom."""

_LEAST_EXCESS = 2e-4
"""Added to the excess, which may be zero by chance."""

_RIDGE = 1e-3
"""Size of the penalty on the coefficients; the mean square of a direction is 1."""

_FARTHEST = 4.0
"""Directions are cut off here."""


def at_least_of_scaling(structure: Structure, wrong: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Expected wrong electrons (n_atoms,), of each molecule at least two for each electron moved.

    Parameters
    ----------
    structure : Structure
    wrong : (n_atoms,) float
    moved : (n_atoms,) float
        Electrons that scaling to N_e added (`DeformedAtoms.added`).
    """
    if (2 * np.abs(moved) <= wrong).all():
        return wrong
    wrong = wrong.copy()
    for molecule in whole_molecules(structure):
        atoms = molecule.atoms
        least, sum_of_wrong = 2 * abs(moved[atoms].sum()), wrong[atoms].sum()
        if least > sum_of_wrong:
            wrong[atoms] *= least / sum_of_wrong
    return wrong


@dataclass(frozen=True, eq=False)
class Example:
    """A molecule whose error is known.

    Parameters
    ----------
    numbers : (n_atoms,) int
        Atomic numbers.
    invariants : (n_atoms, n) float
        Of `Network.environments`.
    wrong : (n_atoms,) float
        Wrong electrons of each atom; their sum over `n_electrons` is the Err_rho.
    n_electrons, excess : float
        Electrons of the molecule, and what scaling removed as a share of them.
    """

    numbers: np.ndarray
    invariants: np.ndarray
    wrong: np.ndarray
    n_electrons: float
    excess: float


class ExpectedError(nn.Module):
    """Coefficients of the estimate for features with `n` invariants.

    They are buffers: training does not change them.
    """

    mean: Tensor
    scale: Tensor
    axes: Tensor
    atoms: Tensor
    molecule: Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("scale", torch.ones(n))
        self.register_buffer("axes", torch.zeros(n, N_WHITENED))
        self.register_buffer("atoms", torch.zeros(N_AXES + 3 + len(ELEMENTS) + 1))
        self.register_buffer("molecule", torch.zeros(3))

    @classmethod
    def fitted(cls, examples: Sequence[Example]) -> ExpectedError:
        """The estimate with the least squares of ln e_a and of ln Err_rho.

        The atoms of a molecule have the weight of one together.
        """
        invariants = np.concatenate([x.invariants for x in examples]).astype(float)
        sizes = [len(x.numbers) for x in examples]
        found = cls(invariants.shape[1])
        mean, scale = invariants.mean(axis=0), invariants.std(axis=0) + 1e-6
        centred = (invariants - mean) / scale
        variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
        order = np.argsort(-variances)[:N_WHITENED]
        whitening = axes[:, order] / np.sqrt(variances[order] + _FAINT)
        found.axes[:, : whitening.shape[1]] = torch.as_tensor(whitening)
        found.mean.copy_(torch.as_tensor(mean))
        found.scale.copy_(torch.as_tensor(scale))
        terms = found._terms(
            torch.as_tensor(invariants).float(),
            torch.as_tensor(np.concatenate([x.numbers for x in examples])),
        ).double()
        weights = 1 / np.repeat(sizes, sizes)
        wrong = np.log(np.concatenate([x.wrong for x in examples]) + _LEAST)
        found.atoms.copy_(_least_squares(terms.numpy(), wrong, weights))
        errors = np.log([x.wrong.sum() / x.n_electrons for x in examples])
        of_molecules = np.array([found._of_molecule(x) for x in examples])
        found.molecule.copy_(_least_squares(of_molecules, errors, np.ones(len(errors))))
        return found

    def rescaled(self, examples: Sequence[Example]) -> ExpectedError:
        """The same estimate times a factor, with the mean logarithm of the errors of examples."""
        terms = np.array([self._of_molecule(x) for x in examples])
        expected = terms @ self.molecule.double().cpu().numpy()
        errors = np.log([x.wrong.sum() / x.n_electrons for x in examples])
        found = deepcopy(self)
        found.molecule[0] += float((errors - expected).mean())
        return found

    def forward(
        self, numbers: np.ndarray, invariants: Tensor, n_electrons: float, excess: float
    ) -> np.ndarray:
        """Expected wrong electrons of each atom (n_atoms,); their sum over N_e is E."""
        example = Example(numbers, invariants.cpu().numpy(), np.zeros(0), n_electrons, excess)
        wrong = self._wrong(example)
        terms = self._of_molecule(example, wrong)
        expected = float(np.exp(terms @ self.molecule.double().cpu().numpy()))
        return wrong * (expected * n_electrons / wrong.sum())

    def _wrong(self, example: Example) -> np.ndarray:
        """The estimated e_a."""
        device = self.atoms.device
        invariants = torch.as_tensor(example.invariants, device=device).float()
        terms = self._terms(invariants, torch.tensor(example.numbers, device=device))
        return torch.exp(terms @ self.atoms).double().cpu().numpy()

    def _of_molecule(self, example: Example, wrong: np.ndarray | None = None) -> np.ndarray:
        wrong = self._wrong(example) if wrong is None else wrong
        excess = np.log(np.nan_to_num(abs(example.excess)) + _LEAST_EXCESS)
        return np.array([1.0, np.log(wrong.sum() / example.n_electrons), excess])

    def _terms(self, invariants: Tensor, numbers: Tensor) -> Tensor:
        """What is multiplied by `atoms` (n_atoms, n)."""
        u = ((invariants - self.mean) / self.scale) @ self.axes
        v = torch.log1p(u.square().mean(dim=1, keepdim=True))
        kinds = torch.stack([numbers == z for z in ELEMENTS], dim=1)
        others = ~kinds.any(dim=1, keepdim=True)
        return torch.cat(
            [
                torch.ones_like(v), u[:, :N_AXES].clamp(-_FARTHEST, _FARTHEST), v, v**2,
                kinds.float(), others.float(),
            ],
            dim=1,
        )  # fmt: skip


def _least_squares(terms: np.ndarray, values: np.ndarray, weights: np.ndarray) -> Tensor:
    """Coefficients with a small penalty on all but the first."""
    penalty = _RIDGE * weights.sum() * np.eye(terms.shape[1])
    penalty[0, 0] = 1e-9
    weighted = terms * weights[:, None]
    return torch.as_tensor(np.linalg.solve(weighted.T @ terms + penalty, weighted.T @ values))
