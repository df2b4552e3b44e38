"""The refined CIF and the structure factors (fcf), in the process with cctbx."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from cctbx.array_family import flex
from iotbx.cif import geometry
from iotbx.cif import model as cif_model
from libtbx.utils import format_float_with_standard_uncertainty as with_esd

from denser.types.version import __version__
from denser.workflows.refinement.measures import covariance_of_atoms

if TYPE_CHECKING:
    from denser.workflows.refinement.crystal import Crystal

_KEPT = ("_cell_", "_chemical_", "_exptl_", "_diffrn_", "_space_group_", "_computing_",
         "_atom_sites_solution_")  # fmt: skip
"""Beginnings of the names of single items that the refined CIF takes from the model."""

_SECTIONS = ("_audit", "_chemical", "_space_group", "_symmetry", "_cell", "_exptl", "_diffrn",
             "_reflns", "_computing", "_refine", "_atom_sites", "_atom_type", "_atom_site",
             "_geom")  # fmt: skip
"""Order of the items in the file."""


def refined_cif(crystal: Crystal, details: dict[str, str]) -> str:
    """Text of the refined CIF: what IUCr's checkCIF expects, bonds, and the reflections.

    Parameters
    ----------
    crystal : Crystal
        After a fit.
    details : dict
        Further items and their text.
    """
    covariance = covariance_of_atoms(crystal)
    block = crystal.xs.as_cif_block(covariance_matrix=covariance, format="coreCIF")
    for name in list(block.keys()):
        if name.startswith("_atom_type_scat_Cromer"):  # of spherical atoms
            del block[name]
    _drop_old_names(block)
    sources = block.get("_atom_type_scat_source")
    if sources is not None:
        for i in range(len(sources)):
            sources[i] = "Hirshfeld atoms, see _refine_special_details"
    _mark_sites(crystal, block)
    for name in crystal.block:
        value = crystal.block[name]
        if name.startswith(_KEPT) and isinstance(value, str) and value not in ("?", "."):
            block[name] = value
    for name, text in (_items(crystal) | details).items():
        block[name] = text
    if "_atom_sites_solution_hydrogens" not in block:
        block["_atom_sites_solution_hydrogens"] = "difmap"
    _add_geometry(crystal, block, covariance)
    # cctbx writes single items in the order in which they were set, and loops after them
    ordered = cif_model.block()
    for section in (*_SECTIONS, ""):
        for name in list(block.keys()):
            if name in ordered or not name.startswith(section):
                continue
            if name in block.loops or any(name in loop for loop in block.loops.values()):
                continue
            ordered[name] = block[name]
    for loop in block.loops.values():
        ordered.add_loop(loop)
    ordered.add_loop(_reflections(crystal))
    document = cif_model.cif()
    document["refined"] = ordered
    return str(document)


def fcf(crystal: Crystal) -> str:
    """Text of the structure factors as SHELXL's LIST 4: F^2 on absolute scale, with Friedel mates.

    The calculated ones contain extinction.
    """
    block = crystal.xs.crystal_symmetry().as_cif_block(format="coreCIF")
    _drop_old_names(block)
    block["_audit_creation_method"] = f"denser {__version__}"
    block["_shelx_title"] = "Hirshfeld atom refinement"
    block["_shelx_refln_list_code"] = "4"
    block["_exptl_crystal_F_000"] = f"{_electrons(crystal):.2f}"
    block["_reflns_d_resolution_high"] = f"{crystal.fo.d_min():.4f}"
    block.add_loop(_reflections(crystal))
    document = cif_model.cif()
    document["refined"] = block
    return str(document)


def _drop_old_names(block: Any) -> None:
    """The symmetry stands there under its new names too."""
    for name in list(block.keys()):
        if name.startswith("_symmetry_"):
            del block[name]


def _electrons(crystal: Crystal) -> float:
    sites = zip(crystal.numbers, crystal.xs.scatterers(), strict=True)
    return float(sum(z * sc.occupancy * sc.multiplicity() for z, sc in sites))


def _items(crystal: Crystal) -> dict[str, str]:
    """Results of the fit."""
    result = crystal.result
    residual = result["residual_density_e_per_angstrom3"]
    p = "where P=(Fo^2^+2Fc^2^)/3"
    terms = [r"\s^2^(Fo^2^)"] + [f"({crystal.a:g}P)^2^"] * bool(crystal.a)
    terms += [f"{crystal.b:g}P"] * bool(crystal.b)
    h, k, l = (flex.int(x) for x in zip(*crystal.fo.indices(), strict=True))  # noqa: E741
    d_max, d_min = crystal.fo.d_max_min()
    variances = np.array(crystal.ls.covariance_matrix().matrix_packed_u_diagonal())
    shifts = np.abs(np.array(crystal.ls.step())) / np.sqrt(np.maximum(variances, 1e-300))
    goodness = f"{result['goodness_of_fit']:.3f}"
    items = {
        "_audit_creation_date": date.today().isoformat(),
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
        "_refine_ls_wR_factor_gt": f"{result['wr2_strong_percent'] / 100:.4f}",
        "_refine_ls_goodness_of_fit_ref": goodness,
        "_refine_ls_restrained_S_all": goodness,
        "_refine_ls_shift/su_max": f"{shifts.max():.3f}",
        "_refine_ls_shift/su_mean": f"{shifts.mean():.3f}",
        "_refine_diff_density_max": f"{residual['max']:.3f}",
        "_refine_diff_density_min": f"{residual['min']:.3f}",
        "_refine_diff_density_rms": f"{residual['rms']:.3f}",
        "_reflns_number_total": str(result["n_reflections"]),
        "_reflns_number_gt": str(result["n_strong"]),
        "_reflns_threshold_expression": r"I > 2\s(I)",
        "_reflns_d_resolution_high": f"{d_min:.4f}",
        "_reflns_d_resolution_low": f"{d_max:.4f}",
        **{
            f"_reflns_limit_{name}_{end}": str(value)
            for name, axis in (("h", h), ("k", k), ("l", l))
            for end, value in (("min", flex.min(axis)), ("max", flex.max(axis)))
        },
        "_refine_ls_extinction_method": "none",
    }
    if crystal.fo.anomalous_flag():
        n_pairs = crystal.fo.anomalous_differences().size()
        complete = crystal.fo.complete_set().n_bijvoet_pairs()
        items["_reflns_Friedel_coverage"] = f"{n_pairs / max(complete, 1):.3f}"
    if crystal.extinction:
        items["_refine_ls_extinction_method"] = "SHELXL"
        items["_refine_ls_extinction_coef"] = with_esd(*result["extinction"])
        items["_refine_ls_extinction_expression"] = r"Fc^*^=kFc[1+0.001xFc^2^\l^3^/sin(2\q)]^-1/4^"
    return items


def _mark_sites(crystal: Crystal, block: Any) -> None:
    """Say of each site where it comes from and to which disorder group it belongs."""
    loop = next(x for x in block.loops.values() if "_atom_site_fract_x" in x)
    n = len(crystal.numbers)
    loop["_atom_site_calc_flag"] = flex.std_string(["d"] * n)
    if any(crystal.disorder.parts):
        loop["_atom_site_disorder_group"] = flex.std_string(
            [str(part) if part else "." for part in crystal.disorder.parts]
        )


def _add_geometry(crystal: Crystal, block: Any, covariance: Any) -> None:
    """Bond lengths and angles with standard uncertainties."""
    pairs = crystal.connectivity.pair_asu_table
    arguments = {
        "site_labels": crystal.labels,
        "sites_frac": crystal.xs.sites_frac(),
        "covariance_matrix": covariance,
        "parameter_map": crystal.xs.parameter_map(),
        "include_bonds_to_hydrogen": True,
    }
    lengths = geometry.distances_as_cif_loop(pairs, **arguments).loop
    if lengths.n_rows():
        block.add_loop(lengths)
    angles = geometry.angles_as_cif_loop(
        pairs, conformer_indices=flex.size_t(crystal.disorder.parts), **arguments
    ).loop
    if angles.n_rows():
        block.add_loop(angles)


def _reflections(crystal: Crystal) -> Any:
    header = [f"_refln_index_{x}" for x in "hkl"]
    header += ["_refln_F_squared_calc", "_refln_F_squared_meas", "_refln_F_squared_sigma"]
    loop = cif_model.loop(header=[*header, "_refln_observed_status"])
    k, fo = crystal.ls.scale_factor(), crystal.fo
    rows = zip(fo.indices(), crystal.ls.fc_sq.data(), fo.data(), fo.sigmas(), strict=True)
    for h, calc, meas, sigma in rows:
        values = (calc, meas / k, sigma / k)
        seen = "o" if meas > 2 * sigma else "<"
        loop.add_row([*map(str, h), *(f"{value:.4f}" for value in values), seen])
    return loop
