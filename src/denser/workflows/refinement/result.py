"""The result of a refinement."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from denser.types.density import Density
from denser.types.structure import Structure


@dataclass(frozen=True)
class Bond:
    """A bond to hydrogen.

    Parameters
    ----------
    atoms : str
        Labels of both atoms, such as N1-H1A.
    length_angstrom, esd_angstrom : float
        Length, and its standard uncertainty from the full covariance matrix of the fit.
    neutron_angstrom : float or None
        Mean length of such bonds from neutron diffraction, if there is one.
    neutron_source : str or None
        Where it comes from.
    """

    atoms: str
    length_angstrom: float
    esd_angstrom: float
    neutron_angstrom: float | None
    neutron_source: str | None


@dataclass(frozen=True)
class AbsoluteStructure:
    """Parameters that are 0 for the right absolute structure and 1 for the inverted one.

    Parameters
    ----------
    flack, flack_esd : float
        Fitted fraction of the inverted structure (Flack, Acta Cryst. A39, 876 (1983)).
    hooft, hooft_esd : float or None
        From the differences of Friedel pairs (Hooft, Straver and Spek, J. Appl. Cryst. 41, 96
        (2008)); None if fewer than 10 pairs were measured.
    n_friedel_pairs : int
    """

    flack: float
    flack_esd: float
    hooft: float | None
    hooft_esd: float | None
    n_friedel_pairs: int

    @property
    def determined(self) -> bool:
        """Whether the reflections tell the structure from the inverted one."""
        return self.flack_esd < 0.3

    @property
    def text(self) -> str:
        """One line."""
        if not self.determined:
            return (
                "not determined by the reflections (standard uncertainty of Flack's x "
                f"{self.flack_esd:.1f}; {self.n_friedel_pairs} Friedel pairs)"
            )
        flack = f"Flack x {self.flack:.2f} +- {self.flack_esd:.2f}"
        if self.hooft is None or self.hooft_esd is None:
            return f"{flack}; {self.n_friedel_pairs} Friedel pairs"
        hooft = f"Hooft y {self.hooft:.2f} +- {self.hooft_esd:.2f}"
        return f"{flack}; {hooft} from {self.n_friedel_pairs} Friedel pairs"


@dataclass(frozen=True, eq=False)
class Fit:
    """A least-squares fit on F^2.

    Parameters
    ----------
    r1_percent, r1_all_percent : float
        R1 of the reflections above 2 sigma, and of all.
    wr2_percent, wr2_strong_percent : float
        wR2 of all reflections, and of those above 2 sigma.
    goodness_of_fit : float
    n_strong, n_reflections, n_parameters : int
        Reflections above 2 sigma, all, and parameters with the scale factor.
    extinction : tuple or None
        SHELXL's coefficient and its standard uncertainty.
    residual_density_e_per_angstrom3 : dict
        "max", "min" and "rms" of the residual density.
    shift_over_esd : float
        Largest shift of a coordinate from the start of this fit, in units of its standard
        uncertainty.
    shift_label : str
        The site with the largest one.
    bonds : tuple of Bond
        The bond of each hydrogen to its nearest other atom.
    not_positive : tuple of str
        Sites whose displacements are not positive definite.
    residual : Density
        Residual density of the whole cell, e/angstrom^3, with the atoms of the fit.
    """

    r1_percent: float
    r1_all_percent: float
    wr2_percent: float
    wr2_strong_percent: float
    goodness_of_fit: float
    n_strong: int
    n_reflections: int
    n_parameters: int
    extinction: tuple[float, float] | None
    residual_density_e_per_angstrom3: dict[str, float]
    shift_over_esd: float
    shift_label: str
    bonds: tuple[Bond, ...]
    not_positive: tuple[str, ...]
    residual: Density = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the residual density on its grid, for JSON."""
        found = {name: value for name, value in vars(self).items() if name != "residual"}
        return found | {
            "bonds": [vars(bond) for bond in self.bonds],
            "not_positive": list(self.not_positive),
        }

    @property
    def figures(self) -> str:
        """R factors and goodness of fit in one line."""
        return (
            f"R1 {self.r1_percent:.2f} %, wR2 {self.wr2_percent:.2f} %, "
            f"GoF {self.goodness_of_fit:.2f}"
        )


