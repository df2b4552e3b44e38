"""What a fit says of a crystal: residual density, bonds to hydrogen, absolute structure.

All of it is computed with cctbx, in the process with cctbx.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import smtbx.absolute_structure
from cctbx import crystal as cctbx_crystal
from cctbx import sgtbx, xray
from cctbx.array_family import flex
from cctbx.xray import observations
from scitbx.lstbx import normal_eqns_solving
from smtbx.refinement import constraints, least_squares
from smtbx.structure_factors import direct

from denser.workflows.refinement.neutron import neutron_mean

if TYPE_CHECKING:
    from denser.workflows.refinement.crystal import Crystal

_PAIRS = 10
"""Fewer measured Friedel pairs than this say nothing about the absolute structure."""


def residual_map(crystal: Crystal) -> np.ndarray:
    """Residual density of the whole cell (nx, ny, nz), e/angstrom^3; the nodes begin at 0.

    The Fourier sum of (F_o - F_c) exp(i phase of F_c), with F_o corrected for extinction, on a grid
    of a quarter of the resolution. Friedel mates are averaged.
    """
    ls = crystal.ls
    f_obs = np.sqrt(np.maximum(np.array(crystal.fo.data()), 0) / ls.scale_factor())
    f_calc = np.array(ls.f_calc.data())
    amplitude = np.maximum(np.abs(f_calc), 1e-6)
    extinction = np.sqrt(np.maximum(np.array(ls.fc_sq.data()), 1e-12)) / amplitude
    difference = (f_obs / extinction - amplitude) * f_calc / amplitude
    array = crystal.fo.array(data=flex.complex_double(difference), sigmas=None)
    if array.anomalous_flag():
        array = array.average_bijvoet_mates()
    density = array.fft_map(resolution_factor=0.25)
    density.apply_volume_scaling()
    return np.array(density.real_map_unpadded().as_numpy_array())


def covariance_of_atoms(crystal: Crystal) -> Any:
    """Covariance matrix of the atoms' parameters alone, as a packed upper triangle."""
    packed, n = crystal.covariance, crystal.xs.parameter_map().n_parameters
    size = round((math.sqrt(8 * len(packed) + 1) - 1) / 2)
    full = np.zeros((size, size))
    full[np.triu_indices(size)] = np.array(packed)
    return flex.double(full[:n, :n][np.triu_indices(n)])


def bonds(crystal: Crystal) -> list[dict[str, Any]]:
    """The bond of each hydrogen to its nearest other atom, beside the mean from neutrons."""
    numbers, labels = crystal.numbers, crystal.labels
    pairs = crystal.connectivity.pair_asu_table
    distances = cctbx_crystal.calculate_distances(
        pairs,
        crystal.xs.sites_frac(),
        skip_j_seq_less_than_i_seq=False,
        covariance_matrix=covariance_of_atoms(crystal),
        parameter_map=crystal.xs.parameter_map(),
    )
    nearest: dict[int, tuple[float, float, int]] = {}
    for d in distances:
        if numbers[d.i_seq] == 1 and numbers[d.j_seq] != 1:
            bond = (d.distance, math.sqrt(max(d.variance, 0.0)), d.j_seq)
            nearest[d.i_seq] = min(bond, nearest.get(d.i_seq, bond))
    parts = crystal.disorder.parts
    found = []
    for i, (length, esd, heavy) in sorted(nearest.items()):
        beside = parts[i] or parts[heavy] or crystal.disorder.arrangements[0]
        around = [
            numbers[j]
            for j, groups in pairs.table()[heavy].items()
            if parts[j] in (0, beside)
            for group in groups
            for _ in group
        ]
        mean = neutron_mean(numbers[heavy], around)
        found.append(
            {
                "atoms": f"{labels[heavy]}-{labels[i]}",
                "length_angstrom": length,
                "esd_angstrom": esd,
                "neutron_angstrom": None if mean is None else mean.length,
                "neutron_source": None if mean is None else mean.source,
            }
        )
    return found


def absolute_structure(crystal: Crystal) -> dict[str, Any] | None:
    """Flack's and Hooft's parameters; None for a centrosymmetric group or without dispersion.

    Flack's x is the fraction of the inverted structure, fitted to all reflections with the form
    factors of the last fit and with all atoms fixed (Flack, Acta Cryst. A39, 876 (1983)). Hooft's
    y comes from the differences of Friedel pairs (Hooft, Straver and Spek, J. Appl. Cryst. 41, 96
    (2008)); it is None if fewer than 10 of them were measured.

    Returns
    -------
    dict
        "flack", "flack_esd", "hooft", "hooft_esd" and "n_friedel_pairs".
    """
    fo, ls, xs = crystal.fo, crystal.ls, crystal.xs
    if not fo.anomalous_flag() or not any(sc.fdp for sc in xs.scatterers()):
        return None
    x, esd = _flack(crystal)
    n_pairs = fo.anomalous_differences().size()
    hooft = hooft_esd = None
    if n_pairs >= _PAIRS:
        f_calc = ls.f_calc.data()
        ratio = np.array(ls.fc_sq.data()) / np.maximum(np.abs(np.array(f_calc)) ** 2, 1e-12)
        extinction = flex.complex_double(np.sqrt(ratio).astype(complex))
        corrected = ls.f_calc.customized_copy(data=f_calc * extinction)
        analysis = smtbx.absolute_structure.hooft_analysis(
            fo, corrected, scale_factor=ls.scale_factor()
        )
        hooft, hooft_esd = analysis.hooft_y, analysis.sigma_y
    return {
        "flack": x,
        "flack_esd": esd,
        "hooft": hooft,
        "hooft_esd": hooft_esd,
        "n_friedel_pairs": n_pairs,
    }


def _flack(crystal: Crystal) -> tuple[float, float]:
    """Flack's x and its standard uncertainty; as smtbx.absolute_structure, with Hirshfeld atoms."""
    fixed = crystal.xs.deep_copy_scatterers()
    for sc in fixed.scatterers():
        flags = xray.scatterer_flags()
        flags.set_use_u_aniso(sc.flags.use_u_aniso())
        flags.set_use_u_iso(sc.flags.use_u_iso())
        flags.set_use_fp_fdp(True)
        sc.flags = flags
    inverted = xray.twin_component(sgtbx.rot_mx((-1, 0, 0, 0, -1, 0, 0, 0, -1)), 0.2, True)
    data = observations.customized_copy(crystal.fo.as_xray_observations(), (), (inverted,))
    fixed_extinction = xray.dummy_extinction_correction()
    if crystal.extinction:
        fixed_extinction = crystal.new_extinction(crystal.extinction.value, free=False)
    model = constraints.reparametrisation(
        fixed, [], crystal.connectivity, twin_fractions=(inverted,), extinction=fixed_extinction
    )
    with crystal.table() as table:
        equations = least_squares.crystallographic_ls(
            data, model, weighting_scheme=crystal.weighting,
            one_h_linearisation=direct.f_calc_modulus_squared(fixed, table_file_name=table),
        )  # fmt: skip
        normal_eqns_solving.naive_iterations(
            equations, n_max_iterations=10, gradient_threshold=1e-7, step_threshold=1e-4
        )
        scalars = model.mapping_to_grad_fc_independent_scalars
        jacobian = model.jacobian_transpose_matching(scalars)
        variance = equations.covariance_matrix(jacobian_transpose=jacobian)[0]
    return float(inverted.value), math.sqrt(max(variance, 0.0))
