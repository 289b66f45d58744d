"""Text to training windows: tokenizer, chat template, packing.

Owns the special tokens and the template. Knows nothing of the network.
"""

import json

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END, BOS, SYSTEM, USER, ASSISTANT = "<|end|>", "<|bos|>", "<|system|>", "<|user|>", "<|assistant|>"
SPECIAL = [END, BOS, SYSTEM, USER, ASSISTANT]

# Single digits, so that sums are learned digit by digit; the expression that GGUF files call "qwen2".
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('pebble knows the roles system, user and assistant, not ' + message['role']) }}{% endif %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def documents(path):
    """The lines of a corpus as (list of (role or None, text))."""
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            doc = json.loads(line)
            if "text" in doc:
                yield [(None, doc["text"])]
            else:
                yield [(m["role"], m["content"]) for m in doc["messages"]]


def train_tokenizer(path, vocab_size, limit=30000):
    """Byte-level BPE on the first `limit` documents."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (text for i, doc in enumerate(documents(path)) if i < limit for _, text in doc)
    tok.train_from_iterator(texts, trainer)
    tok.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tok.token_to_id(BOS))]
    )
    return tok


def encode(tok, path, batch=4000):
    """Every document as (ids, weights): weight 1 for what the model shall say, less for what it is told."""
    ids_of = {name: tok.token_to_id(name) for name in SPECIAL}

    def flush(docs):
        texts = [text for doc in docs for _, text in doc]
        encoded = iter(tok.encode_batch_fast(texts, add_special_tokens=False))
        for doc in docs:
            ids, weights = [ids_of[BOS]], [0.0]
            for role, _ in doc:
                part = next(encoded).ids
                said = role in (None, "assistant")
                if role:
                    ids.append(ids_of[f"<|{role}|>"])
                    weights.append(0.0 if role == "assistant" else 0.1)
                ids += part + [ids_of[END]]
                weights += [1.0 if said else 0.2] * len(part) + [1.0 if said else 0.1]
            yield np.array(ids, np.uint16), np.array(weights, np.float32)

    docs = []
    for doc in documents(path):
        docs.append(doc)
        if len(docs) == batch:
            yield from flush(docs)
            docs = []
    yield from flush(docs)


def pack(docs, length):
    """Windows of `length` + 1 that each begin with a document: (ids [W, length + 1], weights alike).

    Documents are not cut; each goes into the open window that it fits best. Longer ones are dropped.
    """
    windows, weights, open_windows = [], [], []
    for ids, weight in docs:
        if len(ids) > length + 1:
            continue
        fits = [(len(windows[w]) , w) for w in open_windows if len(windows[w]) + len(ids) <= length + 1]
        if fits:
            _, w = max(fits)
        else:
            w = len(windows)
            windows.append([])
            weights.append([])
            open_windows.append(w)
        windows[w].extend(ids.tolist())
        weights[w].extend(weight.tolist())
        if len(windows[w]) > length - 8:
            open_windows.remove(w)
        elif len(open_windows) > 48:
            open_windows.remove(max(open_windows, key=lambda o: len(windows[o])))
    out = np.zeros((len(windows), length + 1), np.uint16)
    mass = np.zeros((len(windows), length + 1), np.float32)
    for i, (ids, weight) in enumerate(zip(windows, weights)):
        out[i, : len(ids)] = ids
        mass[i, : len(weight)] = weight
    return out, mass
