"""Tables of aspherical form factors (.tsc and .tscb), for refinement in Olex2 and other programs.

Format: Midgley, Fuller, Dolomanov and Puschmann, arXiv 1911.08847. Each reflection has a line with
h k l and one "real,imaginary" per scatterer, in electrons, without displacement or position of the
atom. `SYMM: expanded` means that all symmetry-equivalent reflections are listed.

The binary form (.tscb), as NoSpherA2 and Olex2 use it, is in little-endian order: the lengths of a
header and of the labels (int32), both texts, the number of reflections (int32), and for each one
h k l (int32) and the form factors (complex128).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from denser.io.files import read_bytes, replacing
from denser.types.errors import InputError


def write(
    path: str | Path,
    labels: list[str],
    hkl: np.ndarray,
    form_factors: np.ndarray,
    title: str = "denser",
) -> None:
    """Write the form factors of all atoms; a name that ends in .tscb gets the binary form.

    Parameters
    ----------
    path : Path
    labels : list of str
        Names of the atoms in the refinement model, such as C1; distinct and without blanks.
    hkl : (n, 3) int
        All reflections, including symmetry equivalents.
    form_factors : (n_atoms, n) complex
        Electrons.
    title : str

    Raises
    ------
    InputError
        Labels that repeat or hold blanks, shapes that do not fit, values that are not finite,
        or a target that cannot be written.
    """
    path = Path(path)
    hkl, form_factors = np.asarray(hkl, dtype=int), np.asarray(form_factors, dtype=complex)
    if len(set(labels)) != len(labels) or any(len(name.split()) != 1 for name in labels):
        raise InputError(f"{path}: the atoms' labels must be distinct words, found {labels}")
    if form_factors.shape != (len(labels), len(hkl)):
        raise InputError(
            f"{path}: {len(labels)} labels and {len(hkl)} reflections need form factors of that "
            f"shape, found {form_factors.shape}"
        )
    if not np.isfinite(form_factors).all():
        raise InputError(f"{path}: some form factors are not finite; nothing was written")
    if path.suffix.lower() == ".tscb":
        _write_binary(path, labels, hkl, form_factors)
        return
    header = f"TITLE: {' '.join(title.split())}\nSYMM: expanded\nSCATTERERS: {' '.join(labels)}\n"
    table = np.empty((len(hkl), 3 + 2 * len(labels)))
    table[:, :3] = hkl
    table[:, 3::2], table[:, 4::2] = form_factors.T.real, form_factors.T.imag
    row = "%d %d %d" + " %.8e,%.8e" * len(labels)
    with replacing(path) as temporary, open(temporary, "w") as file:
        file.write(header + "DATA:\n")
        np.savetxt(file, table, fmt=row)


def _row(n_atoms: int) -> np.dtype:
    return np.dtype([("hkl", "<i4", 3), ("values", "<c16", n_atoms)])


def _write_binary(path: Path, labels: list[str], hkl: np.ndarray, values: np.ndarray) -> None:
    rows = np.empty(len(hkl), dtype=_row(len(labels)))
    rows["hkl"], rows["values"] = hkl, values.T
    names = " ".join(labels).encode()
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(np.array([0, len(names)], dtype="<i4").tobytes() + names)
        file.write(np.array(len(hkl), dtype="<i4").tobytes())
        file.write(rows.tobytes())


def _read_binary(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    content = read_bytes(path)
    try:
        header, length = np.frombuffer(content, "<i4", 2).tolist()
        start = 8 + header
        labels = content[start : start + length].decode().split()
        (n,) = np.frombuffer(content, "<i4", 1, start + length).tolist()
        rows = np.frombuffer(content, _row(len(labels)), n, start + length + 4)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is no binary table of form factors, or is cut off") from error
    return labels, rows["hkl"].astype(int), rows["values"].T.copy()


def read(path: str | Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read labels, hkl (n, 3) and form factors (n_atoms, n).

    Raises
    ------
    InputError
        A missing, truncated or malformed file.
    """
    path = Path(path)
    if path.suffix.lower() == ".tscb":
        return _read_binary(path)
    lines = read_bytes(path).decode("utf-8", "replace").splitlines()
    labels: list[str] = []
    start = len(lines)
    for i, line in enumerate(lines):
        key, _, rest = line.partition(":")
        if key.strip().upper() == "SCATTERERS":
            labels = rest.split()
        elif key.strip().upper() == "DATA":
            start = i + 1
            break
    if not labels or start == len(lines):
        raise InputError(f"{path}: expected SCATTERERS and DATA with reflections; check the file")
    hkl, values = [], []
    for i, line in enumerate(lines[start:], start + 1):
        words = line.replace(",", " ").split()
        if not words:
            continue
        try:
            if len(words) != 3 + 2 * len(labels):
                raise ValueError
            hkl.append([int(word) for word in words[:3]])
            values.append([float(word) for word in words[3:]])
        except ValueError as error:
            raise InputError(
                f"{path}:{i}: expected h k l and {len(labels)} pairs real,imaginary"
            ) from error
    table = np.array(values)
    return labels, np.array(hkl), (table[:, ::2] + 1j * table[:, 1::2]).T
