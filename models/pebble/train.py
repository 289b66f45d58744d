"""Trains pebble on CPUs: tokenizer, packing, AdamW, warm-up then constant then linear decay.

    python train.py --corpus train.jsonl --heldout heldout.jsonl --out run --steps 5000

A run may be stopped and continued: it resumes from `run/checkpoint.pt`, and --steps may be changed
as long as the decay has not begun. The loss log is `run/log.jsonl`.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

import data
from model import Config, Pebble, WeightedLoss


def arguments():
    p = argparse.ArgumentParser()
    p.add_argument("--corpus", required=True)
    p.add_argument("--heldout", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--steps", type=int, default=5000)
    p.add_argument("--batch", type=int, default=8, help="windows of 512 tokens a step")
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--warmup", type=int, default=150)
    p.add_argument("--decay", type=float, default=0.3, help="last share of the steps, where the rate falls to zero")
    p.add_argument("--minutes", type=float, help="let the rate fall with the time instead of the steps, and stop then")
    p.add_argument("--balance", type=float, default=0.01)
    p.add_argument("--ema", type=float, default=0.995)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--save-every", type=float, default=180.0, help="seconds")
    return p.parse_args()


def prepare(args, out, length):
    """Tokenizer and packed windows, made once and kept in the run's folder."""
    tokenizer = out / "tokenizer.json"
    if not tokenizer.exists():
        data.train_tokenizer(args.corpus, Config.vocab_size).save(str(tokenizer))
    tok = Tokenizer.from_file(str(tokenizer))
    sets = []
    for name, path in (("train", args.corpus), ("heldout", args.heldout)):
        cache = out / f"{name}.npz"
        if not cache.exists():
            ids, weights = data.pack(data.encode(tok, path), length)
            np.savez(cache, ids=ids, weights=weights)
        loaded = np.load(cache)
        sets.append((loaded["ids"], loaded["weights"]))
    return tok, sets


def rate(step, minutes, args):
    if step < args.warmup:
        return args.lr * (step + 1) / args.warmup
    if args.minutes:
        return args.lr * min(1.0, max(0.0, 1 - minutes / args.minutes) / args.decay)
    start = int(args.steps * (1 - args.decay))
    if step < start:
        return args.lr
    return args.lr * max(0.0, (args.steps - step) / (args.steps - start))


def optimizer(model, lr):
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95), eps=1e-8, fused=True)


def losses(model, ids, weights):
    """(weighted mean loss, balance loss)."""
    hidden, balance = model(ids[:, :-1])
    logits = F.linear(hidden, model.embed_tokens.weight).flatten(0, 1)
    return WeightedLoss.apply(logits, ids[:, 1:].flatten(), weights[:, 1:].flatten()), balance


@torch.no_grad()
def evaluate(model, ids, weights, windows=64):
    """Mean loss per token of what the model shall say, over held-out windows."""
    total, count = 0.0, 0.0
    for i in range(0, min(windows, len(ids)), 8):
        x = torch.from_numpy(ids[i : i + 8].astype(np.int64))
        mass = torch.from_numpy((weights[i : i + 8] >= 1.0).astype(np.float32))
        loss, _ = losses(model, x, mass)
        n = mass[:, 1:].sum().item()
        total, count = total + loss.item() * n, count + n
    return total / count


def save(path, state):
    """A checkpoint is whole or absent."""
    torch.save(state, str(path) + ".part")
    os.replace(str(path) + ".part", path)


def main():
    args = arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    config = Config()
    _, ((ids, weights), (held_ids, held_weights)) = prepare(args, out, config.max_position_embeddings)
    model = Pebble(config)
    average = Pebble(config)
    average.load_state_dict(model.state_dict())
    opt = optimizer(model, args.lr)
    step = 0
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        opt.load_state_dict(state["optimizer"])
        step = state["step"]
    log = open(out / "log.jsonl", "a", encoding="utf-8")

    def write(**fields):
        log.write(json.dumps(fields) + "\n")
        log.flush()

    total, active = model.counts()
    share = float((weights > 0).mean())
    write(event="start", step=step, steps=args.steps, windows=len(ids), filled=share, total=total, active=active)
    saved = began = time.time()
    seen = 0
    done = False
    while not done:
        minutes = (time.time() - began) / 60
        # The order of an epoch depends on the seed and the epoch only, so a resumed run continues it.
        epoch, at = divmod(step * args.batch, len(ids) - args.batch)
        order = np.random.default_rng([args.seed, epoch]).permutation(len(ids))
        chosen = np.sort(order[at : at + args.batch])
        for group in opt.param_groups:
            group["lr"] = rate(step, minutes, args)
        x = torch.from_numpy(ids[chosen].astype(np.int64))
        loss, balance = losses(model, x, torch.from_numpy(weights[chosen]))
        (loss + args.balance * balance).backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
        step += 1
        done = minutes >= args.minutes if args.minutes else step >= args.steps
        seen += args.batch * config.max_position_embeddings
        with torch.no_grad():
            keep = min(args.ema, step / (step + 10))
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - keep)
        if step % 10 == 0:
            speed = seen / (time.time() - began)
            write(step=step, loss=round(loss.item(), 4), balance=round(balance.item(), 4), norm=round(norm.item(), 3),
                  lr=rate(step, minutes, args), tokens=step * args.batch * config.max_position_embeddings, tps=round(speed))
        if time.time() - saved > args.save_every or done:
            now, mean = (evaluate(m, held_ids, held_weights) for m in (model, average))
            write(step=step, heldout=round(now, 4), heldout_average=round(mean, 4), seconds=round(time.time() - began))
            save(checkpoint, {"model": model.state_dict(), "average": average.state_dict(),
                              "optimizer": opt.state_dict(), "step": step, "config": config.dict()})
            saved = time.time()


if __name__ == "__main__":
    main()
