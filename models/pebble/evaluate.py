"""Held-out loss and perplexity of a checkpoint, on the tokens that the model has to say.

    python evaluate.py --run run heldout.jsonl heldout-narrow.jsonl
"""

import argparse
import math
from pathlib import Path

import torch
from tokenizers import Tokenizer

import data
from model import Config, Pebble
from train import evaluate


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--run", required=True)
    p.add_argument("--which", choices=["model", "average"], default="average")
    p.add_argument("--windows", type=int, default=10**9)
    p.add_argument("files", nargs="+")
    args = p.parse_args()
    torch.set_num_threads(1)
    state = torch.load(Path(args.run) / "checkpoint.pt")
    model = Pebble(Config(**state["config"]))
    model.load_state_dict(state[args.which])
    tok = Tokenizer.from_file(str(Path(args.run) / "tokenizer.json"))
    for path in args.files:
        ids, weights = data.pack(data.encode(tok, path), model.config.max_position_embeddings)
        loss = evaluate(model.eval(), ids, weights, args.windows)
        print(f"{path}: {len(ids)} windows, loss {loss:.4f}, perplexity {math.exp(loss):.3f}", flush=True)


if __name__ == "__main__":
    main()
