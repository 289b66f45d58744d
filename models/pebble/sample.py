"""Answers of a checkpoint, to look at while it trains.

    python sample.py --run run "Tell me a story about a fox" "What is 3 + 4?"
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

import data
from model import Config, Pebble


@torch.no_grad()
def answer(model, tok, request, temperature, limit=330):
    marks = {name: tok.token_to_id(name) for name in data.SPECIAL}
    ids = [marks[data.BOS], marks[data.USER]] + tok.encode(request, add_special_tokens=False).ids
    ids += [marks[data.END], marks[data.ASSISTANT]]
    start = len(ids)
    while len(ids) < min(start + limit, model.config.max_position_embeddings):
        logits = model.logits(torch.tensor([ids]))[0, -1]
        if temperature > 0:
            one = int(torch.multinomial((logits / temperature).softmax(dim=-1), 1))
        else:
            one = int(logits.argmax())
        if one == marks[data.END]:
            break
        ids.append(one)
    return tok.decode(ids[start:])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--run", required=True)
    p.add_argument("--which", choices=["model", "average"], default="average")
    p.add_argument("--temperature", type=float, default=0.0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("requests", nargs="+")
    args = p.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    state = torch.load(Path(args.run) / "checkpoint.pt")
    model = Pebble(Config(**state["config"]))
    model.load_state_dict(state[args.which])
    tok = Tokenizer.from_file(str(Path(args.run) / "tokenizer.json"))
    print(f"step {state['step']}")
    for request in args.requests:
        print(f"> {request}\n{answer(model.eval(), tok, request, args.temperature)}\n", flush=True)


if __name__ == "__main__":
    main()