@dataclass(frozen=True, eq=False)
class Refinement:
    """The result of `denser.refine`.

    Parameters
    ----------
    before, after : Fit
        With spherical atoms and with Hirshfeld atoms, with the same parameters and reflections.
    structure : Structure
        Refined atoms of the whole cell, first those at the sites themselves; of a disordered
        crystal the best occupied arrangement.
    labels : tuple of str
        Labels of the sites.
    absolute_structure : AbsoluteStructure or None
        For groups without a centre of inversion and reflections with anomalous scattering.
    converged : bool
    notes : tuple of str
        Sentences about what was assumed, and what is not to be trusted.
    doubt : str
        A sentence if the model of the density does not know such a crystal well, otherwise empty.
    cycles : tuple of dict
        Figures and seconds of each cycle.
    facts : dict
        Input and output, space group, reflections, resolution, weights and treatment of hydrogens.
    cif, fcf : str
        Texts of the refined CIF and of the structure factors.
    """

    before: Fit
    after: Fit
    structure: Structure
    labels: tuple[str, ...]
    absolute_structure: AbsoluteStructure | None
    converged: bool
    notes: tuple[str, ...]
    doubt: str
    cycles: tuple[dict[str, Any], ...]
    facts: dict[str, Any]
    cif: str = field(repr=False)
    fcf: str = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `before` and `after` have the same keys."""
        absolute = self.absolute_structure
        return {
            **self.facts,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "absolute_structure": None if absolute is None else vars(absolute),
            "converged": self.converged,
            "cycles": list(self.cycles),
            "notes": list(self.notes),
            "doubt": self.doubt,
        }

    def table(self) -> str:
        """Before and after, as text."""
        fits = (self.before, self.after)
        lines = [f"{'':26}{'spherical atoms':>18}{'Hirshfeld atoms':>18}"]

        def add(name: str, *cells: str) -> None:
            lines.append(f"{name:26}{cells[0]:>18}{cells[1]:>18}{''.join(cells[2:])}")

        for name, key in (
            ("R1 (I > 2 s), %", "r1_percent"),
            ("R1 (all), %", "r1_all_percent"),
            ("wR2, %", "wr2_percent"),
            ("goodness of fit", "goodness_of_fit"),
        ):
            add(name, *(f"{getattr(fit, key):.2f}" for fit in fits))
        add("parameters", *(str(fit.n_parameters) for fit in fits))
        found = [fit.residual_density_e_per_angstrom3 for fit in fits]
        add("residual density, e/A^3", *(f"{r['min']:+.2f} to {r['max']:+.2f}" for r in found))
        add("its rms, e/A^3", *(f"{r['rms']:.3f}" for r in found))
        add("displacements not positive", *(str(len(fit.not_positive)) for fit in fits))
        if self.after.extinction is not None:
            values = [fit.extinction or (0.0, 0.0) for fit in fits]
            add("extinction", *(f"{value:.4f} +- {esd:.4f}" for value, esd in values))
        if self.after.bonds:
            lines.append(f"{'bonds, A':62}{'neutrons (mean)':>16}")
        for old, new in zip(self.before.bonds, self.after.bonds, strict=True):
            mean = "" if new.neutron_angstrom is None else f"{new.neutron_angstrom:16.3f}"
            source = f"  {new.neutron_source}" if mean else ""
            pair = (f"{b.length_angstrom:.3f} +- {b.esd_angstrom:.3f}" for b in (old, new))
            add(new.atoms, *pair, mean, source)
        if self.absolute_structure is not None:
            lines.append(f"absolute structure: {self.absolute_structure.text}")
        return "\n".join([*lines, self._last_line()])

    def _last_line(self) -> str:
        facts = self.facts
        a, b = facts["weights"]["a"], facts["weights"]["b"]
        return (
            f"{facts['n_unique']} unique reflections to {facts['d_min_angstrom']:.2f} A, "
            f"{facts['space_group']}; hydrogens {facts['hydrogens']}; weights "
            + (f"1/(s^2 + ({a:g} P)^2 + {b:g} P)" if a or b else "1/s^2")
            + f"; {'' if self.converged else 'NOT CONVERGED in '}{len(self.cycles)} cycles, "
            f"{facts['seconds']:.1f} s"
            + (f" -> {', '.join(facts['written'])}" if facts["written"] else "")
        )
