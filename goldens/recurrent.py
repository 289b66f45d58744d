"""Goldens of families with recurrent layers, and the GGUF files of those that llama.cpp has."""

import gguf
import torch

DENSE = dict(vocab_size=64, hidden_size=32, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)
IDS = dict(vocab_size=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
DELTA = dict(DENSE, head_dim=8, linear_conv_kernel_dim=3, linear_key_head_dim=6, linear_value_head_dim=8,
             linear_num_key_heads=2, linear_num_value_heads=4, 
             layer_types=["linear_attention", "full_attention", "linear_attention"])
HEADS = dict(mamba_n_heads=8, mamba_n_groups=2, mamba_d_state=6, mamba_d_conv=3, mamba_expand=2)
NEMOTRON = dict(IDS, hidden_size=32, intermediate_size=24, num_attention_heads=4, num_key_value_heads=2, head_dim=12,
                max_position_embeddings=128, ssm_state_size=6, mamba_num_heads=6, mamba_head_dim=8, n_groups=2, conv_kernel=3,
                n_routed_experts=6, num_experts_per_tok=2, moe_intermediate_size=12, moe_shared_expert_intermediate_size=20)
# Several pairs of the heads here rotate.
WIDER = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)

GOLDENS = {
    "mamba": ("mamba", dict(IDS, hidden_size=24, state_size=6, num_hidden_layers=2, conv_kernel=3, time_step_rank=5, expand=3),
              dict(gguf=True)),
    "mamba-biased": ("mamba", dict(IDS, hidden_size=24, state_size=4, num_hidden_layers=2, use_bias=True, use_conv_bias=False,
                     tie_word_embeddings=False), dict(style=4)),
    "falcon_mamba": ("falcon_mamba", dict(IDS, hidden_size=24, state_size=6, num_hidden_layers=2, mixer_rms_eps=1e-6,
                     tie_word_embeddings=False), dict(gguf=True)),
    "mamba2": ("mamba2", dict(IDS, hidden_size=24, state_size=6, num_hidden_layers=2, num_heads=6, head_dim=8, n_groups=2,
               conv_kernel=3), dict(gguf=True)),
    "mamba2-bounded": ("mamba2", dict(IDS, hidden_size=24, state_size=6, num_hidden_layers=2, num_heads=4, head_dim=12, n_groups=1,
                       use_bias=True, use_conv_bias=False, tie_word_embeddings=True, time_step_limit=(0.5, 0.9)),
                       dict(style=4)),
    "lfm2": ("lfm2", dict(DENSE, layer_types=["conv", "full_attention", "conv"], block_multiple_of=8, norm_eps=1e-4),
             dict(gguf=True)),
    "lfm2-biased": ("lfm2", dict(DENSE, full_attn_idxs=[0, 2], conv_bias=True, conv_L_cache=4, block_auto_adjust_ff_dim=False,
                    tie_word_embeddings=False, rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=2.0)),
                    dict(style=4, drop=["layer_types"])),
    "lfm2_moe": ("lfm2_moe", dict(DENSE, layer_types=["conv", "full_attention", "conv"], num_dense_layers=1, num_experts=6,
                 num_experts_per_tok=2, moe_intermediate_size=12, routed_scaling_factor=1.5), dict(gguf=True)),
    "lfm2_moe-saved": ("lfm2_moe", dict(DENSE, layer_types=["full_attention", "conv", "conv"], num_dense_layers=0, num_experts=6,
                       num_experts_per_tok=2, moe_intermediate_size=12, use_expert_bias=False, norm_topk_prob=False),
                       dict(layout="saved", style=4)),
    "jamba": ("jamba", dict(DENSE, num_experts=3, intermediate_size=16, attn_layer_period=3, attn_layer_offset=1, mamba_expand=1,
              expert_layer_period=2, expert_layer_offset=0, mamba_d_state=6, mamba_d_conv=3, mamba_dt_rank=5),
              dict(gguf=True)),
    "jamba-biased": ("jamba", dict(DENSE, num_hidden_layers=2, num_experts=4, intermediate_size=16, attn_layer_period=2,
                     attn_layer_offset=0, mamba_d_state=4, mamba_proj_bias=True, mamba_conv_bias=False,
                     tie_word_embeddings=True), dict(layout="saved")),
    "qwen3_next": ("qwen3_next", dict(DELTA, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=12, mlp_only_layers=[2],
                   shared_expert_intermediate_size=12, partial_rotary_factor=0.5), dict(style=4)),
    "qwen3_next-gguf": ("qwen3_next", dict(DELTA, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=12,
                        shared_expert_intermediate_size=12, num_hidden_layers=2, layer_types=None, full_attention_interval=2,
                        partial_rotary_factor=0.5),
                        dict(gguf=True)),
    "qwen3_5": ("qwen3_5_text", dict(DELTA, tie_word_embeddings=True, attention_bias=True, num_hidden_layers=2,
                layer_types=["full_attention", "linear_attention"], rope_parameters=WIDER), dict()),
    "qwen3_5-gguf": ("qwen3_5_text", dict(DELTA, rope_parameters=WIDER), dict(gguf=True)),
    "qwen3_5_moe": ("qwen3_5_moe_text", dict(DELTA, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=12,
                    shared_expert_intermediate_size=12, num_hidden_layers=2, layer_types=["linear_attention", "full_attention"],
                    rope_parameters=WIDER), dict(gguf=True)),
    "nemotron_h": ("nemotron_h", dict(NEMOTRON, layers_block_type=["mamba", "moe", "attention", "mlp", "moe"], moe_latent_size=16,
                   n_group=3, topk_group=2, routed_scaling_factor=1.7, time_step_min=0.7), dict()),
    "nemotron_h-pattern": ("nemotron_h", dict(NEMOTRON, layers_block_type=["mamba", "mlp", "attention", "mamba"], time_step_min=1e-9,
                           mlp_bias=True, use_bias=True, use_conv_bias=False),
                           dict(layout="saved", gguf=True, drop=["layers_block_type", "layer_types"],
                                config=dict(hybrid_override_pattern="M-*M"))),
    "nemotron_h-moe": ("nemotron_h", dict(NEMOTRON, layers_block_type=["mamba", "moe", "attention", "moe"], time_step_min=1e-9,
                       moe_latent_size=16, norm_topk_prob=False), dict(gguf=True)),
    "bamba": ("bamba", dict(DENSE, **HEADS, attn_layer_indices=[1], mamba_d_head="auto"), dict()),
    "bamba-biased": ("bamba", dict(DENSE, **HEADS, num_hidden_layers=2, attn_layer_indices=[0], attention_bias=True, mlp_bias=True,
                     mamba_proj_bias=True, mamba_conv_bias=False, time_step_limit=(0.5, 0.9), tie_word_embeddings=True),
                     dict(style=4)),
    "granitemoehybrid": ("granitemoehybrid", dict(DENSE, **HEADS, num_hidden_layers=2, layer_types=["mamba", "attention"], num_local_experts=3,
                         intermediate_size=12, shared_intermediate_size=20, embedding_multiplier=3.0, logits_scaling=2.0,
                         residual_multiplier=0.6, attention_multiplier=0.2), dict(gguf=True)),
    "granitemoehybrid-rope": ("granitemoehybrid", dict(DENSE, num_hidden_layers=2, layer_types=["attention"] * 2, mamba_n_heads=8,
                              mamba_d_state=4, num_local_experts=0, position_embedding_type="rope", shared_intermediate_size=20,
                              attention_bias=True, tie_word_embeddings=True), dict(style=4, gguf=True)),
    "falcon_h1": ("falcon_h1", dict(DENSE, **HEADS, mamba_d_ssm=48, num_hidden_layers=2, mamba_rms_norm=True,
                  mamba_norm_before_gate=False, key_multiplier=0.7, attention_in_multiplier=1.3, attention_out_multiplier=0.8,
                  ssm_multipliers=[0.8, 1.2, 0.9, 1.4, 0.7], ssm_in_multiplier=1.2, ssm_out_multiplier=0.6,
                  mlp_multipliers=[0.7, 1.3], lm_head_multiplier=0.5, embedding_multiplier=2.0), dict(gguf=True)),
    "falcon_h1-normed": ("falcon_h1", dict(DENSE, **HEADS, mamba_d_ssm=None, num_hidden_layers=1, mamba_rms_norm=True,
                         mamba_norm_before_gate=True, mamba_proj_bias=True, projectors_bias=True, attention_bias=True,
                         mlp_bias=True, ssm_in_multiplier=1.2, ssm_multipliers=[0.8, 1.2, 0.9, 1.4, 0.7]), dict(style=4)),
    "falcon_h1-plain": ("falcon_h1", dict(DENSE, **HEADS, mamba_d_ssm=48, num_hidden_layers=1, tie_word_embeddings=True), dict()),
    "minimax": ("minimax", dict(DENSE, num_local_experts=4, intermediate_size=12, head_dim=12, block_size=8,
                layer_types=["linear_attention", "full_attention", "linear_attention"], full_attn_alpha_factor=1.3,
                full_attn_beta_factor=0.7, linear_attn_alpha_factor=0.8, linear_attn_beta_factor=1.2, mlp_alpha_factor=0.9,
                mlp_beta_factor=1.1), dict(style=4)),
    "minimax-window": ("minimax", dict(DENSE, num_local_experts=4, intermediate_size=12, num_hidden_layers=2, sliding_window=6,
                       tie_word_embeddings=True), dict(layout="saved", drop=["layer_types"])),
}

