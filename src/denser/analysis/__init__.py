"""Properties of electron densities, a file per family.

Each public function takes a `Density` and returns a frozen dataclass in atomic units, whose
`to_dict()` is ready for JSON and whose `lines()` are the lines of a report.
"""
