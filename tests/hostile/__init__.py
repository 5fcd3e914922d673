"""Makers of hostile files, by the sections of the catalogue, and what watches their reading."""

CATALOGUE = """
A1 A2 A4 A5 A6 A8 A9 A10 A12 A13 A14 A16 A17 A18 A20 A21 A22 A24 A25 A26 A28 A29 A30 A32 A33 A34
A36 A37 A38 A40 A41 A42 A44 A45 A46 A48 A49 A50 A52 A53 A54
B1 B2 B3 B5 B6 B7 B9 B10
C1 C3 C4 C5 C7 C8 C9 C11 C12 C13 C15 C16 C17 C19
D12 E6 F1 F2 F4 F6 G1 G2 G3 G5 H1 H2 H4 H5 H6 H8 H9 H10
"""
"""The rows about files, coefficients, commands and runs; those of data sets (D), downloads (E) and
evaluation (F5, F8 to F14) are, but for a few, other tests' matter."""

ELSEWHERE = {
    "A53": "test_changes.py: needs a change between two calls",
    "C17": "test_cli.py: a closed pipe, a terminal without Unicode",
    "F1": "test_kills.py",
    "F2": "test_kills.py",
    "F4": "test_faults.py: the order of fsync and rename is recorded",
    "G3": "test_downloads.py, test_hub_faults.py; a file lock that a network file system ignores "
    "cannot be had here",
    "G5": "test_same_bytes.py",
    "H10": "test_kills.py",
}
"""Row → where it is tested instead, or why it is not."""
