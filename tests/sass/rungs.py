"""What the model knows of each rung beside its machine code: its blocks, how often its loops go round, what its loads
touch. One class a rung; a problem is plain numbers."""

import dataclasses
import re

import tiles


@dataclasses.dataclass(frozen=True)
class Problem:
    batch: int
    q_heads: int
    q_len: int
    kv_len: int
    head_dim: int
    dtype: str = "f16"

    def __str__(self):
        return f"B{self.batch} H{self.q_heads} S{self.q_len} D{self.head_dim} {self.dtype}"

    @property
    def element_bytes(self):
        return 4 if self.dtype == "f32" else 2

    @property
    def flops(self):
        return 4.0 * self.batch * self.q_heads * self.q_len * self.kv_len * self.head_dim


class Rung:
    """A rung on a problem, as the plan would run it: row is the variant's, None where a rung has but one."""

    threads = 128
    dynamic_shared = 0
    splits = 1
    whole = ()  # source functions whose unrolled loops leave no rounds over
    cold = ("fc_work_segment",)  # source functions that do not run here: one segment
    cold_lines = None  # and a pattern of source lines

    def __init__(self, problem, row=None, splits=1):
        self.problem, self.row, self.splits = problem, row, splits

    def is_kernel(self, kernel):
        if self.row is not None:
            return self.row.names(kernel, self.problem.dtype)
        return kernel.unit == self.name and kernel.name == f"{self.name}_kernel<{tiles.TYPES[self.problem.dtype]}>"

    def blocks(self):
        p = self.problem
        return p.batch * p.q_heads * -(-p.q_len // self.tile_rows) * self.splits

    def trips(self):
        """{source function: rounds of its loops, in their order}; a loop not named goes round once. The loop over the
        keys is known, and goes round tiles() times."""
        return {}

    def tiles(self):
        return max(1, -(-self.problem.kv_len // self.tile_keys // self.splits))

    def copies_a_warp(self):
        """Asynchronous copies of 512 bytes that a warp does for one block; those past the end are told to read nothing.
        None: as many as there are in the code."""
        return None

    def shared_cycles(self, functions, width):
        """A load from shared memory, of width words a lane: cycles on the SM's path. One where all lanes read the same."""
        return width

    def access(self, functions, width):
        """A load of global memory: (cycles at the L1 cache, every n-th misses it, bytes it then takes from L2). None:
        of the segment, which every warp of the SM reads, so that the first load of a sector alone misses."""
        return None


class Baseline(Rung):
    name, tile_rows, tile_keys = "baseline", 1, 128
    whole = ("dot_product", "add_values", "largest_of")

    def trips(self):
        pairs = self.problem.head_dim // 2
        return {"dot_product": [pairs // 4],
                "largest_of": [128 // 16], "add_values": [128 // (128 // pairs) // 4],
                "write_row": [128 // 32, 1, 1]}

    def shared_cycles(self, functions, width):
        return 1  # a warp reads the query, the logits and the weights together

    def access(self, functions, width):
        if "dot_product" in functions:  # 32 rows of K, 4 bytes each, of sectors of 32: 32 turns, the first of 8 misses
            return 32, 32 // (2 * self.problem.element_bytes), 1024
        return (2, 1, 128) if "add_values" in functions or "load_query" in functions else None


class Vec(Rung):
    name, tile_rows, tile_keys = "vec", 16, 128
    whole = ("dot_products", "add_values")

    def trips(self):
        pieces = self.problem.head_dim // 8
        groups = 128 // pieces // 4
        return {"load_rows": [max(1, 16 * pieces // 128)], 
                "dot_products": [pieces], "add_values": [128 // groups // 4], "write_rows": [max(1, 16 * pieces // 128), 0, 1],
                "finish_sums": [1]}

    def shared_cycles(self, functions, width):
        return 1 if "dot_products" in functions or "add_values" in functions else width

    def access(self, functions, width):
        if "dot_products" in functions:  # a row of K a lane: 32 turns; a sector serves two loads, and two warps
            return 32, 4, 1024
        if "add_values" in functions:
            return width, 1, 128
        return (width, 1, 512) if "load_rows" in functions and "fc_load_eight" in functions else None


class Tiled(Rung):
    """Rungs whose blocks copy tiles of K and V to shared memory, rows of a table."""

    cold = Rung.cold + ("fc_merge_is_last", "fc_merge_rows", "fc_merge_piece")  # the merging of splits

    @property
    def threads(self):
        return self.row.threads

    @property
    def warps(self):
        return self.threads // 32

    def copies_a_warp(self):
        tokens = 2 * self.tiles() * self.tile_keys + (0 if self.name == "warp" else self.tile_rows)
        return tokens * self.row.head_dim * self.problem.element_bytes // 512 // self.warps

    def pieces_a_thread(self, rows):
        return max(1, rows * self.problem.head_dim // 8 // self.threads)


class Warp(Tiled):
    name = "warp"

    @property
    def tile_rows(self):
        return self.row.warp_rows * self.row.row_warps

    @property
    def tile_keys(self):
        return self.row.kv_tile_tokens

    @property
    def dynamic_shared(self):
        stage = 2 * self.tile_keys * self.row.head_dim * self.problem.element_bytes
        weights = self.warps * (self.tile_keys // self.row.key_warps + 2) * self.row.warp_rows * 4
        return (2 if stage <= 32 * 1024 else 1) * stage + weights

    def trips(self):
        return {"write_rows": [self.pieces_a_thread(self.tile_rows)]}

    def access(self, functions, width):
        return (width, 1, 512) if "load_query" in functions else None

    def shared_cycles(self, functions, width):
        is_weights = "add_values" in functions and "read_columns" not in functions
        return 1 if is_weights else width  # the lanes of a key read the same weights


class Tc(Tiled):
    name = "tc"
    cold_lines = re.compile(r"first \+ i >= row\.begin")  # masks of a tile's edge

    @property
    def tile_rows(self):
        return 16 * self.row.row_warps

    @property
    def tile_keys(self):
        return self.row.warp_keys * self.row.key_warps

    @property
    def dynamic_shared(self):
        query = self.tile_rows * (self.row.head_dim + 8) * 2
        strips = self.warps * 16 * (self.row.warp_keys + 4) * 4
        stages = 2 * 2 * self.tile_keys * (self.row.head_dim + 8) * 2
        totals = self.warps * 16 * (self.row.head_dim + 4) * 4
        return max(stages, totals) + (max(query, strips) if self.row.head_dim <= 128 else query + strips) + 2048

    def trips(self):
        return {"copy_query": [self.pieces_a_thread(self.tile_rows)], "learn_rows": [2],
                "write_rows": [self.pieces_a_thread(self.tile_rows)]}


class Fused(Tiled):
    name = "fused"
    # Behind one branch and not taken within a sequence, or taken by its first and last step alone.
    cold = Tiled.cold + ("repeat_keys", "renew", "subtract", "rescale_sums", "find_largest", "mask_logits", "cap_logits",
                         "run_weights", "run_values", "leave_rows", "fc_work_segment_by_warp")

    @property
    def tile_rows(self):
        return self.row.warp_rows * self.row.row_warps

    @property
    def tile_keys(self):
        return self.row.keys * self.row.key_warps

    @property
    def dynamic_shared(self):
        tile = self.row.steps * self.tile_keys * self.row.head_dim * 2
        query = self.tile_rows * self.row.head_dim * 2
        parts = self.row.key_warps * self.tile_rows * (8 + (self.row.head_dim + 8) * 4)
        stages = 2 * self.row.stages * tile
        return max(stages, (tile if self.row.holds_q else stages) + query, parts if self.row.key_warps > 1 else query)

    def trips(self):
        # copy_rows' loop is for the last keys; those of copy_query and send_rows for packed heads and the last rows.
        return {"copy_rows": [0], "copy_query": [0], "send_rows": [0],
                "write_parts": [2 * self.pieces_a_thread(self.tile_rows)]}


RUNGS = {rung.name: rung for rung in (Baseline, Vec, Warp, Tc, Fused)}