# Tables that follow from the configuration.
DERIVED = ("slope_rate", "query_decay", "key_decay", "diagonal_decay")

ARCH = {"mamba": "mamba", "falcon_mamba": "mamba", "mamba2": "mamba2", "lfm2": "lfm2", "lfm2_moe": "lfm2moe", "jamba": "jamba",
        "qwen3_next": "qwen3next", "qwen3_5_text": "qwen35", "qwen3_5_moe_text": "qwen35moe", "nemotron_h": "nemotron_h",
        "granitemoehybrid": "granitehybrid", "falcon_h1": "falcon-h1"}

NAMES = {
    "embeddings": "token_embd", "embed_tokens": "token_embd", "norm_f": "output_norm", "norm": "output_norm",
    "final_layernorm": "output_norm", "embedding_norm": "token_embd_norm", "lm_head": "output",
}
LAYER_NAMES = {
    "norm": "attn_norm", "input_layernorm": "attn_norm", "operator_norm": "attn_norm", "pre_ff_layernorm": "ffn_norm",
    "ffn_norm": "ffn_norm", "post_attention_layernorm": "ffn_norm",
    "in_proj": "ssm_in", "conv1d": "ssm_conv1d", "x_proj": "ssm_x", "dt_proj": "ssm_dt", "out_proj": "ssm_out", "D": "ssm_d",
    "dt_bias": "ssm_dt.bias", "A_log": "ssm_a", "dt_layernorm": "ssm_dt_norm", "b_layernorm": "ssm_b_norm",
    "c_layernorm": "ssm_c_norm", "in_proj_ba": "ssm_ba", "in_proj_qkvz": "ssm_in", "in_proj_qkv": "attn_qkv",
    "in_proj_z": "attn_gate", "in_proj_b": "ssm_beta", "in_proj_a": "ssm_alpha",
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm", "q_layernorm": "attn_q_norm", "k_layernorm": "attn_k_norm",
    "w1": "ffn_gate", "w3": "ffn_up", "w2": "ffn_down", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
    "gate": "ffn_gate_inp", "router": "ffn_gate_inp", "expert_bias": "exp_probs_b.bias",
    "e_score_correction_bias": "exp_probs_b.bias", "shared_expert_gate": "ffn_gate_inp_shexp",
    "fc1_latent_proj": "ffn_latent_down", "fc2_latent_proj": "ffn_latent_up",
}


