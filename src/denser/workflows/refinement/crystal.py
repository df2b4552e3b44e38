"""A crystal's model and reflections in cctbx, and their least squares with smtbx.

This module imports cctbx when it is loaded: `denser.workflows.refinement.engine` runs it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import smtbx.utils
from cctbx import adptbx, miller, xray
from cctbx.array_family import flex
from iotbx.cif.builders import crystal_structure_builder
from scitbx.lstbx import normal_eqns_solving
from smtbx.refinement import constraints, least_squares
from smtbx.structure_factors import direct

from denser.io import tsc
from denser.io.files import naming
from denser.types.errors import InputError
from denser.workflows.refinement import measures, written
from denser.workflows.refinement.model import (
    check_hydrogens,
    check_model,
    number,
    read_disorder,
)
from denser.workflows.refinement.reading import block_with_atoms, first_line, reflections

_SMALLEST = 1e-4
"""Standard uncertainties of coordinates below this (angstrom) count as this in shift/s.u."""

_NEAREST = 0.55
"""Atoms that are there together are at least this far apart, angstrom."""

_SINGULAR = 1e-9
"""Parameters are not determined if an eigenvalue of the scaled normal matrix is below this."""


_NO_VALUE = -1000.0
"""Sasaki's tables have numbers below this, electrons, where they have no value."""

_OF_A_FIT = ("ls", "covariance", "connectivity", "weighting", "form_factors", "result", "residual")
"""What belongs to a fit, beside the scatterers."""


