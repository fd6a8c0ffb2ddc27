"""The tables of compiled variants: kernels/tc.def and kernels/fused.def, a row a tile shape."""

TABLES = {}


def is_built(unit, arch):
    return unit != "hopper" or arch == "sm_90a"


def rows_of(unit, arch):
    return ()


def find(kernel):
    return None