def write_gguf(model, path, arch_of=ARCH):
    c, kind = model.config, model.config.model_type
    arch = arch_of[kind]
    if kind == "nemotron_h" and "moe" in c.layers_block_type:
        arch = "nemotron_h_moe"
    w = gguf.GGUFWriter(path, arch)
    keys(w, c, kind)
    for name, t in model.state_dict().items():
        if any(d in name for d in DERIVED) or (name == "lm_head.weight" and c.tie_word_embeddings):
            continue
        for to, t in tensors(c, kind, name, t.float()):
            t = t.contiguous().numpy()
            # Tables and vectors stay as they are, and what is not BF16 any more.
            if kind != "falcon_h1" and t.ndim > 1 and to.endswith(".weight") and not any(n in to for n in ("ssm_norm", "conv")):
                w.add_tensor(to, gguf.quants.quantize(t, gguf.GGMLQuantizationType.BF16), raw_dtype=gguf.GGMLQuantizationType.BF16)
            else:
                w.add_tensor(to, t)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def keys(w, c, kind):
    layers = c.num_hidden_layers
    get = lambda *names: next((getattr(c, n) for n in names if getattr(c, n, None) is not None), None)
    w.add_vocab_size(c.vocab_size)
    w.add_context_length(get("max_position_embeddings") or 2**20)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(layers)
    w.add_layer_norm_rms_eps(get("rms_norm_eps", "norm_eps", "layer_norm_epsilon"))
    pure = kind in ("mamba", "falcon_mamba", "mamba2")
    w.add_head_count(0 if pure else c.num_attention_heads)
    if pure:
        w.add_feed_forward_length(0)
    else:
        types = get("layer_types", "layers_block_type")
        attends = [t in ("attention", "full_attention", "hybrid") for t in types]
        w.add_head_count_kv([c.num_key_value_heads if a else 0 for a in attends])
        inner = get("intermediate_size")
        if kind == "lfm2" and c.block_auto_adjust_ff_dim:
            inner = c.block_multiple_of * -(-int(c.block_ffn_dim_multiplier * int(2 * inner / 3)) // c.block_multiple_of)
        if kind == "nemotron_h":
            inner = [c.intermediate_size if t == "mlp" else c.moe_intermediate_size if t == "moe" else 0 for t in types]
        if kind == "granitemoehybrid" and not c.num_local_experts:
            inner = c.shared_intermediate_size
        if inner is not None:
            w.add_feed_forward_length(inner)
        if get("head_dim"):
            w.add_key_length(c.head_dim)
            w.add_value_length(c.head_dim)
        rope = get("rope_parameters")
        if rope and "rope_theta" in rope:
            w.add_rope_freq_base(rope["rope_theta"])
    if kind.startswith("qwen3"):
        w.add_rope_dimension_count(int(c.head_dim * rope["partial_rotary_factor"]))
        w.add_ssm_conv_kernel(c.linear_conv_kernel_dim)
        w.add_ssm_state_size(c.linear_key_head_dim)
        w.add_ssm_group_count(c.linear_num_key_heads)
        w.add_ssm_time_step_rank(c.linear_num_value_heads)
        w.add_ssm_inner_size(c.linear_value_head_dim * c.linear_num_value_heads)
    elif kind.startswith("lfm2"):
        w.add_shortconv_l_cache(c.conv_L_cache)
    elif kind != "granitemoehybrid" or "linear_attention" in c.layer_types:
        heads = get("num_heads", "mamba_n_heads", "mamba_num_heads")
        width = heads * get("mamba_head_dim", "mamba_d_head", "head_dim") if heads else None
        w.add_ssm_conv_kernel(get("conv_kernel", "mamba_d_conv"))
        w.add_ssm_state_size(get("state_size", "mamba_d_state", "ssm_state_size"))
        w.add_ssm_time_step_rank(heads or get("time_step_rank", "mamba_dt_rank"))
        w.add_ssm_inner_size(width or get("mamba_expand", "expand") * c.hidden_size)
        if heads:
            w.add_ssm_group_count(get("n_groups", "mamba_n_groups"))
        if kind in ("mamba", "falcon_mamba"):
            w.add_ssm_dt_b_c_rms(kind == "falcon_mamba")
    experts = get("num_experts", "num_local_experts", "n_routed_experts")
    if experts and (kind != "nemotron_h" or "moe" in c.layers_block_type):
        w.add_expert_count(experts)
        w.add_expert_used_count(c.num_experts_per_tok)
        if get("moe_intermediate_size"):
            w.add_expert_feed_forward_length(c.moe_intermediate_size)
        if get("shared_expert_intermediate_size", "shared_intermediate_size"):
            w.add_expert_shared_feed_forward_length(get("shared_expert_intermediate_size", "shared_intermediate_size"))
    if kind == "lfm2_moe":
        w.add_leading_dense_block_count(c.num_dense_layers)
        w.add_expert_weights_scale(c.routed_scaling_factor)
    if kind == "nemotron_h" and "moe" in c.layers_block_type:
        w.add_expert_shared_feed_forward_length(c.moe_shared_expert_intermediate_size)
        w.add_expert_weights_scale(c.routed_scaling_factor)
        w.add_expert_weights_norm(c.norm_topk_prob)
        w.add_expert_group_count(c.n_group)
        w.add_expert_group_used_count(c.topk_group)
        if c.moe_latent_size:
            w.add_uint32(f"{w.arch}.moe_latent_size", c.moe_latent_size)
    if kind == "granitemoehybrid":
        w.add_attention_scale(c.attention_multiplier)
        w.add_embedding_scale(c.embedding_multiplier)
        w.add_residual_scale(c.residual_multiplier)
        w.add_logit_scale(c.logits_scaling)
        w.add_rope_scaling_finetuned(c.position_embedding_type == "rope")


def tensors(c, kind, name, t):
    """What llama.cpp's converter makes of a tensor: names and values."""
    parts = name.split(".")
    if "layers" not in parts:
        if kind.startswith("qwen3") and "norm" in name:
            t = t + 1
        if kind == "falcon_h1":
            t = t * (c.embedding_multiplier if "embed" in name else c.lm_head_multiplier if "lm_head" in name else 1)
        yield f"{NAMES[parts[-2]]}.{parts[-1]}", t
        return
    at = parts.index("layers") + 1
    i, rest, leaf = parts[at], parts[at + 1:], parts[-1]
    stem = rest[-2] if leaf in ("weight", "bias") else leaf
    suffix = f".{leaf}" if leaf in ("weight", "bias") else ""
    blk = f"blk.{i}."
    if stem == "A_log":
        t = -t.exp()
    if stem in ("A_log", "D") and t.dim() == 1 and not kind.startswith("qwen3"):
        t = t[:, None]
    if stem in ("conv1d", "conv") and leaf == "weight":
        t = t.squeeze(1)
    if kind.startswith("qwen3"):
        if "norm" in stem and rest[0] != "linear_attn":
            t = t + 1
        if stem == "post_attention_layernorm":
            yield blk + "post_attention_norm.weight", t
            return
        if kind.startswith("qwen3_5") and rest[0] == "linear_attn":
            t = take_turns(c, stem, t)
    if stem == "norm" and len(rest) > 2:
        groups = {"linear_attn": 1}.get(rest[0]) or getattr(c, "mamba_n_groups", None) or c.n_groups
        yield blk + "ssm_norm.weight", t if groups == 1 else t.reshape(groups, -1)
    elif rest[0] == "conv":
        yield f"{blk}shortconv.{stem}{suffix}", t
    elif rest[0] == "self_attn" and stem == "out_proj":
        yield blk + "attn_output.weight", t
    elif kind == "granitemoehybrid" and stem in ("q_proj", "k_proj"):
        n = c.num_attention_heads if stem == "q_proj" else c.num_key_value_heads
        t = t.reshape(n, 2, t.shape[0] // n // 2, *t.shape[1:]).swapaxes(1, 2).reshape(t.shape)
        yield f"{blk}{LAYER_NAMES[stem]}{suffix}", t
    elif rest[0] == "shared_mlp":
        kind_of = "_shexp" if c.num_local_experts else ""
        for to, part in zip(("ffn_gate", "ffn_up"), t.chunk(2)) if stem == "input_linear" else [("ffn_down", t)]:
            yield f"{blk}{to}{kind_of}.weight", part
    elif leaf == "gate_up_proj":
        for to, part in zip(("ffn_gate_exps", "ffn_up_exps"), t.chunk(2, 1)):
            yield f"{blk}{to}.weight", part
    elif "experts" in rest and leaf in ("up_proj", "down_proj"):
        yield f"{blk}{LAYER_NAMES[leaf]}_exps.weight", t
    elif any(r in ("shared_expert", "shared_experts") for r in rest):
        yield f"{blk}{LAYER_NAMES[stem]}_shexp{suffix}", t
    else:
        if kind == "falcon_h1":
            t = t * factor(c, stem, leaf, t)
        yield f"{blk}{LAYER_NAMES[stem]}{suffix}", t


def take_turns(c, stem, t):
    """Value heads in the order in which they take turns over the key heads."""
    keys, heads = c.linear_num_key_heads, c.linear_num_value_heads
    turn = lambda v, dim=0: v.unflatten(dim, (keys, heads // keys, -1)).transpose(dim, dim + 1).flatten(dim, dim + 2)
    first = 2 * keys * c.linear_key_head_dim
    if stem in ("in_proj_qkv", "conv1d"):
        return torch.cat([t[:first], turn(t[first:])])
    if stem in ("in_proj_z", "in_proj_b", "in_proj_a", "A_log", "dt_bias"):
        return turn(t)
    return turn(t, 1) if stem == "out_proj" else t


def factor(c, stem, leaf, t):
    """Falcon-H1's factors, which are multiplied into weights."""
    if leaf != "weight":
        return 1
    inner, shared = c.mamba_d_ssm or int(c.mamba_expand * c.hidden_size), c.mamba_n_groups * c.mamba_d_state
    if stem == "in_proj":
        sizes = torch.tensor([inner, inner, shared, shared, c.mamba_n_heads])
        return c.ssm_in_multiplier * torch.tensor(c.ssm_multipliers).repeat_interleave(sizes)[:, None]
    return {"q_proj": c.attention_in_multiplier, "v_proj": c.attention_in_multiplier,
            "k_proj": c.attention_in_multiplier * c.key_multiplier, "o_proj": c.attention_out_multiplier,
            "out_proj": c.ssm_out_multiplier, "gate_proj": c.mlp_multipliers[0], "down_proj": c.mlp_multipliers[1]}.get(stem, 1)
