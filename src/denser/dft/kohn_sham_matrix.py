"""Kohn-Sham matrix and energy of a density matrix of a molecule, many times in a row.

PySCF evaluates the basis functions at all points for every matrix. Here those that are not zero
near a block of points are kept, and the three-centre integrals of the Coulomb energy too.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pyscf import dft
from pyscf.dft import numint

_AT_ONCE = 2048
"""Points in a block."""

_NEGLIGIBLE = 1e-7
"""A basis function that is nowhere larger than this in a block is left out, bohr^-3/2."""

_MOST_BYTES = 3e9
"""Basis functions beyond this are evaluated again each time."""


class KohnShamMatrix:
    """F = T + V_pp + v_H[rho] + v_xc[rho] of density matrices, without exact exchange.

    Parameters
    ----------
    mf : pyscf.dft.rks.RKS or pyscf.dft.uks.UKS
        Of `denser.dft.molecular.molecular_mean_field`; an LDA or a GGA.
    """

    def __init__(self, mf: dft.rks.RKS) -> None:
        self.mol, self.xc = mf.mol, mf.xc
        self.hcore = np.asarray(mf.get_hcore())
        self.e_nuc = float(mf.energy_nuc())
        self._fitted = mf.with_df
        self._fitted.build()  # otherwise PySCF makes the integrals anew each time
        self._integrator = numint.NumInt()
        self._kind = self._integrator._xc_type(mf.xc)
        self._points, self._weights = mf.grids.coords, mf.grids.weights
        self._kept: list[tuple[slice, np.ndarray, np.ndarray]] = []
        size = 0.0
        for block in self._evaluated(0):
            size += block[2].nbytes
            if size > _MOST_BYTES:
                break
            self._kept.append(block)

    def __call__(self, dm: np.ndarray) -> tuple[np.ndarray, float]:
        """Kohn-Sham matrices and energy, hartree.

        Parameters
        ----------
        dm : (1 or 2, nao, nao) float
            Symmetric; of all electrons, or of both spins.

        Returns
        -------
        (1 or 2, nao, nao) float
        float
            With the repulsion of the nuclei.
        """
        total = dm.sum(axis=0)
        coulomb = self._fitted.get_jk(total, hermi=1, with_k=False)[0]
        one_electron = self.hcore + 0.5 * coulomb
        v_xc, e_xc = self._exchange_correlation(dm)
        energy = float(np.vdot(one_electron, total)) + e_xc + self.e_nuc
        return self.hcore + coulomb + v_xc, energy

    def density(self, dm: np.ndarray) -> np.ndarray:
        """The density and, for a GGA, its gradient at the points (1 or 2, 1 or 4, n)."""
        rho = np.empty((len(dm), 4 if self._kind == "GGA" else 1, len(self._weights)))
        for some, used, values in self._blocks():
            for s, matrix in enumerate(dm):
                half = values[0] @ matrix[np.ix_(used, used)]
                rho[s, :, some] = np.einsum("gp,xgp->xg", half, values)
        rho[:, 1:] *= 2
        return rho

    def _exchange_correlation(self, dm: np.ndarray) -> tuple[np.ndarray, float]:
        rho = self.density(dm)
        polarised = len(dm) == 2
        e_xc, slopes = self._integrator.eval_xc_eff(
            self.xc, rho if polarised else rho[0], deriv=1, xctype=self._kind
        )[:2]
        slopes = slopes.reshape(rho.shape) * self._weights
        slopes[:, 0] *= 0.5  # the other half is the transpose
        v_xc = np.zeros_like(dm)
        for some, used, values in self._blocks():
            for s in range(len(dm)):
                weighted = np.einsum("xg,xgp->gp", slopes[s, :, some], values)
                v_xc[s][np.ix_(used, used)] += values[0].T @ weighted
        v_xc += v_xc.transpose(0, 2, 1)
        return v_xc, float(self._weights @ (rho[:, 0].sum(axis=0) * e_xc))

    def _blocks(self) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Points, functions that are not zero there (m,), and their values (1 or 4, n, m)."""
        yield from self._kept
        done = self._kept[-1][0].stop if self._kept else 0
        yield from self._evaluated(done)

    def _evaluated(self, start: int) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        gradient = self._kind == "GGA"
        for first in range(start, len(self._points), _AT_ONCE):
            some = slice(first, min(first + _AT_ONCE, len(self._points)))
            values = numint.eval_ao(self.mol, self._points[some], deriv=int(gradient))
            values = values if gradient else values[None]
            used = np.flatnonzero(np.abs(values).max(axis=(0, 1)) > _NEGLIGIBLE)
            yield some, used, np.ascontiguousarray(values[:, :, used])