class Crystal:
    """A model with its reflections; `load` comes first."""

    def load(self, model: str, data: str | None) -> dict[str, Any]:
        """Read the model and the reflections, and describe them.

        Parameters
        ----------
        model : str
            Path of a CIF.
        data : str or None
            Path of a file with reflections; by default those in the CIF.
        """
        path = Path(model)
        self.block = block_with_atoms(path)
        self.notes: list[str] = []
        with naming(path):
            self.numbers = check_model(self.block)
            self.disorder = read_disorder(self.block)
            try:
                self.xs = crystal_structure_builder(self.block).structure
            except Exception as error:  # cctbx raises many kinds
                raise InputError(f"cctbx cannot use it ({first_line(error)})") from error
            self.wavelength = number(_first(self.block.get("_diffrn_radiation_wavelength")))
            self._weights()
            self._extinction()
            self._check_contacts()
            self._check_formula()
            self._dispersion()
        hkl, intensity, sigma = reflections(self.block, model, data)
        self._merge(hkl, intensity, sigma, data or model)
        return {
            **self.expanded(),
            "labels": self.labels,
            "hkl": self._table_indices(),
            "d_min": self.fo.d_min(),
            "space_group": str(self.xs.space_group_info()),
            "n_measured": len(hkl),
            "n_unique": self.fo.size(),
            "n_strong": int((self.fo.data() > 2 * self.fo.sigmas()).count(True)),
            "wavelength": self.wavelength,
            "weights": [self.a, self.b],
            "extinction": self.extinction is not None,
            "hydrogens_anisotropic": any(
                z == 1 and sc.flags.use_u_aniso()
                for z, sc in zip(self.numbers, self.xs.scatterers(), strict=True)
            ),
            "notes": self.notes,
        }

    @property
    def labels(self) -> list[str]:
        """Labels of the sites."""
        return [sc.label for sc in self.xs.scatterers()]

    def _weights(self) -> None:
        """A and b of SHELX's weights, 1/(sigma^2 + (a P)^2 + b P)."""
        text = str(self.block.get("_refine_ls_weighting_details") or "")
        a = re.search(r"\(\s*([\d.]+)\s*P\s*\)\^2\^", text)
        b = re.search(r"\+\s*([\d.]+)\s*P\s*\]", text)
        self.a, self.b = (float(found.group(1)) if found else 0.0 for found in (a, b))
        if "^2^" not in text:
            self.notes.append("the CIF states no weights; they are 1/sigma^2")

    def _extinction(self) -> None:
        value = number(_first(self.block.get("_refine_ls_extinction_coef")))
        self.extinction = None
        if value is None:
            return
        if not self.wavelength:
            raise InputError("extinction needs _diffrn_radiation_wavelength; add it to the CIF")
        self.extinction = self.new_extinction(value)

    def new_extinction(self, value: float, free: bool = True) -> Any:
        """Extinction correction of SHELXL with a coefficient."""
        found = xray.shelx_extinction_correction(self.xs.unit_cell(), self.wavelength, value)
        found.grad = free
        return found

    def _dispersion(self) -> None:
        if not self.wavelength:
            self.notes.append("the CIF has no wavelength, so anomalous scattering is left out")
            return
        self.xs.set_inelastic_form_factors(self.wavelength, "sasaki")
        if any(sc.fp < _NO_VALUE for sc in self.xs.scatterers()):
            raise InputError(
                f"there is no anomalous scattering for a wavelength of {self.wavelength:g} "
                "angstrom; check _diffrn_radiation_wavelength"
            )

    def _check_formula(self) -> None:
        copies = [
            len(self.xs.sym_equiv_sites(sc.site).coordinates()) for sc in self.xs.scatterers()
        ]
        check_hydrogens(
            self.block.get("_chemical_formula_sum"),
            np.repeat(self.numbers, copies),
            np.repeat(self.disorder.occupancies, copies),
        )

    def _check_contacts(self) -> None:
        """Refuse atoms that cannot be there together."""
        cell = np.array(self.xs.unit_cell().orthogonalization_matrix()).reshape(3, 3)
        parts = np.array(self.disorder.parts)
        sites = np.array(self.xs.sites_frac())
        for i, sc in enumerate(self.xs.scatterers()):
            places = np.array(self.xs.sym_equiv_sites(sc.site).coordinates())
            steps = places[:, None] - sites
            steps -= np.round(steps)
            far = np.linalg.norm(steps @ cell.T, axis=-1)
            together = (parts == 0) | (parts[i] == 0) | (parts == parts[i])
            far[0, i] = np.inf
            close = np.argwhere((far < _NEAREST) & together)
            if len(close):
                n, j = close[0]
                other = "its own copy" if i == j else self.labels[j]
                raise InputError(
                    f"sites {sc.label} and {other} are {far[n, j]:.2f} angstrom apart and in one "
                    "arrangement; disordered sites need disorder groups (PART) and occupancies"
                )

    def _merge(
        self, hkl: np.ndarray, intensity: np.ndarray, sigma: np.ndarray, source: str
    ) -> None:
        symmetry = self.xs.crystal_symmetry()
        centric = self.xs.space_group().is_centric()
        indices = flex.miller_index([tuple(int(x) for x in h) for h in hkl])
        fo = miller.set(symmetry, indices, anomalous_flag=not centric).array(
            flex.double(intensity), flex.double(sigma)
        )
        fo = fo.set_observation_type_xray_intensity()
        fo = fo.select(~fo.sys_absent_flags().data())
        fo = fo.merge_equivalents().array().set_observation_type_xray_intensity()
        fo = fo.select(fo.d_spacings().data() > 0)
        if fo.size() < 9:
            raise InputError(f"{source}: only {fo.size()} reflections fit the space group")
        self.fo = fo

    def _table_indices(self) -> np.ndarray:
        """All indices at which form factors are needed; of h and -h only one."""
        hkl = np.array(self.fo.indices())
        rotations = [
            np.array(op.r().as_double()).reshape(3, 3).round().astype(int)
            for op in self.xs.space_group().all_ops()
        ]
        found = np.unique(np.concatenate([hkl @ r for r in rotations]), axis=0)
        h, k, l = found.T  # noqa: E741
        lower = (l < 0) | ((l == 0) & ((k < 0) | ((k == 0) & (h < 0))))
        found[lower] *= -1
        return np.unique(found, axis=0)

    def expanded(self) -> dict[str, Any]:
        """Cell and arrangements, the best occupied one first.

        Returns
        -------
        dict
            "cell" (3, 3) in angstrom, and "arrangements": for each one its disorder group "part",
            its "share" of the crystal, the indices "sites" of its sites, which of them are
            "ordered", and "numbers" and "positions" (angstrom) of all
            atoms of the cell, first those of the sites themselves.
        """
        cell = self.xs.unit_cell()
        copies = [
            [cell.orthogonalize(x) for x in self.xs.sym_equiv_sites(sc.site).coordinates()]
            for sc in self.xs.scatterers()
        ]
        arrangements = []
        for part, share in zip(self.disorder.arrangements, self.disorder.shares, strict=True):
            sites = [i for i, p in enumerate(self.disorder.parts) if p in (0, part)]
            atoms = [(self.numbers[i], copies[i][0]) for i in sites]
            atoms += [(self.numbers[i], place) for i in sites for place in copies[i][1:]]
            arrangements.append(
                {
                    "part": part,
                    "share": share,
                    "ordered": np.array([self.disorder.parts[i] == 0 for i in sites]),
                    "sites": np.array(sites),
                    "numbers": np.array([z for z, _ in atoms]),
                    "positions": np.array([place for _, place in atoms]),
                }
            )
        vectors = np.array(cell.orthogonalization_matrix()).reshape(3, 3).T
        return {"cell": vectors, "arrangements": arrangements}

    def set_hydrogens(self, anisotropic: bool) -> None:
        """Free all coordinates and displacements; hydrogens get tensors or one value each.

        Those of disorder groups always get one value.
        """
        cell = self.xs.unit_cell()
        for z, part, sc in zip(
            self.numbers, self.disorder.parts, self.xs.scatterers(), strict=True
        ):
            if sc.flags.use_u_iso() and sc.u_iso <= 0.002:
                sc.u_iso = 0.02  # a start from which the fit can find back
            tensor = anisotropic and part == 0
            if z == 1 and tensor != sc.flags.use_u_aniso():
                if tensor:
                    sc.convert_to_anisotropic(cell)
                else:
                    sc.convert_to_isotropic(cell)
            flags = sc.flags
            flags.set_grad_site(True)
            flags.set_grad_u_iso(flags.use_u_iso())
            flags.set_grad_u_aniso(flags.use_u_aniso())
            sc.flags = flags

    def fit(self, form_factors: np.ndarray | None) -> dict[str, Any]:
        """Full-matrix least squares on F^2 until the shifts vanish.

        If it fails or gets worse, the model stays as it was and "failure" says why.

        Parameters
        ----------
        form_factors : (n_sites, n) complex or None
            At the indices "hkl" of `load`, electrons; None for spherical atoms.
        """
        self.xs.scattering_type_registry(table="wk1995")
        self.last = self._state()
        self.form_factors = form_factors
        before = self.last["scatterers"]
        with self.table() as table:
            try:
                self._least_squares(table)
                failure = self._runaway(before)
            except (RuntimeError, ArithmeticError, AssertionError) as error:
                failure = self._undetermined() or self._runaway(before) or first_line(error)
        if failure:
            self.step_back()
            return {"failure": failure}
        return self._result(before)

    def _state(self) -> dict[str, Any]:
        return {
            "scatterers": self.xs.scatterers().deep_copy(),
            "extinction": self.extinction.value if self.extinction else 0.0,
            "of the fit": {name: getattr(self, name, None) for name in _OF_A_FIT},
        }

    def step_back(self) -> None:
        """Return to the model before the last fit."""
        self.xs.replace_scatterers(self.last["scatterers"])
        if self.extinction:
            self.extinction.value = self.last["extinction"]
        for name, value in self.last["of the fit"].items():
            setattr(self, name, value)

    @contextmanager
    def table(self) -> Iterator[str | None]:
        """Path of the form factors of the last fit, as smtbx reads them; None for spheres."""
        if self.form_factors is None:
            yield None
            return
        with tempfile.TemporaryDirectory() as folder:
            path, half = Path(folder) / "model.tsc", self._table_indices()
            both = np.concatenate([self.form_factors, self.form_factors.conj()], axis=1)
            tsc.write(path, self.labels, np.concatenate([half, -half]), both)
            yield str(path)

    def _least_squares(self, table: str | None) -> None:
        self.connectivity = smtbx.utils.connectivity_table(
            self.xs, conformer_indices=flex.size_t(self.disorder.parts)
        )
        keywords = {"extinction": self.extinction} if self.extinction else {}
        model = constraints.reparametrisation(self.xs, [], self.connectivity, **keywords)
        if self.fo.size() <= model.n_independents + 1:
            raise InputError(
                f"{self.fo.size()} unique reflections are too few for {model.n_independents + 1} "
                "parameters; take isotropic hydrogens or more reflections"
            )
        self.weighting = least_squares.mainstream_shelx_weighting(a=self.a, b=self.b)
        self.ls = least_squares.crystallographic_ls(
            self.fo.as_xray_observations(), model,
            weighting_scheme=self.weighting,
            one_h_linearisation=direct.f_calc_modulus_squared(self.xs, table_file_name=table),
        )  # fmt: skip
        # Damped steps find the way from afar; undamped ones then leave no shift behind, where the
        # gradient has long been too small to say so.
        normal_eqns_solving.levenberg_marquardt_iterations(
            non_linear_ls=self.ls, n_max_iterations=30, gradient_threshold=1e-9, step_threshold=1e-6
        )
        normal_eqns_solving.naive_iterations(
            non_linear_ls=self.ls, n_max_iterations=4, gradient_threshold=1e-20, step_threshold=1e-8
        )
        self.ls.build_up()
        jacobian = model.jacobian_transpose_matching_grad_fc()
        self.covariance = self.ls.covariance_matrix(jacobian_transpose=jacobian)

    def _undetermined(self) -> str:
        """Which parameter the reflections do not determine, or an empty string."""
        try:
            self.ls.build_up()
            packed = np.array(self.ls.step_equations().normal_matrix_packed_u())
        except (AttributeError, RuntimeError, AssertionError):
            return ""
        n = round((np.sqrt(8 * len(packed) + 1) - 1) / 2)
        matrix = np.zeros((n, n))
        matrix[np.triu_indices(n)] = packed
        scale = np.sqrt(np.maximum(matrix.diagonal(), 1e-300))
        matrix = (matrix + np.triu(matrix, 1).T) / np.outer(scale, scale)
        if not np.isfinite(matrix).all():
            return ""
        values, vectors = np.linalg.eigh(matrix)
        if values[0] > _SINGULAR:
            return ""
        model = self.ls.reparametrisation
        jacobian = model.jacobian_transpose_matching_grad_fc()
        effect = np.zeros(jacobian.n_cols)
        for j in range(jacobian.n_cols):
            effect[j] = sum(vectors[i, 0] * value for i, value in jacobian.col(j))
        name = list(model.component_annotations)[int(np.abs(effect).argmax())]
        return f"the reflections do not determine {name}"

    def _runaway(self, before: Any) -> str:
        """Which parameter left the range of anything sensible, or an empty string."""
        cell = self.xs.unit_cell()
        for old, new in zip(before, self.xs.scatterers(), strict=True):
            moved = cell.length(tuple(np.subtract(new.site, old.site)))
            u = new.u_iso_or_equiv(cell)
            if not moved < 0.5:
                return f"{new.label} moved by {moved:.2f} angstrom"
            if not abs(u) < 0.5:
                return f"the displacement parameter of {new.label} became {u:.2f} angstrom^2"
        return ""

    def _result(self, before: Any) -> dict[str, Any]:
        ls, cell = self.ls, self.xs.unit_cell()
        esd = np.sqrt(np.maximum(np.array(self.covariance.matrix_packed_u_diagonal()), 0))
        parameters, lengths = self.xs.parameter_map(), np.array(cell.parameters()[:3])
        ratios = np.zeros((len(self.numbers), 3))
        for i, (old, new) in enumerate(zip(before, self.xs.scatterers(), strict=True)):
            start = parameters[i].site
            # in a polar group the origin is fixed by the heavy atoms, whose s.u. then vanish
            own = np.maximum(esd[start : start + 3] * lengths, _SMALLEST)
            ratios[i] = np.abs(np.subtract(new.site, old.site)) * lengths / own
        r1, n_strong = ls.r1_factor(cutoff_factor=2)
        r1_all, n_all = ls.r1_factor()
        tensors = [
            sc.label
            for sc in self.xs.scatterers()
            if sc.flags.use_u_aniso()
            and not adptbx.is_positive_definite(adptbx.u_star_as_u_cart(cell, sc.u_star))
        ]
        tensors += [s.label for s in self.xs.scatterers() if s.flags.use_u_iso() and s.u_iso <= 0]
        self.residual = measures.residual_map(self)
        self.result = {
            "failure": "",
            "r1_percent": 100 * r1,
            "r1_all_percent": 100 * r1_all,
            "wr2_percent": 100 * ls.wR2(),
            "wr2_strong_percent": 100 * ls.wR2(cutoff_factor=2),
            "goodness_of_fit": ls.goof(),
            "n_strong": n_strong,
            "n_reflections": n_all,
            "n_parameters": ls.reparametrisation.n_independents + 1,
            "extinction": self._extinction_with_esd(),
            "residual_density_e_per_angstrom3": {
                "max": float(self.residual.max()),
                "min": float(self.residual.min()),
                "rms": float(self.residual.std()),
            },
            "shift_over_esd": float(ratios.max()),
            "shift_label": self.labels[int(ratios.max(axis=1).argmax())],
            "bonds": measures.bonds(self),
            "not_positive": tensors,
        }
        return {**self.result, **self.expanded(), "residual": self.residual}

    def _extinction_with_esd(self) -> list[float] | None:
        if self.extinction is None:
            return None
        model = self.ls.reparametrisation
        jacobian = model.jacobian_transpose_matching(model.mapping_to_grad_fc_independent_scalars)
        covariance = self.ls.covariance_matrix(jacobian_transpose=jacobian)
        return [float(self.extinction.value), float(np.sqrt(max(covariance[0], 0.0)))]

    def absolute_structure(self) -> dict[str, Any] | None:
        """Flack's and Hooft's parameters with the form factors of the last fit; see `measures`."""
        return measures.absolute_structure(self)

    def cif(self, details: dict[str, str]) -> str:
        """Text of the refined CIF, with coordinates, tensors, uncertainties and reflections."""
        return written.refined_cif(self, details)

    def fcf(self) -> str:
        """Text of the structure factors, as SHELXL's LIST 4."""
        return written.fcf(self)


def _first(value: Any) -> str | None:
    """The item, or the first of a loop."""
    return value if value is None or isinstance(value, str) else str(value[0])
