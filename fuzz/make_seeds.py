#!/usr/bin/env python3
"""Writes fuzz/seeds/TARGET/*: small sound files that the mutations of `cargo xtask fuzz` start from.

Made by the formats' own reference writers (pip install numpy torch safetensors gguf tokenizers sentencepiece).
The files are committed; this script says where they come from.
"""
import base64, io, json, os, pickle, shutil, tempfile, zipfile

import gguf, numpy, safetensors.numpy, torch
import sentencepiece, tokenizers

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds")
TEXT = "the fox saw the river and the river saw the fox . a fox can run , a river can sing . hello world 123\n" * 8


def put(target, name, data):
    folder = os.path.join(HERE, target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


def tensors():
    a = numpy.arange(6, dtype="float32").reshape(2, 3)
    put("safetensors", "two", safetensors.numpy.save({"a": a, "b": numpy.ones(3, "float16")}, {"format": "pt"}))
    put("safetensors", "empty", safetensors.numpy.save({"z": numpy.zeros((0, 4), "int64")}))
    put("index", "two", json.dumps({"metadata": {"total_size": 24}, "weight_map": {"a": "x-1.safetensors", "b": "x-2.safetensors"}}))
    with tempfile.TemporaryDirectory() as d:
        w = gguf.GGUFWriter(d + "/s.gguf", "llama")
        w.add_block_count(1); w.add_string("s", "text"); w.add_array("t", ["a", "b"]); w.add_array("n", [1, 2, 3]); w.add_bool("b", True)
        w.add_float32("f", 1.5)
        w.add_tensor("x", a); w.add_tensor("q", numpy.zeros((2, 34), "uint8"), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
        put("gguf", "small", open(d + "/s.gguf", "rb").read())
    out = io.BytesIO()
    torch.save({"a": torch.arange(6.0).reshape(2, 3), "t": torch.arange(6.0).reshape(2, 3).t(), "h": torch.ones(3, dtype=torch.bfloat16)}, out)
    put("torch", "state", out.getvalue()); put("zip", "state", out.getvalue())
    with zipfile.ZipFile(io.BytesIO(out.getvalue())) as z:
        put("pickle", "state", z.read(next(n for n in z.namelist() if n.endswith("data.pkl"))))
    for protocol in (0, 2, 4):
        put("pickle", f"plain{protocol}", pickle.dumps({"k": [1, 2.5, "x", None, True, (1, 2)], "l": 1 << 70}, protocol))


def texts():
    with tempfile.TemporaryDirectory() as d:
        for kind in ("bpe", "unigram"):
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXT.splitlines()), model_prefix=f"{d}/{kind}", model_type=kind,
                                                     vocab_size=60 if kind == "bpe" else 40, byte_fallback=False, hard_vocab_limit=False, minloglevel=2, normalization_rule_name="identity")
            put("sentencepiece", kind, open(f"{d}/{kind}.model", "rb").read())
    for name, model, trainer in (("bpe", tokenizers.models.BPE(), tokenizers.trainers.BpeTrainer(vocab_size=60, special_tokens=["<s>"])),
                                 ("wordpiece", tokenizers.models.WordPiece(unk_token="[UNK]"), tokenizers.trainers.WordPieceTrainer(vocab_size=60, special_tokens=["[UNK]"])),
                                 ("unigram", tokenizers.models.Unigram(), tokenizers.trainers.UnigramTrainer(vocab_size=40, special_tokens=["<s>"]))):
        t = tokenizers.Tokenizer(model)
        t.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False) if name == "bpe" else tokenizers.pre_tokenizers.Whitespace()
        t.train_from_iterator(TEXT.splitlines(), trainer)
        put("tokenizer_json", name, t.to_str())
    words = [bytes([b]) for b in range(256)] + [b"th", b"the", b" the", b"fox"]
    put("tiktoken", "small", "".join(f"{base64.b64encode(w).decode()} {i}\n" for i, w in enumerate(words)))
    put("tekken", "small", json.dumps({"config": {"pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+", "num_vocab_tokens": 260,
                                                  "default_vocab_size": 262, "default_num_special_tokens": 2, "version": "v3"},
                                       "vocab": [{"rank": i, "token_bytes": base64.b64encode(w).decode(), "token_str": None} for i, w in enumerate(words)]}))
    put("vocab_txt", "small", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\nfox\n##es\nriver\n.\n")
    put("template", "chat", "{%- for m in messages %}<|{{ m.role }}|>{{ m['content'] | trim }}{% if not loop.last %}\n{% endif %}{%- endfor %}"
                            "{% if add_generation_prompt %}<|assistant|>{% endif %}")
    put("template", "tools", "{% set ns = namespace(n=0) %}{% macro f(x, y=2) %}{{ x ~ y }}{% endmacro %}{% for t in tools or [] %}{{ t | tojson(indent=2) }}"
                             "{% set ns.n = ns.n + 1 %}{% endfor %}{{ f(ns.n) }}{{ raise_exception('no') if false }}{{ 'abc'[::-1].upper().split('B') | join(',') }}")


def vocabularies():
    spm = ["<unk>", "<s>", "</s>", "<0x41>", "\u2581", "a", "b", "ab", "\u2581ab", "<x>"]
    bpe = ["a", "b", "ab", "\u0120", "\u0120a", "<s>"]
    wpm = ["[UNK]", "[CLS]", "[SEP]", "\u2581the", "\u2581fox", "es"]
    for name, model, pre, words, types in (("spm", "llama", None, spm, [2, 3, 3, 6, 1, 1, 1, 1, 1, 4]), ("unigram", "t5", None, spm, [2, 3, 3, 6, 1, 1, 1, 1, 1, 4]),
                                           ("bpe", "gpt2", "llama-bpe", bpe, [1, 1, 1, 1, 1, 3]), ("wordpiece", "bert", None, wpm, [2, 3, 3, 1, 1, 1])):
        with tempfile.TemporaryDirectory() as d:
            w = gguf.GGUFWriter(d + "/s.gguf", "llama")
            w.add_tokenizer_model(model); w.add_token_list(words); w.add_token_types(types); w.add_token_scores([-1.0 - i for i in range(len(words))])
            w.add_bos_token_id(1); w.add_eos_token_id(2); w.add_unk_token_id(0); w.add_sep_token_id(2)
            if pre:
                w.add_tokenizer_pre(pre); w.add_token_merges(["a b", "\u0120 a"])
            w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
            put("gguf_vocab", name, open(d + "/s.gguf", "rb").read())


shutil.rmtree(HERE, ignore_errors=True)
tensors()
texts()
vocabularies()
