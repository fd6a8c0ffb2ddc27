#!/usr/bin/env python3
"""Compares an output with what the model computed: compare.py FOLDER OUT.npy. Standard library only.

The measure is attention in double precision, worked out here. The model's own output is float32 and errs a little
against it; flashcored may err twice that much, in relative Frobenius norm and in the largest entry.
"""
import array
import ast
import json
import math
import os
import sys


def read_npy(path):
    with open(path, "rb") as file:
        magic = file.read(8)
        if magic[:6] != b"\x93NUMPY" or magic[6] != 1:
            sys.exit(f"{path}: not a version 1 .npy file")
        header = ast.literal_eval(file.read(int.from_bytes(file.read(2), "little")).decode("latin1"))
        if header["descr"] != "<f4" or header["fortran_order"]:
            sys.exit(f"{path}: expected float32 in C order, found {header}")
        values = array.array("f")
        values.frombytes(file.read())
        if sys.byteorder == "big":
            values.byteswap()
    return header["shape"], values


def attend(shape, kv_len, q, k, v):
    """[batch, heads, tokens, head_dim], every query over the first kv_len keys of its batch entry."""
    batch, heads, tokens, head_dim = shape
    out = []
    for b in range(batch):
        for h in range(heads):
            base = (b * heads + h) * tokens
            row = lambda x, i: x[(base + i) * head_dim : (base + i + 1) * head_dim]
            keys, values = [row(k, j) for j in range(kv_len[b])], [row(v, j) for j in range(kv_len[b])]
            for i in range(tokens):
                query = row(q, i)
                scores = [math.fsum(x * y for x, y in zip(query, key)) / math.sqrt(head_dim) for key in keys]
                weights = [math.exp(score - max(scores)) for score in scores]
                total = math.fsum(weights)
                out += [math.fsum(w * x[d] for w, x in zip(weights, values)) / total for d in range(head_dim)]
    return out


def errors(got, want):
    norm = math.sqrt(math.fsum(x * x for x in want))
    return (
        math.sqrt(math.fsum((x - y) ** 2 for x, y in zip(got, want))) / norm,
        max(abs(x - y) for x, y in zip(got, want)),
    )


def main():
    folder, out_path = sys.argv[1:]
    with open(os.path.join(folder, "about.json"), encoding="utf-8") as file:
        kv_len = json.load(file)["kv_len"]
    (shape, q), (_, k), (_, v), (_, model) = (
        read_npy(os.path.join(folder, name + ".npy")) for name in ("q", "k", "v", "expected")
    )
    out_shape, out = read_npy(out_path)
    if out_shape != shape:
        sys.exit(f"{out_path}: shape {out_shape}, not {shape}")
    exact = attend(shape, kv_len, q, k, v)
    of_model, of_out, between = errors(model, exact), errors(out, exact), errors(out, model)
    print(f"{'':26} relative    largest")
    for name, pair in ("model, against fp64", of_model), ("flashcored, against fp64", of_out), ("the two", between):
        print(f"{name:26} {pair[0]:.2e}    {pair[1]:.2e}")
    if any(not mine <= 2 * theirs for mine, theirs in zip(of_out, of_model)):
        sys.exit("flashcored errs more than twice what the model does: WRONG")
    print("right: flashcored errs at most twice what the model itself does")


if __name__ == "__main__":
    main()
