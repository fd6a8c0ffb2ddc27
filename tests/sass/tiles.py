"""The tables of compiled variants, kernels/UNIT.def: a row FC_UNIT_ROW(...) a tile shape.

A table's opening comment names the columns as a row would stand there. Known here are row_warps, key_warps and
blocks_per_sm (or blocks_per_processor); and that a kernel's template arguments are the row's numbers, in their order.
"""

import dataclasses
import pathlib
import re

KERNELS = pathlib.Path(__file__).resolve().parents[2] / "kernels"
TYPES = {"f16": "__half", "bf16": "__nv_bfloat16", "f32": "float"}
TYPES_OF = {"warp": ("f16", "bf16", "f32")}  # every other table: the halves
TARGETS_OF = {"hopper": ("sm_90a",)}  # every other unit: all


@dataclasses.dataclass(frozen=True)
class Row:
    unit: str
    columns: tuple  # of (name, value)

    def __str__(self):
        return f"kernels/{self.unit}.def: row ({self.numbers()})"

    def __getattr__(self, name):
        if name in ("columns", "unit") or name.startswith("__"):
            raise AttributeError(name)
        for column, value in self.columns:
            if column == name:
                return value
        raise AttributeError(f"{self}: no column {name}")

    def numbers(self):
        return ", ".join(str(value) for _, value in self.columns)

    @property
    def threads(self):
        return 32 * self.row_warps * self.key_warps

    @property
    def blocks_an_sm(self):
        """What the row states; 0: nothing."""
        columns = dict(self.columns)
        return columns.get("blocks_per_sm", columns.get("blocks_per_processor", 0))

    def names(self, kernel, dtype=None):
        """Is the kernel a variant of this row (for the element type)?"""
        arguments = re.search(r"[<,] ?((\d+, )*\d+)>", kernel.name)
        return (kernel.unit == self.unit and arguments is not None and arguments.group(1) == self.numbers()
                and (dtype is None or re.search(rf"[<,] ?{TYPES[dtype]}\b", kernel.name) is not None))


def table_path(unit):
    return KERNELS / f"{unit}.def"


def targets_of(unit, targets):
    return TARGETS_OF.get(unit, targets)


def types_of(unit):
    return TYPES_OF.get(unit, ("f16", "bf16"))


def rows_of(unit):
    """The unit's rows; none where it has no table."""
    if not table_path(unit).exists():
        return ()
    found = re.findall(rf"FC_{unit.upper()}_ROW\(([^)]*)\)", table_path(unit).read_text())
    names = [name.strip() for name in re.sub(r"\n\s*\*", " ", found[0]).split(",")]
    rows = []
    for row in found[1:]:
        values = [int(value, 0) for value in row.split(",")]
        if len(values) != len(names):
            raise ValueError(f"{table_path(unit)}: ({row}) has not the columns {', '.join(names)}")
        rows.append(Row(unit, tuple(zip(names, values))))
    return tuple(rows)


def find(kernel):
    return next((row for row in rows_of(kernel.unit) if row.names(kernel)), None)
