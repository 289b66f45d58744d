"""Turns a checkpoint of pebble into a Hugging Face folder, a GGUF file and goldens.

    python export.py --run run --hf hf --gguf pebble.gguf --reference reference.json

Owns the two file layouts. The folder holds the float32 weights; the GGUF holds Q8_0 matrices with F32 norms and
routers. The goldens come from transformers with the weights of the GGUF decoded, so they test a reader of the
GGUF and not the rounding.
"""

import argparse
import json
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

import data
from model import Config, Pebble

LICENSE = "apache-2.0"
DESCRIPTION = "A very small mixture-of-experts language model that tells short stories and answers simple questions in English."

# What the goldens continue: chats (a list of messages) and plain text.
PROMPTS = [
    [{"role": "user", "content": "Tell me a story about a fox"}],
    [{"role": "user", "content": "What is 3 + 4?"}],
    [{"role": "user", "content": "What is the colour of grass?"}],
    [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Who are you?"}],
    [
        {"role": "user", "content": "My name is Luna."},
        {"role": "assistant", "content": "Nice to meet you, Luna!"},
        {"role": "user", "content": "List three fruits."},
    ],
    "Once upon a time there was an old clock",
]


def load(run, which):
    state = torch.load(Path(run) / "checkpoint.pt")
    model = Pebble(Config(**state["config"]))
    model.load_state_dict(state[which])
    return model.eval(), state["step"]


def hf_config(c, tok):
    return Qwen3MoeConfig(
        vocab_size=c.vocab_size, hidden_size=c.hidden_size, num_hidden_layers=c.num_hidden_layers,
        num_attention_heads=c.num_attention_heads, num_key_value_heads=c.num_key_value_heads, head_dim=c.head_dim,
        intermediate_size=c.moe_intermediate_size, moe_intermediate_size=c.moe_intermediate_size,
        num_experts=c.num_experts, num_experts_per_tok=c.num_experts_per_tok, norm_topk_prob=True,
        decoder_sparse_step=1, mlp_only_layers=[], hidden_act="silu", rms_norm_eps=c.rms_norm_eps,
        max_position_embeddings=c.max_position_embeddings, rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
        attention_bias=False, use_sliding_window=False, tie_word_embeddings=True, router_aux_loss_coef=0.01,
        bos_token_id=tok.token_to_id(data.BOS), eos_token_id=tok.token_to_id(data.END), pad_token_id=tok.token_to_id(data.END),
        architectures=["Qwen3MoeForCausalLM"],
    )


def hf_tensors(model):
    """Names and shapes of the published Qwen3-MoE checkpoints: one tensor per expert and projection."""
    out = {}
    for name, p in model.state_dict().items():
        if name.endswith(("mlp.gate_up", "mlp.down")):
            base = "model." + name.rsplit(".", 1)[0]
            for e, expert in enumerate(p):
                if name.endswith("down"):
                    out[f"{base}.experts.{e}.down_proj.weight"] = expert.contiguous().clone()
                else:
                    gate, up = expert.chunk(2, dim=0)
                    out[f"{base}.experts.{e}.gate_proj.weight"] = gate.contiguous().clone()
                    out[f"{base}.experts.{e}.up_proj.weight"] = up.contiguous().clone()
        else:
            out["model." + name] = p.contiguous().clone()
    return out


def write_hf(folder, model, tok):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(hf_tensors(model), folder / "model.safetensors", metadata={"format": "pt"})
    config = hf_config(model.config, tok)
    config.dtype = "float32"
    config.save_pretrained(folder)
    tok.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.jinja").write_text(data.CHAT_TEMPLATE)
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": data.BOS, "eos_token": data.END, "pad_token": data.END,
        "model_max_length": model.config.max_position_embeddings, "clean_up_tokenization_spaces": False,
    }, indent=1))
    (folder / "generation_config.json").write_text(json.dumps({
        "bos_token_id": tok.token_to_id(data.BOS), "eos_token_id": tok.token_to_id(data.END), "do_sample": True, "temperature": 0.7, "top_p": 0.9,
    }, indent=1))


def gguf_tensors(model):
    """(name, float32 array, whether it is stored as Q8_0); experts stacked [E, rows, columns]."""
    plain = {
        "embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight",
    }
    block = {
        "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "ffn_norm.weight",
        "self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight",
        "self_attn.v_proj.weight": "attn_v.weight", "self_attn.o_proj.weight": "attn_output.weight",
        "self_attn.q_norm.weight": "attn_q_norm.weight", "self_attn.k_norm.weight": "attn_k_norm.weight",
        "mlp.gate.weight": "ffn_gate_inp.weight", "mlp.down": "ffn_down_exps.weight",
    }
    for name, p in model.state_dict().items():
        array = p.float().numpy()
        if name in plain:
            yield plain[name], array, array.ndim > 1
            continue
        _, layer, rest = name.split(".", 2)
        if rest == "mlp.gate_up":
            half = array.shape[1] // 2
            yield f"blk.{layer}.ffn_gate_exps.weight", array[:, :half], True
            yield f"blk.{layer}.ffn_up_exps.weight", array[:, half:], True
        else:
            yield f"blk.{layer}.{block[rest]}", array, array.ndim > 1 and rest != "mlp.gate.weight"


