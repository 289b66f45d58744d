"""Makes the goldens of adapters: PEFT adapters of the tiny checkpoints beside, with the logits of base and adapter.

    venv/bin/pip install peft==0.21.2
    venv/bin/python goldens/lora.py [NAME ...]

Each is a folder under goldens/lora: adapter_config.json, adapter_model.safetensors, and reference.safetensors with
`input_ids` [T] and `logits` [T, V], not merged, float32. base.txt names the checkpoint.
"""

import os
import shutil
import sys
import zlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
ALL = "all-linear"

# name -> (checkpoint, configuration)
ADAPTERS = {
    "llama-patterns": ("llama", dict(r=4, lora_alpha=6, use_rslora=True, rank_pattern={"down_proj": 2},
                       alpha_pattern={"layers.1.self_attn.q_proj": 3}, layers_to_transform=[1], target_modules=
                       ["q_proj", "k_proj", "o_proj", "gate_proj", "down_proj"])),
    "llama-dora": ("llama", dict(r=3, lora_alpha=5, use_dora=True, target_modules=ALL)),
    "llama-dora-biases": ("llama-linear-bias-tied", dict(r=3, lora_alpha=5, use_dora=True, bias="all", target_modules=
                          ["q_proj", "v_proj", "up_proj", "down_proj", "embed_tokens"])),
    "llama-saved": ("llama", dict(r=2, lora_alpha=4, target_modules=["v_proj", "embed_tokens"],
                    modules_to_save=["lm_head", "norm", "input_layernorm", "o_proj"])),
    "qwen3-tied": ("qwen3", dict(r=2, lora_alpha=4, target_modules=["q_proj", "up_proj"],
                   modules_to_save=["embed_tokens", "q_norm"])),
    "phi3": ("phi3", dict(r=3, lora_alpha=3, use_dora=True, target_modules=ALL)),
    "gpt2": ("gpt2", dict(r=3, lora_alpha=3, fan_in_fan_out=True, use_dora=True, bias="all",
             target_modules=["c_attn", "c_proj", "c_fc", "wte", "wpe"])),
    "gemma2": ("gemma2", dict(r=2, lora_alpha=3, target_modules=["embed_tokens", "k_proj", "down_proj"],
               modules_to_save=["pre_feedforward_layernorm"])),
    "gemma3": ("gemma3_text", dict(r=2, lora_alpha=3, target_modules=["embed_tokens", "gate_proj", "o_proj"],
               modules_to_save=["q_norm", "norm"])),
    "qwen3-moe": ("qwen3_moe", dict(r=2, lora_alpha=4, target_modules=["q_proj", "o_proj"], target_parameters=
                  ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"])),
    "mixtral-saved": ("mixtral-saved", dict(r=2, lora_alpha=4, target_modules=["v_proj"], target_parameters=
                      ["mlp.experts.down_proj"])),
    "qwen2-moe": ("qwen2_moe", dict(r=2, lora_alpha=4, target_modules=["v_proj", "gate_proj", "down_proj", "shared_expert_gate"])),
    "deepseek-v3": ("deepseek_v3", dict(r=2, lora_alpha=4, target_modules=["q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj"])),
    "deepseek-v2-dora": ("deepseek_v2-lite", dict(r=2, lora_alpha=4, use_dora=True, target_modules=["q_proj", "kv_b_proj", "o_proj"])),
    "mamba": ("mamba", dict(r=2, lora_alpha=4, target_modules=["in_proj", "x_proj", "embeddings"])),
}


def make(name):
    base, keys = ADAPTERS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    model = AutoModelForCausalLM.from_pretrained(os.path.join(HERE, base), dtype=torch.float32, attn_implementation="eager")
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, **keys)).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            # Embeddings that are only saved beside a change stay as they are.
            if p.requires_grad or "lora_" in key:
                p.add_(torch.randn_like(p) * (0.3 if "lora_" in key else 0.2) * (p.std().nan_to_num(0.2).clamp(0.1, 1.0)))
    ids = load_file(os.path.join(HERE, base, "reference.safetensors"))["input_ids"]
    with torch.no_grad():
        logits = model(ids[None].long(), use_cache=False).logits[0].float()
        with model.disable_adapter():
            moved = (model(ids[None].long(), use_cache=False).logits[0].float() - logits).abs().max()
    folder = os.path.join(HERE, "lora", name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    if os.path.exists(os.path.join(folder, "README.md")):
        os.remove(os.path.join(folder, "README.md"))
    save_file(dict(input_ids=ids, logits=logits), os.path.join(folder, "reference.safetensors"))
    with open(os.path.join(folder, "base.txt"), "w") as f:
        f.write(base + "\n")
    print(f"{name}: logits of {base} move by {moved:.3f}")


if __name__ == "__main__":
    for n in sys.argv[1:] or ADAPTERS:
        make(n)
