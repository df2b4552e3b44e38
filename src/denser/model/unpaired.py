"""Electrons of both spins of an open shell, from a Hamiltonian that a network corrects.

The Hamiltonian H' + V of PBE's tables (`denser.model.hamiltonians`, with the charges iterated
further than in `denser.model.tight_binding`) often has two orbitals of nearly the same energy that
an unpaired electron may occupy, such as a lone pair and an orbital of pi electrons. So the network
adds a matrix L_a to the functions s, px, py, pz of each atom. With D the difference of the density
matrices of both spins and D_a its block of atom a,

D = P_up - P_down,  P_up of H' + V + L - X(D) with (N_e + 2S) / 2 electrons,
                    P_down of H' + V + L + X(D) with (N_e - 2S) / 2 electrons,
X_a(D) = g_aa (x_0 tr(D_a) + x_1 D_a),

with the repulsion g_aa of two electrons in the atom. X is the exchange of unpaired electrons (as
the spin constants in C. Koehler, G. Seifert, T. Frauenheim, Chem. Phys. 309, 23, 2005; the second
term distinguishes orbitals). D is iterated a few times, from that without X. It changes its sign
if the spins are exchanged.

The effectively unpaired electrons F = 2 P - P^2 (K. Takatsuka, T. Fueno, K. Yamaguchi, Theor.
Chim. Acta 48, 175, 1978) with P = P_up + P_down do not. Both vanish where all orbitals are filled
twice or empty, so molecules without unpaired electrons get neither, however near in energy.

The other Hamiltonians that a network is shown get the same orbitals occupied once:

P_k = P_up of H_k - l F, with (N_e + 2S) / 2 electrons, and P_down of H_k + l F.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from denser.model.diagonalisation import Blocks, Whole, occupied
from denser.model.fragments import in_fragments
from denser.model.hamiltonians import ELEMENTS, Neighbours, hueckel, tabulated
from denser.model.tight_binding import interaction_of

_ITERATIONS = 10
"""Updates of V."""

_UPDATES = 4
"""Updates of D, with a mixing of `_MIXING_OF_SPINS`."""

_MIXING_OF_SPINS = 0.7

_BIAS = 0.2
"""l, hartree: more than levels are wrong."""


@dataclass(frozen=True, eq=False)
class OpenShell:
    """Hamiltonian and number of electrons of a structure, for the first of m / n_atoms copies.

    Parameters
    ----------
    matrix : (m, 4, m, 4) tensor
        H' + V between s, px, py, pz of all atoms in all copies, hartree.
    used : (m, 4) tensor of bool
        Functions that the atoms have.
    levels : (m, 4) tensor
        Levels of the free atoms with V, hartree.
    shown : tuple of ((m, 4, m, 4) tensor, (m, 4) tensor)
        Matrix and levels of the Hamiltonians that the network is shown; none of large structures.
    repulsion : (m,) tensor
        g_aa, hartree.
    pairs : (2, n_pairs) int tensor
        Receivers and senders.
    n_electrons, n_unpaired : float
        Of all copies.
    n_atoms : int
    """

    matrix: Tensor
    used: Tensor
    levels: Tensor
    shown: tuple[tuple[Tensor, Tensor], ...]
    repulsion: Tensor
    pairs: Tensor
    n_electrons: float
    n_unpaired: float
    n_atoms: int

    @classmethod
    def of(
        cls,
        pairs: Neighbours,
        charge: int,
        shifts: np.ndarray,
        cell: np.ndarray | None,
        n_solutions: int,
        spin: int,
    ) -> OpenShell:
        """Of a structure, with the parameters of `denser.model.tight_binding.solve`."""
        whole = Whole(pairs, shifts, cell)
        n_valence = torch.tensor([ELEMENTS[int(z)][0] for z in pairs.numbers]).double()
        n_electrons = whole.n_copies * (float(n_valence.sum()) - charge)
        kept = whole.used.flatten().nonzero()[:, 0]

        def padded(matrix: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
            n = whole.used.numel()
            full = torch.zeros(n, n, dtype=torch.float64).index_put((kept[:, None], kept), matrix)
            levels = torch.zeros(n, dtype=torch.float64).index_put((kept,), h)
            return full.view(n // 4, 4, n // 4, 4), levels.view(-1, 4)

        shown: list[tuple[Tensor, Tensor]] = []
        for make in (hueckel, tabulated):
            found = make(pairs)
            interaction = interaction_of(found.repulsion, pairs)
            more = n_solutions - len(shown)
            if more > 0 and not in_fragments(len(pairs.numbers)):
                given = interaction if more > 1 else None
                for matrix, h, _ in whole.hamiltonians(found, n_valence, charge, given, spin):
                    shown.append(padded(matrix, h))
        *_, (matrix, h, _) = whole.hamiltonians(
            found, n_valence, charge, interaction, spin, _ITERATIONS
        )
        rows, columns = (x[: len(pairs.senders)] for x in whole.atom_pairs)
        return cls(
            *padded(matrix, h)[:1], whole.used, padded(matrix, h)[1], tuple(shown),
            found.repulsion.repeat(whole.n_copies), torch.stack([rows, columns]), n_electrons,
            whole.n_copies * spin, len(pairs.numbers),
        )  # fmt: skip

    def turned(self, rotation: Tensor) -> OpenShell:
        """The same, with each vector multiplied by an orthogonal matrix (3, 3)."""
        turn = torch.eye(4, dtype=torch.float64)
        turn[1:, 1:] = rotation.double().cpu()

        def turned(matrix: Tensor) -> Tensor:
            return torch.einsum("ij,aibk,kl->ajbl", turn, matrix, turn)

        shown = tuple((turned(matrix), levels) for matrix, levels in self.shown)
        return replace(self, matrix=turned(self.matrix), shown=shown)

    def solved(self, levels: Tensor, exchange: Tensor) -> tuple[Blocks, Blocks, list[Blocks]]:
        """Blocks of D, of F, and of P_k of the Hamiltonians that are shown.

        Parameters
        ----------
        levels : (n_atoms, 4, 4) tensor
            L, hartree.
        exchange : (2,) tensor
            x_0 and x_1.
        """
        n = len(self.used)
        kept = self.used.flatten().nonzero()[:, 0]
        own, identity = torch.arange(n), torch.eye(4, dtype=torch.float64)

        def without(full: Tensor) -> Tensor:
            return full.reshape(4 * n, 4 * n)[kept[:, None], kept]

        def padded(matrix: Tensor) -> Tensor:
            full = torch.zeros(4 * n, 4 * n, dtype=torch.float64)
            return full.index_put((kept[:, None], kept), matrix).view(n, 4, n, 4)

        def of_atoms(blocks: Tensor) -> Tensor:
            full = torch.zeros(n, n, 4, 4, dtype=torch.float64).index_put((own, own), blocks)
            return without(full.transpose(1, 2))

        def exchanged(difference: Tensor) -> Tensor:
            d = padded(difference)[own, :, own]
            total = d.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None]
            x = exchange[0] * total * identity + exchange[1] * d
            return of_atoms(self.repulsion[:, None, None] * x)

        copies = n // self.n_atoms
        corrected = without(self.matrix) + of_atoms(levels.repeat(copies, 1, 1))
        up, down = self._filled(corrected, corrected)
        d = up - down
        for _ in range(_UPDATES):
            x = exchanged(d)
            up, down = self._filled(corrected - x, corrected + x)
            d = d + _MIXING_OF_SPINS * (up - down - d)
        p = up + down
        unpaired = 2 * p - p @ p

        def blocks(of: Tensor, hamiltonian: Tensor, levels: Tensor) -> Blocks:
            h = levels.flatten()[kept]
            w = 0.5 * (hamiltonian @ of + of @ hamiltonian) - 0.5 * (h[:, None] + h) * of
            found, first = [], own[: self.n_atoms]
            for x in (padded(of), padded(w)):
                found += [x[first, :, first], x[self.pairs[0], :, self.pairs[1]]]
            return Blocks(*found)

        shown = []
        for full, its_levels in self.shown:
            matrix = without(full)
            its_up, its_down = self._filled(matrix - _BIAS * unpaired, matrix + _BIAS * unpaired)
            shown.append(blocks(its_up + its_down, matrix, its_levels))
        of_spins, singly = (blocks(x, corrected, self.levels) for x in (up - down, unpaired))
        return of_spins, singly, shown

    def _filled(self, up: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
        return _of_both(up, down, self.n_electrons, self.n_unpaired)


def _of_both(
    up: Tensor, down: Tensor, n_electrons: float, n_unpaired: float
) -> tuple[Tensor, Tensor]:
    """Density matrices of both spins, each from its Hamiltonian."""
    # as of closed shells with twice the electrons of one spin
    p_up = occupied(up, n_electrons + n_unpaired)[0]
    p_down = occupied(down, n_electrons - n_unpaired)[0]
    return 0.5 * p_up, 0.5 * p_down