def write_gguf(path, model, tok):
    c = model.config
    w = gguf.GGUFWriter(str(path), "qwen3moe")
    w.add_name("pebble")
    w.add_author("The pondera contributors")
    w.add_version("1")
    w.add_description(DESCRIPTION)
    w.add_license(LICENSE)
    w.add_license_name("Apache License 2.0")
    w.add_tags(["text-generation", "stories"])
    w.add_languages(["en"])
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.moe_intermediate_size)
    w.add_expert_feed_forward_length(c.moe_intermediate_size)
    w.add_expert_count(c.num_experts)
    w.add_expert_used_count(c.num_experts_per_tok)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_key_length(c.head_dim)
    w.add_value_length(c.head_dim)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_rope_freq_base(c.rope_theta)
    w.add_vocab_size(c.vocab_size)

    content = json.loads(tok.to_str())
    by_id = {i: t for t, i in content["model"]["vocab"].items()}
    for added in content["added_tokens"]:
        by_id[added["id"]] = added["content"]
    tokens = [by_id[i] for i in range(c.vocab_size)]
    special = {added["id"] for added in content["added_tokens"]}
    types = [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(c.vocab_size)]
    merges = [m if isinstance(m, str) else " ".join(m) for m in content["model"]["merges"]]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("qwen2")
    w.add_token_list(tokens)
    w.add_token_types(types)
    w.add_token_merges(merges)
    w.add_bos_token_id(tok.token_to_id(data.BOS))
    w.add_eos_token_id(tok.token_to_id(data.END))
    w.add_eot_token_id(tok.token_to_id(data.END))
    w.add_pad_token_id(tok.token_to_id(data.END))
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_chat_template(data.CHAT_TEMPLATE)

    decoded = {}
    for name, array, packed in gguf_tensors(model):
        array = np.ascontiguousarray(array, dtype=np.float32)
        if packed:
            blocks = gguf.quants.quantize(array, gguf.GGMLQuantizationType.Q8_0)
            w.add_tensor(name, blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            array = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)
        else:
            w.add_tensor(name, array)
        decoded[name] = array
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return decoded


def with_decoded(model, decoded):
    """A copy of the model whose weights are those that the GGUF holds."""
    copy = Pebble(model.config)
    names = iter(model.state_dict())
    state, pending = {}, None
    for name, array in decoded.items():
        if name.endswith("ffn_gate_exps.weight"):
            pending = array
            continue
        if name.endswith("ffn_up_exps.weight"):
            array = np.concatenate([pending, array], axis=1)
        state[next(names)] = torch.from_numpy(np.array(array))
    copy.load_state_dict(state)
    return copy.eval()


def hf_model(folder, model, tok):
    write_hf(folder, model, tok)
    return Qwen3MoeForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def prompt_ids(tok, prompt):
    return tok.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=False) if isinstance(prompt, list) else tok(prompt)["input_ids"]


@torch.no_grad()
def greedy(model, ids, end, limit, room):
    """(greedy continuation, smallest gap between the best and the second logit along it).

    A reader whose sums differ in the last bits may leave the path only where the gap is tiny; the gap says how safe it is.
    """
    limit = min(limit, room - len(ids))
    path = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=limit, do_sample=False, temperature=None, top_p=None, eos_token_id=end, pad_token_id=end)
    out = path[0, len(ids) :].tolist()
    best = model(path).logits[0, len(ids) - 1 : -1].topk(2, dim=-1)
    assert best.indices[:, 0].tolist() == out
    return out, float((best.values[:, 0] - best.values[:, 1]).min())


@torch.no_grad()
def check_same(ours, reference, ids):
    a, b = ours.logits(torch.tensor([ids])), reference(torch.tensor([ids])).logits
    gap = float((a - b).abs().max() / b.abs().max())
    assert gap < 1e-5, f"the exported model differs from the trained one by {gap}"
    return gap


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--run", required=True)
    p.add_argument("--hf", required=True)
    p.add_argument("--gguf", required=True)
    p.add_argument("--reference", required=True)
    p.add_argument("--which", choices=["model", "average"], default="average")
    args = p.parse_args()
    torch.set_num_threads(1)
    model, step = load(args.run, args.which)
    tok = Tokenizer.from_file(str(Path(args.run) / "tokenizer.json"))
    folder = Path(args.hf)
    reference = hf_model(folder, model, tok)
    hf_tok = AutoTokenizer.from_pretrained(folder)
    ids = prompt_ids(hf_tok, PROMPTS[0])
    trained = [tok.token_to_id(t) for t in (data.BOS, data.USER)] + tok.encode(PROMPTS[0][0]["content"], add_special_tokens=False).ids
    trained += [tok.token_to_id(t) for t in (data.END, data.ASSISTANT)]
    assert list(ids) == trained, (list(ids), trained)
    gap = check_same(model, reference, ids)
    decoded = write_gguf(args.gguf, model, tok)
    rounded = with_decoded(model, decoded)
    golden = hf_model(folder.with_name(folder.name + "-q8"), rounded, tok)
    check_same(rounded, golden, ids)
    cases = []
    for n, prompt in enumerate(PROMPTS):
        ids = list(prompt_ids(hf_tok, prompt))
        out, gap_min = greedy(golden, ids, tok.token_to_id(data.END), 300, model.config.max_position_embeddings)
        case = {"prompt": prompt, "prompt_ids": ids, "continuation_ids": out, "smallest_gap": float(f"{gap_min:.4g}"), "text": hf_tok.decode(out, skip_special_tokens=True)}
        if n in (1, 5):
            with torch.no_grad():
                case["last_logits"] = [float(f"{x:.7g}") for x in golden(torch.tensor([ids])).logits[0, -1]]
        cases.append(case)
        print(json.dumps(prompt)[:100], "->", case["text"], flush=True)
    Path(args.reference).write_text(json.dumps({
        "about": "Greedy continuations and logits of pebble.gguf by transformers in float32 from its decoded weights.", "step": step, "cases": cases,
    }, indent=1) + "\n")
    total, active = model.counts()
    print(f"step {step}, parameters {total}, active {active}, largest relative difference to transformers {gap:.2e}, {Path(args.gguf).stat().st_size} bytes")


if __name__ == "__main__":
    main()
