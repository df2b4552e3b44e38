"""A crystal's model and reflections in cctbx, and their least squares with smtbx.

This module imports cctbx when it is loaded: `denser.workflows.refinement.engine` runs it.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from pathlib import Path
from typing import Any

import iotbx.cif
import numpy as np
import smtbx.utils
from cctbx import adptbx, miller, xray
from cctbx.array_family import flex
from iotbx.cif import model as cif_model
from iotbx.cif.builders import crystal_structure_builder
from scitbx.lstbx import normal_eqns_solving
from smtbx.refinement import constraints, least_squares
from smtbx.structure_factors import direct

from denser.io import tsc
from denser.io.files import naming, read_bytes
from denser.types.errors import InputError
from denser.workflows.refinement.model import (
    check_hydrogens,
    check_model,
    column,
    number,
    read_hklf4,
)

_INTENSITIES = (
    ("_refln_F_squared_meas", "_refln_F_squared_sigma"),
    ("_refln_intensity_meas", "_refln_intensity_sigma"),
    ("_refln_intensity_meas", "_refln_intensity_u"),
    ("_diffrn_refln_intensity_net", "_diffrn_refln_intensity_u"),
    ("_diffrn_refln_intensity_net", "_diffrn_refln_intensity_sigma"),
)

_KEPT = ("_cell_", "_chemical_", "_exptl_", "_diffrn_", "_symmetry_space_group", "_space_group_")
"""Beginnings of the names of single items that the refined CIF takes from the model."""

_SMALLEST = 1e-4
"""Standard uncertainties of coordinates below this (angstrom) count as this in shift/s.u."""


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
        self.block = _block_with_atoms(path)
        self.notes: list[str] = []
        with naming(path):
            self.numbers = check_model(self.block)
            try:
                self.xs = crystal_structure_builder(self.block).structure
            except Exception as error:  # cctbx raises many kinds
                raise InputError(f"cctbx cannot use it ({_first_line(error)})") from error
            self.wavelength = number(_first(self.block.get("_diffrn_radiation_wavelength")))
            self._weights()
            self._extinction()
            expanded = self.expanded()
            check_hydrogens(self.block.get("_chemical_formula_sum"), expanded["numbers"])
        if self.wavelength:
            self.xs.set_inelastic_form_factors(self.wavelength, "sasaki")
        else:
            self.notes.append("the CIF has no wavelength, so anomalous scattering is left out")
        hkl, intensity, sigma, source = _reflections(self.block, model, data)
        self._merge(hkl, intensity, sigma, source)
        return {
            **expanded,
            "labels": [sc.label for sc in self.xs.scatterers()],
            "hkl": self._table_indices(),
            "d_min": self.fo.d_min(),
            "space_group": str(self.xs.space_group_info()),
            "n_measured": len(hkl),
            "n_unique": self.fo.size(),
            "n_strong": int((self.fo.data() > 2 * self.fo.sigmas()).count(True)),
            "wavelength": self.wavelength,
            "weights": [self.a, self.b],
            "extinction": self.extinction is not None,
            "n_hydrogen": sum(z == 1 for z in self.numbers),
            "hydrogens_anisotropic": any(
                z == 1 and sc.flags.use_u_aniso()
                for z, sc in zip(self.numbers, self.xs.scatterers(), strict=True)
            ),
            "notes": self.notes,
        }

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
        self.extinction = xray.shelx_extinction_correction(
            self.xs.unit_cell(), self.wavelength, value
        )
        self.extinction.grad = True

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
        """Numbers, positions (angstrom) and cell of all atoms, first those of the model."""
        cell = self.xs.unit_cell()
        first, others = [], []
        for z, sc in zip(self.numbers, self.xs.scatterers(), strict=True):
            copies = self.xs.sym_equiv_sites(sc.site).coordinates()
            places = [cell.orthogonalize(x) for x in copies]
            first.append((z, places[0]))
            others += [(z, place) for place in places[1:]]
        atoms = first + others
        return {
            "numbers": np.array([z for z, _ in atoms]),
            "positions": np.array([place for _, place in atoms]),
            "cell": np.array(cell.orthogonalization_matrix()).reshape(3, 3).T,
        }

    def set_hydrogens(self, anisotropic: bool) -> None:
        """Free all coordinates and displacements; hydrogens get tensors or one value each."""
        cell = self.xs.unit_cell()
        for z, sc in zip(self.numbers, self.xs.scatterers(), strict=True):
            if sc.flags.use_u_iso() and sc.u_iso <= 0.002:
                sc.u_iso = 0.02  # a start from which the fit can find back
            if z == 1 and anisotropic != sc.flags.use_u_aniso():
                if anisotropic:
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
        before = self.xs.scatterers().deep_copy()
        ext_before = self.extinction.value if self.extinction else 0.0
        with tempfile.TemporaryDirectory() as folder:
            table = None
            if form_factors is not None:
                table = str(Path(folder) / "model.tsc")
                half = self._table_indices()
                labels = [sc.label for sc in before]
                both = np.concatenate([form_factors, form_factors.conj()], axis=1)
                tsc.write(table, labels, np.concatenate([half, -half]), both)
            try:
                self._least_squares(table)
                failure = self._runaway(before)
            except (RuntimeError, ArithmeticError, AssertionError) as error:
                failure = _first_line(error)
        if failure:
            self.xs.replace_scatterers(before)
            if self.extinction:
                self.extinction.value = ext_before
            return {"failure": failure}
        return self._result(before)

    def _least_squares(self, table: str | None) -> None:
        connectivity = smtbx.utils.connectivity_table(self.xs)
        keywords = {"extinction": self.extinction} if self.extinction else {}
        model = constraints.reparametrisation(self.xs, [], connectivity, **keywords)
        if self.fo.size() <= model.n_independents + 1:
            raise InputError(
                f"{self.fo.size()} unique reflections are too few for {model.n_independents + 1} "
                "parameters; take isotropic hydrogens or more reflections"
            )
        self.ls = least_squares.crystallographic_ls(
            self.fo.as_xray_observations(),
            model,
            weighting_scheme=least_squares.mainstream_shelx_weighting(a=self.a, b=self.b),
            one_h_linearisation=direct.f_calc_modulus_squared(self.xs, table_file_name=table),
        )
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
        self.annotations = list(model.component_annotations)

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
        shift, which = 0.0, ""
        for i, (old, new) in enumerate(zip(before, self.xs.scatterers(), strict=True)):
            start = parameters[i].site
            # in a polar group the origin is fixed by the heavy atoms, whose s.u. then vanish
            own = np.maximum(esd[start : start + 3] * lengths, _SMALLEST)
            moved = np.abs(np.subtract(new.site, old.site)) * lengths
            ratio = (moved / own).max()
            if ratio > shift:
                shift, which = float(ratio), new.label
        r1, n_strong = ls.r1_factor(cutoff_factor=2)
        r1_all, n_all = ls.r1_factor()
        tensors = [
            sc.label
            for sc in self.xs.scatterers()
            if sc.flags.use_u_aniso()
            and not adptbx.is_positive_definite(adptbx.u_star_as_u_cart(cell, sc.u_star))
        ]
        tensors += [s.label for s in self.xs.scatterers() if s.flags.use_u_iso() and s.u_iso <= 0]
        return {
            "failure": "",
            "r1_percent": 100 * r1,
            "r1_all_percent": 100 * r1_all,
            "wr2_percent": 100 * ls.wR2(),
            "goodness_of_fit": ls.goof(),
            "n_strong": n_strong,
            "n_reflections": n_all,
            "n_parameters": ls.reparametrisation.n_independents,
            "extinction": self.extinction.value if self.extinction else None,
            "residual_density_e_per_angstrom3": self._residual(),
            "shift_over_esd": shift,
            "shift_label": which,
            "bonds": self._bonds(),
            "not_positive": tensors,
            **self.expanded(),
        }

    def _residual(self) -> dict[str, float]:
        """Extremes and root mean square of the residual density, e/angstrom^3."""
        ls = self.ls
        k = ls.scale_factor()
        f_obs = np.sqrt(np.maximum(np.array(self.fo.data()), 0) / k)
        correction = np.sqrt(
            np.maximum(np.array(ls.fc_sq.data()), 1e-12)
            / np.maximum(np.abs(np.array(ls.f_calc.data())) ** 2, 1e-12)
        )  # extinction
        f_calc = np.array(ls.f_calc.data())
        phase = np.exp(1j * np.angle(f_calc))
        difference = (f_obs / correction - np.abs(f_calc)) * phase
        array = self.fo.array(data=flex.complex_double(difference), sigmas=None)
        if array.anomalous_flag():
            array = array.average_bijvoet_mates()
        density = array.fft_map(resolution_factor=0.25)
        density.apply_volume_scaling()
        values = np.array(density.real_map_unpadded())
        return {"max": float(values.max()), "min": float(values.min()), "rms": float(values.std())}

    def _bonds(self) -> list[dict[str, Any]]:
        """The bond of each hydrogen to its nearest other atom, in angstrom.

        The standard uncertainty is that of the hydrogen's coordinates.
        """
        cell = self.xs.unit_cell()
        to_cartesian = np.array(cell.orthogonalization_matrix()).reshape(3, 3)
        scatterers, parameters = self.xs.scatterers(), self.xs.parameter_map()
        packed = np.array(self.covariance)
        n = round((np.sqrt(8 * len(packed) + 1) - 1) / 2)
        full = np.zeros((n, n))
        full[np.triu_indices(n)] = packed
        heavy = [
            (sc.label, np.array(x))
            for z, sc in zip(self.numbers, scatterers, strict=True)
            if z != 1
            for x in self.xs.sym_equiv_sites(sc.site).coordinates()
        ]
        shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
        found = []
        for i, (z, sc) in enumerate(zip(self.numbers, scatterers, strict=True)):
            if z != 1 or not heavy:
                continue
            steps = np.array([x for _, x in heavy]) - np.array(sc.site)
            steps = (steps - np.round(steps))[:, None] + shifts
            vectors = steps @ to_cartesian.T
            lengths = np.linalg.norm(vectors, axis=-1)
            a, b = np.unravel_index(np.argmin(lengths), lengths.shape)
            slope = to_cartesian.T @ (vectors[a, b] / lengths[a, b])
            start = parameters[i].site
            block = full[start : start + 3, start : start + 3]
            block = block + np.triu(block, 1).T
            found.append(
                {
                    "atoms": f"{heavy[a][0]}-{sc.label}",
                    "length_angstrom": float(lengths[a, b]),
                    "esd_angstrom": float(np.sqrt(max(slope @ block @ slope, 0.0))),
                }
            )
        return found

    def cif(self, result: dict[str, Any], details: dict[str, str]) -> str:
        """Text of the refined CIF, with coordinates, tensors, uncertainties and reflections."""
        parameters = self.xs.parameter_map().n_parameters
        covariance = _first_block(self.covariance, parameters)
        block = self.xs.as_cif_block(covariance_matrix=covariance, format="coreCIF")
        for name in list(block.keys()):
            if name.startswith("_atom_type_scat_Cromer"):  # of spherical atoms
                del block[name]
        sources = block.get("_atom_type_scat_source")
        if sources is not None:
            for i in range(len(sources)):
                sources[i] = "Hirshfeld atoms, see _refine_special_details"
        for name in self.block:
            value = self.block[name]
            if name.startswith(_KEPT) and isinstance(value, str) and value not in ("?", "."):
                block[name] = value
        residual, ls = result["residual_density_e_per_angstrom3"], self.ls
        p = "where P=(Fo^2^+2Fc^2^)/3"
        terms = [r"\s^2^(Fo^2^)"] + [f"({self.a:g}P)^2^"] * bool(self.a)
        terms += [f"{self.b:g}P"] * bool(self.b)
        items = {
            "_refine_ls_structure_factor_coef": "Fsqd",
            "_refine_ls_matrix_type": "full",
            "_refine_ls_weighting_scheme": "calc",
            "_refine_ls_weighting_details": f"w=1/[{'+'.join(terms)}] {p}",
            "_refine_ls_hydrogen_treatment": "refall",
            "_refine_ls_number_reflns": str(result["n_reflections"]),
            "_refine_ls_number_parameters": str(result["n_parameters"]),
            "_refine_ls_number_restraints": "0",
            "_refine_ls_R_factor_all": f"{result['r1_all_percent'] / 100:.4f}",
            "_refine_ls_R_factor_gt": f"{result['r1_percent'] / 100:.4f}",
            "_refine_ls_wR_factor_ref": f"{result['wr2_percent'] / 100:.4f}",
            "_refine_ls_goodness_of_fit_ref": f"{result['goodness_of_fit']:.3f}",
            "_refine_ls_shift/su_max": f"{result['shift_over_esd']:.3f}",
            "_refine_diff_density_max": f"{residual['max']:.3f}",
            "_refine_diff_density_min": f"{residual['min']:.3f}",
            "_refine_diff_density_rms": f"{residual['rms']:.3f}",
            "_reflns_number_total": str(result["n_reflections"]),
            "_reflns_number_gt": str(result["n_strong"]),
            "_reflns_threshold_expression": r"I > 2\s(I)",
            "_reflns_d_resolution_high": f"{self.fo.d_min():.4f}",
        }
        if self.extinction:
            items["_refine_ls_extinction_method"] = "SHELXL"
            items["_refine_ls_extinction_coef"] = f"{self.extinction.value:.5f}"
            items["_refine_ls_extinction_expression"] = (
                r"Fc^*^=kFc[1+0.001xFc^2^\l^3^/sin(2\q)]^-1/4^"
            )
        else:
            items["_refine_ls_extinction_method"] = "none"
        for name, text in (items | details).items():
            block[name] = text
        header = [f"_refln_index_{x}" for x in "hkl"]
        header += ["_refln_F_squared_calc", "_refln_F_squared_meas", "_refln_F_squared_sigma"]
        loop = cif_model.loop(header=header)
        k = ls.scale_factor()
        rows = zip(
            self.fo.indices(), ls.fc_sq.data(), self.fo.data(), self.fo.sigmas(), strict=True
        )
        for h, calc, meas, sigma in rows:
            values = (calc, meas / k, sigma / k)
            loop.add_row([*map(str, h), *(f"{value:.4f}" for value in values)])
        block.add_loop(loop)
        document = cif_model.cif()
        document["refined"] = block
        return str(document)


def _first_block(packed: Any, n: int) -> Any:
    """The packed upper triangle of the first n rows and columns."""
    size = round((np.sqrt(8 * len(packed) + 1) - 1) / 2)
    full = np.zeros((size, size))
    full[np.triu_indices(size)] = np.array(packed)
    return flex.double(full[:n, :n][np.triu_indices(n)])


def _first(value: Any) -> str | None:
    """The item, or the first of a loop."""
    return value if value is None or isinstance(value, str) else str(value[0])


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _blocks(path: Path) -> Any:
    text = read_bytes(path).decode("utf-8", "replace")
    try:
        return iotbx.cif.reader(input_string=text).model()
    except Exception as error:  # cctbx raises many kinds
        raise InputError(f"{path}: is not a CIF that can be read ({_first_line(error)})") from error


def _block_with_atoms(path: Path) -> Any:
    blocks = _blocks(path)
    found = [b for b in blocks.values() if b.get("_atom_site_fract_x") is not None]
    if len(found) != 1:
        raise InputError(f"{path}: expected one block with atoms, found {len(found)}")
    return found[0]


def _reflections(
    block: Any, model: str, data: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Indices, intensities, sigmas and the name of their source."""
    if data is None:
        embedded = block.get("_shelx_hkl_file") or block.get("_iucr_refine_reflections_data")
        if embedded:
            return *read_hklf4(embedded, f"{model} (_shelx_hkl_file)"), model
        found = _of_loop(block, model)
        if found is None:
            raise InputError(f"{model}: has no reflections; name a file with them after the model")
        return *found, model
    text = read_bytes(Path(data)).decode("utf-8", "replace")
    if re.search(r"^\s*(data_|loop_)", text, re.MULTILINE | re.IGNORECASE) is None:
        return *read_hklf4(text, data), data
    for other in _blocks(Path(data)).values():
        embedded = other.get("_shelx_hkl_file")
        if embedded:
            return *read_hklf4(embedded, f"{data} (_shelx_hkl_file)"), data
        found = _of_loop(other, data)
        if found is not None:
            return *found, data
    raise InputError(f"{data}: has no intensities with sigmas (such as {_INTENSITIES[0][0]})")


def _of_loop(block: Any, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    for meas, sig in _INTENSITIES:
        prefix = "_diffrn_refln" if meas.startswith("_diffrn") else "_refln"
        if block.get(meas) is None or block.get(sig) is None:
            continue
        try:
            hkl = [[int(x) for x in column(block, f"{prefix}_index_{i}") or []] for i in "hkl"]
            values = [[float(x) for x in column(block, item) or []] for item in (meas, sig)]
        except ValueError as error:
            raise InputError(f"{name}: a reflection is no number ({error})") from error
        h, (intensity, sigma) = np.array(hkl).T, np.array(values)
        if h.shape != (len(intensity), 3) or not (sigma > 0).all():
            raise InputError(f"{name}: reflections lack indices, or a sigma is not positive")
        return h, intensity, sigma
    return None
