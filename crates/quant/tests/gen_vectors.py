"""Writes tests/vectors/TYPE.bin: random blocks of every GGML type, then what they decode to (f32).

    pip install numpy gguf==0.19.0 && python gen_vectors.py

The values are gguf-py's, except for the three types it cannot decode; those follow from their layouts.
Blocks whose values are not finite are left out. The number of blocks follows from the size of a file.
"""
import pathlib

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T, quants

OUT = pathlib.Path(__file__).parent / "vectors"


def f16(raw, at):
    return raw[:, at : at + 2].copy().view(np.float16).astype(np.float32)


def q1_0(raw):
    bits = np.unpackbits(raw[:, 2:], axis=1, bitorder="little")
    return np.where(bits == 1, f16(raw, 0), -f16(raw, 0))


def q8_1(raw):
    return f16(raw, 0) * raw[:, 4:].view(np.int8).astype(np.float32)


def q8_k(raw):
    return raw[:, :4].copy().view(np.float32) * raw[:, 4:260].view(np.int8).astype(np.float32)


OWN = {T.Q1_0: (q1_0, 128, 18), T.Q8_1: (q8_1, 32, 36), T.Q8_K: (q8_k, 256, 292)}
PLAIN = {T.F32, T.F16, T.BF16, T.F64, T.I8, T.I16, T.I32, T.I64}

rng = np.random.default_rng(20260101)
for type_ in sorted(set(GGML_QUANT_SIZES) - PLAIN):
    decode, block, size = OWN.get(type_, (lambda raw: quants.dequantize(raw, type_), *GGML_QUANT_SIZES[type_]))
    raw = rng.integers(0, 256, (4096 // block, size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        values = decode(raw).astype(np.float32)
    keep = np.isfinite(values).all(axis=1) & (np.abs(values).max(axis=1) < 1e30)
    keep &= np.cumsum(keep) <= 768 // block + 1
    (OUT / f"{type_.name}.bin").write_bytes(raw[keep].tobytes() + values[keep].tobytes())
