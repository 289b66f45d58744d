"""Makes the goldens: tiny checkpoints of every family with the reference implementation's outputs.

    python -m venv venv && venv/bin/pip install -r goldens/requirements.txt
    venv/bin/python goldens/generate.py [NAME ...]

Each golden is a folder: config.json, model.safetensors (and for some model.gguf), reference.safetensors with
`input_ids` [T], `logits` [T, V] and `hidden` [L + 1, T, D] (input of each layer, then the output of the last before
the final norm), all float32, computed eagerly from the stored weights. The last tokens of `input_ids` are greedy.
"""

import copy
import json
import os
import shutil
import sys
import zlib

import gguf
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, Mistral4ForCausalLM

import recurrent

HERE = os.path.dirname(os.path.abspath(__file__))
PROMPT, GREEDY = 24, 6
# Those that the library's own table leaves out.
CLASSES = {"mistral4": Mistral4ForCausalLM}

DENSE = dict(vocab_size=64, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0)
MOE = dict(DENSE, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=12)
DEEPSEEK = dict(DENSE, num_key_value_heads=4, kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=4, v_head_dim=12,
                n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=8, first_k_dense_replace=1,
                n_group=4, topk_group=2, num_hidden_layers=3)
# GLM 4.5's experts, which others have too: DeepSeek-V3's.
GROUPED = dict(DENSE, num_hidden_layers=3, n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=8, n_group=4,
               topk_group=2, first_k_dense_replace=1, n_shared_experts=2, routed_scaling_factor=1.7, norm_topk_prob=True)
GRANITE = {**DENSE, "num_local_experts": 6, "num_experts_per_tok": 2, "intermediate_size": 12, "embedding_multiplier": 3.0,
           "logits_scaling": 0.5, "residual_multiplier": 0.4, "attention_multiplier": 0.5}
ERNIE = dict(DENSE, num_hidden_layers=4, moe_k=2, moe_num_experts=6, moe_intermediate_size=8, moe_num_shared_experts=2,
             moe_layer_start_index=1)
FALCON = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=128,
              ffn_hidden_size=48, bos_token_id=1, eos_token_id=2)
OPT = dict(vocab_size=64, hidden_size=32, ffn_dim=40, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=48,
           word_embed_proj_dim=32, bos_token_id=1, eos_token_id=2, pad_token_id=0)
YARN_MSCALE = dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, beta_fast=32.0, beta_slow=1.0, mscale=0.8,
                   mscale_all_dim=0.6, original_max_position_embeddings=16)


def rope(kind, theta=10000.0, **keys):
    return dict(rope_type=kind, rope_theta=theta, **keys)


# name -> (model type, configuration, options). Options: style 4 writes the configuration as transformers 4 did;
# layout "saved" keeps the library's own stacked names, "published" writes what the hub has; drop leaves keys out;
# post changes the written tensors; gguf also writes a GGUF file; attention names the reference's path.
GOLDENS = {
    "llama": ("llama", dict(DENSE), dict(gguf=True)),
    "llama-linear-bias-tied": ("llama", dict(DENSE, attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                               rope_parameters=rope("linear", factor=4.0)), dict(style=4)),
    "llama-dynamic": ("llama", dict(DENSE, max_position_embeddings=16, rope_parameters=rope("dynamic", factor=2.0)), dict()),
    "llama-llama3": ("llama", dict(DENSE, head_dim=12, rope_parameters=rope("llama3", 5e5, factor=8.0, low_freq_factor=1.0,
                     high_freq_factor=4.0, original_max_position_embeddings=32)), dict(style=4, gguf=True)),
    "llama-yarn": ("llama", dict(DENSE, rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=16)),
                   dict(style=4)),
    "llama-fp8": ("llama", dict(DENSE), dict(post="fp8")),
    "mistral": ("mistral", dict(DENSE, sliding_window=8), dict(style=4)),
    "mixtral": ("mixtral", {**DENSE, "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 16},
                dict(gguf=True)),
    "mixtral-saved": ("mixtral", {**DENSE, "num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 16,
                      "sliding_window": 6}, dict(layout="saved", style=4)),
    "deepseek_v2": ("deepseek_v2", dict(DEEPSEEK, q_lora_rank=20, n_shared_experts=2, topk_method="group_limited_greedy",
                    routed_scaling_factor=1.7, rope_parameters=YARN_MSCALE), dict(style=4)),
    "deepseek_v2-lite": ("deepseek_v2", dict(DEEPSEEK, q_lora_rank=None, n_shared_experts=1, topk_method="greedy", n_group=1,
                         topk_group=1, rope_parameters=dict(YARN_MSCALE, mscale=0.7, mscale_all_dim=0.7)),
                         dict(layout="saved", gguf=True)),
    "deepseek_v3": ("deepseek_v3", dict(DEEPSEEK, q_lora_rank=20, n_shared_experts=1, rms_norm_eps=1e-5,
                    rope_parameters=dict(YARN_MSCALE, mscale=1.0, mscale_all_dim=1.0)), dict(style=4, gguf=True)),
    "deepseek_v3-halves": ("deepseek_v3", dict(DEEPSEEK, q_lora_rank=None, n_shared_experts=1, rope_interleave=False,
                           norm_topk_prob=False, attention_bias=True), dict()),
    "qwen2": ("qwen2", dict(DENSE, use_sliding_window=True, sliding_window=6, max_window_layers=1, tie_word_embeddings=True),
              dict(style=4, drop=["layer_types"])),
    "qwen2_moe": ("qwen2_moe", dict(MOE, num_hidden_layers=4, num_experts=5, decoder_sparse_step=2, mlp_only_layers=[3],
                  shared_expert_intermediate_size=20, use_sliding_window=True, sliding_window=5, max_window_layers=3),
                  dict(style=4, drop=["layer_types"])),
    "qwen2_moe-saved": ("qwen2_moe", dict(MOE, num_hidden_layers=1, shared_expert_intermediate_size=20, norm_topk_prob=True, qkv_bias=False),
                        dict(layout="saved", post="fp8")),
    "qwen2_moe-gguf": ("qwen2_moe", dict(MOE, shared_expert_intermediate_size=20), dict(gguf=True)),
    "qwen3": ("qwen3", dict(DENSE, head_dim=12, tie_word_embeddings=True), dict(style=4, gguf=True)),
    "qwen3_moe": ("qwen3_moe", dict(MOE, head_dim=8, norm_topk_prob=True, num_hidden_layers=3, mlp_only_layers=[1],
                  attention_bias=True), dict()),
    "olmoe": ("olmoe", dict(DENSE, intermediate_size=12, num_experts=6, num_experts_per_tok=2, clip_qkv=1.1,
              attention_bias=True), dict(style=4)),
    "olmoe-gguf": ("olmoe", dict(DENSE, intermediate_size=12, num_experts=6, num_experts_per_tok=2, tie_word_embeddings=True),
                   dict(layout="saved", gguf=True)),
    "minimax_m2": ("minimax_m2", {**DENSE, "head_dim": 12, "intermediate_size": 12, "num_local_experts": 6,
                   "num_experts_per_tok": 2, "rope_parameters": rope("default", 5e6, partial_rotary_factor=0.5)},
                   dict(style=4, config={"rotary_dim": 6, "scoring_func": "sigmoid"}, gguf=True)),
    "minimax_m2-saved": ("minimax_m2", {**DENSE, "head_dim": 8, "intermediate_size": 12, "num_local_experts": 6,
                         "num_experts_per_tok": 3, "num_hidden_layers": 1}, dict(layout="saved")),
    "glm4_moe": ("glm4_moe", dict(GROUPED, head_dim=12, attention_bias=True, use_qk_norm=True), dict(style=4, gguf=True)),
    "glm4_moe-plain": ("glm4_moe", dict(GROUPED, head_dim=8, num_hidden_layers=2, n_group=1, topk_group=1, n_shared_experts=1,
                       norm_topk_prob=False, tie_word_embeddings=True,
                       rope_parameters=rope("default", 1e5, partial_rotary_factor=0.75)), dict(layout="saved")),
    "dots1": ("dots1", dict(GROUPED, n_shared_experts=1, attention_bias=True, sliding_window=8, max_window_layers=1),
              dict(style=4, drop=["layer_types"])),
    "dots1-gguf": ("dots1", dict(GROUPED, num_hidden_layers=2, n_group=1, topk_group=1, norm_topk_prob=False,
                   sliding_window=None), dict(layout="saved", gguf=True, config={"scoring_func": "noaux_tc"})),
    "ernie4_5_moe": ("ernie4_5_moe", dict(ERNIE, use_bias=True, moe_layer_end_index=2, tie_word_embeddings=False),
                     dict(style=4)),
    "ernie4_5_moe-gguf": ("ernie4_5_moe", dict(ERNIE, moe_layer_interval=2, moe_num_shared_experts=1),
                          dict(layout="saved", gguf=True)),
    "hunyuan_v1_moe": ("hunyuan_v1_moe", dict(DENSE, head_dim=12, intermediate_size=12, num_experts=6, moe_topk=[2, 3],
                       rope_parameters=rope("dynamic", alpha=50.0, factor=1.0)), dict()),
    "hunyuan_v1_moe-gguf": ("hunyuan_v1_moe", dict(DENSE, head_dim=8, intermediate_size=12, num_experts=5, moe_topk=2,
                            attention_bias=True), dict(style=4, layout="saved", gguf=True)),
    "granitemoe": ("granitemoe", dict(GRANITE, attention_bias=True), dict(style=4, gguf=True)),
    "granitemoeshared": ("granitemoeshared", dict(GRANITE, shared_intermediate_size=16), dict(gguf=True)),
    "granitemoeshared-saved": ("granitemoeshared", dict(GRANITE, num_hidden_layers=1, shared_intermediate_size=8,
                               tie_word_embeddings=True), dict(layout="saved")),
    "beam": ("beam", dict(DENSE, head_dim=12, num_hidden_layers=4, sliding_window=8, moe_intermediate_size=8, num_experts=8,
             num_experts_per_tok=3, n_group=4, topk_group=2, final_logit_softcapping=3.0, attention_bias=True,
             layer_types=["sliding_attention", "full_attention"] * 2, mlp_layer_types=["dense", "sparse", "dense", "sparse"]),
             dict()),
    "beam-rotary": ("beam", dict(DENSE, head_dim=8, num_hidden_layers=2, sliding_window=8, moe_intermediate_size=8,
                    num_experts=6, num_experts_per_tok=2, n_group=1, topk_group=1, final_logit_softcapping=None,
                    mlp_layer_types=["sparse"] * 2, norm_topk_prob=False, tie_word_embeddings=True, rope_parameters={
                    "full_attention": rope("yarn", factor=4.0, original_max_position_embeddings=16),
                    "sliding_attention": rope("default", 500.0)}), dict(layout="saved")),
    "granitemoe_swa": ("granitemoe_swa", dict(GRANITE, num_hidden_layers=4, shared_intermediate_size=8, sliding_window=8,
                       layer_rope_theta=[0, 1e4, 1e3, 5e5]), dict()),
    "hy_v3": ("hy_v3", dict(DENSE, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=8, head_dim=12,
              num_shared_experts=2, router_scaling_factor=1.7, mlp_bias=True, attention_bias=True), dict()),
    "hy_v3-saved": ("hy_v3", dict(DENSE, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=8, head_dim=8,
                    num_shared_experts=1, router_scaling_factor=0.6, tie_word_embeddings=True, num_hidden_layers=1,
                    mlp_layer_types=["sparse"]), dict(layout="saved", style=4)),
    "exaone_moe": ("exaone_moe", dict(DENSE, num_hidden_layers=3, num_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2,
                   moe_intermediate_size=8, sliding_window=8, sliding_window_pattern=2), dict(style=4, drop=["layer_types"])),
    "solar_open": ("solar_open", dict(GROUPED, head_dim=12, attention_bias=True, num_hidden_layers=2, first_k_dense_replace=0),
                   dict()),
    "flex_olmo": ("flex_olmo", dict(DENSE, intermediate_size=12, num_experts=6, num_experts_per_tok=2, norm_topk_prob=True),
                  dict(style=4)),
    "mistral4": ("mistral4", {**DEEPSEEK, "q_lora_rank": 20, "n_shared_experts": 1, "routed_scaling_factor": 1.5,
                 "rope_parameters": dict(YARN_MSCALE, original_max_position_embeddings=8, llama_4_scaling_beta=0.3)}, dict()),
    "llama4_text": ("llama4_text", {**DENSE, "head_dim": 12, "num_hidden_layers": 4, "intermediate_size": 8, "intermediate_size_mlp": 16,
                    "num_local_experts": 4, "num_experts_per_tok": 2, "interleave_moe_layer_step": 2, "attention_chunk_size": 8,
                    "floor_scale": 4, "attn_scale": 0.3, "no_rope_layer_interval": 2, "rope_parameters": rope("llama3", 5e5, factor=8.0,
                    low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)},
                    dict(style=4, drop=["layer_types", "moe_layers", "no_rope_layers"])),
    "llama4_text-gguf": ("llama4_text", {**DENSE, "head_dim": 8, "num_hidden_layers": 4, "intermediate_size": 8,
                         "intermediate_size_mlp": 12, "num_local_experts": 4, "interleave_moe_layer_step": 2},
                         dict(gguf=True)),
    "llama4_text-plain": ("llama4_text", {**DENSE, "head_dim": 8, "intermediate_size": 8, "num_local_experts": 3,
                          "num_hidden_layers": 2, "moe_layers": [1], "intermediate_size_mlp": 12, "use_qk_norm": False,
                          "attn_temperature_tuning": False, "no_rope_layers": [1, 0], "attention_bias": True,
                          "layer_types": ["full_attention", "chunked_attention"], "attention_chunk_size": 6,
                          "tie_word_embeddings": True}, dict(layout="saved")),
    "phimoe": ("phimoe", {**DENSE, "intermediate_size": 8, "num_local_experts": 6, "attention_bias": True, "lm_head_bias": True,
               "router_jitter_noise": 0.3, "sliding_window": 8}, dict(style=4)),
    "phimoe-saved": ("phimoe", {**DENSE, "intermediate_size": 8, "num_local_experts": 5, "num_hidden_layers": 1,
                     "router_jitter_noise": 0.1, "tie_word_embeddings": True, "rope_parameters": rope("longrope", short_factor=[
                     1.2, 1.5, 2.0, 3.0], long_factor=[4.0, 5.0, 6.0, 7.0], short_mscale=1.3, long_mscale=1.3,
                     original_max_position_embeddings=16)}, dict(layout="saved", style=4)),
    "cohere2_moe": ("cohere2_moe", dict(DENSE, head_dim=12, num_hidden_layers=4, intermediate_size=8, num_experts=6,
                    num_shared_experts=2, expert_selection_fn="sigmoid", prefix_dense_intermediate_size=24, sliding_window=8,
                    first_k_dense_replace=1, logit_scale=0.6, attention_bias=True), dict()),
    "cohere2_moe-rms": ("cohere2_moe", dict(DENSE, head_dim=8, num_hidden_layers=2, intermediate_size=8, num_experts=5,
                        num_shared_experts=1, shared_expert_combination_strategy="sum", rms_norm_eps=1e-5, sliding_window=8,
                        logit_scale=1.5, sliding_window_pattern=2, tie_word_embeddings=False), dict(layout="saved")),
    "mimo_v2_flash": ("mimo_v2_flash", dict(DENSE, head_dim=12, v_head_dim=8, num_key_value_heads=1, num_hidden_layers=3,
                      moe_intermediate_size=8, n_routed_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2,
                      routed_scaling_factor=1.7, sliding_window=8, attention_bias=True,
                      layer_types=["full_attention", "sliding_attention", "sliding_attention"]), dict()),
    "mimo_v2_flash-saved": ("mimo_v2_flash", dict(DENSE, head_dim=24, v_head_dim=12, num_hidden_layers=2, moe_intermediate_size=8,
                            n_routed_experts=6, num_experts_per_tok=2, norm_topk_prob=False, sliding_window=6,
                            attention_value_scale=None, tie_word_embeddings=True, mlp_layer_types=["sparse", "dense"]),
                            dict(layout="saved")),
    "gemma": ("gemma", dict(DENSE, head_dim=12, num_key_value_heads=1), dict(style=4, gguf=True)),
    "gemma2": ("gemma2", dict(DENSE, head_dim=12, num_hidden_layers=3, sliding_window=8, query_pre_attn_scalar=12,
               attn_logit_softcapping=2.0, final_logit_softcapping=3.0), dict(gguf=True)),
    "gpt_oss": ("gpt_oss", {**DENSE, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "intermediate_size": 32,
                "sliding_window": 8, "swiglu_limit": 1.5, "rope_parameters": rope("yarn", 150000.0, factor=8.0, beta_fast=32.0,
                beta_slow=1.0, truncate=False, original_max_position_embeddings=16)}, dict()),
    "gpt_oss-mxfp4": ("gpt_oss", {**DENSE, "num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8,
                      "intermediate_size": 32, "sliding_window": 16, "rope_parameters": rope("yarn", 150000.0, factor=8.0,
                      beta_fast=32.0, beta_slow=1.0, truncate=False, original_max_position_embeddings=16)},
                      dict(post="mxfp4", style=4, gguf=True)),
    "arcee": ("arcee", dict(DENSE, mlp_bias=True), dict(gguf=False)),
    "ernie4_5": ("ernie4_5", dict(DENSE, head_dim=8, use_bias=True), dict(style=4)),
    "glm": ("glm", dict(DENSE, head_dim=8, rms_norm_eps=1e-5), dict()),
    "glm4": ("glm4", dict(DENSE, head_dim=8, rms_norm_eps=1e-5), dict()),
    "granite": ("granite", dict(DENSE, embedding_multiplier=3.0, logits_scaling=0.5, residual_multiplier=0.7,
                attention_multiplier=0.4), dict(style=4)),
    "hunyuan_v1_dense": ("hunyuan_v1_dense", dict(DENSE, head_dim=8, rope_parameters=rope("dynamic", alpha=50.0, factor=1.0)), dict()),
    "smollm3": ("smollm3", dict(DENSE, num_hidden_layers=4, use_sliding_window=True, sliding_window=8,
                layer_types=["sliding_attention", "full_attention"] * 2), dict()),
    "seed_oss": ("seed_oss", dict(DENSE, head_dim=8, attention_out_bias=True), dict()),
    "olmo": ("olmo", dict(DENSE, clip_qkv=1.0), dict()),
    "olmo2": ("olmo2", dict(DENSE), dict(style=4)),
    "olmo3": ("olmo3", dict(DENSE, num_hidden_layers=4, sliding_window=8), dict()),
    "exaone4": ("exaone4", dict(DENSE, num_hidden_layers=4, sliding_window=8, sliding_window_pattern=4), dict()),
    "gemma3_text": ("gemma3_text", dict(DENSE, head_dim=8, num_hidden_layers=6, sliding_window=8, query_pre_attn_scalar=12), dict()),
    "cohere": ("cohere", dict(DENSE, use_qk_norm=True, logit_scale=0.5), dict(style=4)),
    "cohere2": ("cohere2", dict(DENSE, head_dim=8, num_hidden_layers=4, sliding_window=8, logit_scale=0.5), dict()),
    "nemotron": ("nemotron", dict(DENSE, head_dim=8), dict()),
    "ministral3": ("ministral3", dict(DENSE, head_dim=8, rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
                   original_max_position_embeddings=8, beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0,
                   llama_4_scaling_beta=0.4)), dict()),
    "apertus": ("apertus", dict(DENSE), dict()),
    "phi": ("phi", dict(DENSE, num_key_value_heads=4, rope_parameters=rope("default", partial_rotary_factor=0.5), qk_layernorm=True), dict()),
    "phi3": ("phi3", dict(DENSE, sliding_window=8), dict()),
    "phi3-longrope": ("phi3", dict(DENSE, max_position_embeddings=128, original_max_position_embeddings=64,
                      rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=1.0,
                      original_max_position_embeddings=64, short_factor=[1.0, 1.5, 2.0, 3.0],
                      long_factor=[1.0, 3.0, 6.0, 9.0])), dict(style=4)),
    "stablelm": ("stablelm", dict(DENSE, head_dim=8, use_qkv_bias=True, rope_parameters=rope("default", partial_rotary_factor=0.5)),
                 dict(style=4)),
    "stablelm-parallel": ("stablelm", dict(DENSE, qk_layernorm=True, use_parallel_residual=True,
                          rope_parameters=rope("default", partial_rotary_factor=0.5)), dict()),
    "starcoder2": ("starcoder2", dict(DENSE, sliding_window=8), dict(style=4)),
    "gpt_neox": ("gpt_neox", dict(DENSE, num_key_value_heads=4, rope_parameters=rope("default", partial_rotary_factor=0.5)), dict()),
    "gpt_neox-sequential": ("gpt_neox", dict(DENSE, num_key_value_heads=4, use_parallel_residual=False, attention_bias=False,
                            rope_parameters=rope("default", partial_rotary_factor=1.0)), dict()),
    "gpt_bigcode": ("gpt_bigcode", dict(vocab_size=64, n_positions=48, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
                    dict()),
    "gpt_bigcode-heads": ("gpt_bigcode", dict(vocab_size=64, n_positions=48, n_embd=32, n_layer=2, n_head=4, bos_token_id=1,
                          eos_token_id=2, multi_query=False, n_inner=40, tie_word_embeddings=False), dict()),
    "gptj": ("gptj", dict(vocab_size=64, n_positions=48, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, bos_token_id=1, eos_token_id=2),
             dict()),
    "bloom": ("bloom", dict(vocab_size=64, hidden_size=24, n_layer=2, n_head=3, bos_token_id=1, eos_token_id=2), dict()),
    "mpt": ("mpt", dict(vocab_size=64, d_model=24, n_layers=2, n_heads=3, max_seq_len=48, attn_config=dict(clip_qkv=1.5),
            bos_token_id=1, eos_token_id=2), dict()),
    "falcon": ("falcon", dict(FALCON, multi_query=True, parallel_attn=True), dict()),
    "falcon-grouped": ("falcon", dict(FALCON, new_decoder_architecture=True, num_kv_heads=2, tie_word_embeddings=False), dict()),
    "falcon-one-norm": ("falcon", dict(FALCON, new_decoder_architecture=True, num_kv_heads=2, num_ln_in_parallel_attn=1, bias=True), dict()),
    "falcon-alibi": ("falcon", dict(FALCON, alibi=True, multi_query=False, parallel_attn=False, bias=True),
                     # The eager path of the reference adds the biases twice; its default, as the published code, once.
                     dict(attention="sdpa")),
    "opt": ("opt", dict(OPT), dict()),
    "opt-after": ("opt", dict(OPT, do_layer_norm_before=False, word_embed_proj_dim=24), dict()),
    "minicpm3": ("minicpm3", dict(DENSE, num_key_value_heads=4, kv_lora_rank=16, q_lora_rank=20, qk_nope_head_dim=8,
                 qk_rope_head_dim=4, v_head_dim=8, scale_emb=3, scale_depth=0.9, dim_model_base=16), dict()),
    "deepseek_v32": ("deepseek_v32", dict({k: v for k, v in DEEPSEEK.items() if k != "first_k_dense_replace"}, q_lora_rank=20,
                     n_shared_experts=1, index_n_heads=16, index_head_dim=8, index_topk=5, rms_norm_eps=1e-5,
                     mlp_layer_types=["dense", "sparse", "sparse"],
                     rope_parameters=dict(YARN_MSCALE, mscale=1.0, mscale_all_dim=1.0)), dict()),
    "gpt2": ("gpt2", dict(vocab_size=64, n_positions=48, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
             dict(gguf=True)),
    "gpt2-scaled": ("gpt2", dict(vocab_size=64, n_positions=48, n_embd=32, n_layer=3, n_head=2, n_inner=40, bos_token_id=1,
                    eos_token_id=2, scale_attn_by_inverse_layer_idx=True, activation_function="gelu",
                    tie_word_embeddings=False), dict()),
}

GOLDENS.update(recurrent.GOLDENS)

BERT = dict(vocab_size=64, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=48, pad_token_id=0)
# Encoders have no logits: what stands for them is the last hidden state, and no token is greedy.
ENCODERS = {
    "bert": ("bert", dict(BERT), dict()),
    "roberta": ("roberta", dict(BERT, pad_token_id=1, hidden_act="relu"), dict()),
    "xlm-roberta": ("xlm-roberta", dict(BERT, pad_token_id=2), dict()),
    "nomic_bert": ("nomic_bert", dict(BERT, head_dim=8), dict()),
    "modernbert": ("modernbert", dict(BERT, num_hidden_layers=4, local_attention=8, attention_bias=True, cls_token_id=1,
                   sep_token_id=2, bos_token_id=1, eos_token_id=2), dict()),
}
GOLDENS.update(ENCODERS)
CLASSES.update((kind, AutoModel) for kind, _, _ in ENCODERS.values())


def build(name):
    kind, keys, options = GOLDENS[name]
    torch.manual_seed(zlib.crc32(name.encode()))
    config = AutoConfig.for_model(kind, **keys)
    config._attn_implementation = options.get("attention", "eager")
    config._experts_implementation = "eager"
    model_class = CLASSES.get(kind, AutoModelForCausalLM)
    model = model_class.from_config(config) if hasattr(model_class, "from_config") else model_class(config)
    model = model.eval().float()
    fill(model)
    folder = os.path.join(HERE, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    save(model, folder, options)
    POST.get(options.get("post"), lambda *_: None)(model, folder)
    write_config(folder, options)
    logits, ids = reference(model, folder)
    if "post" not in options:
        loaded = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation=options.get("attention", "eager"),
                                             experts_implementation="eager").eval()
        with torch.no_grad():
            again = loaded(ids).last_hidden_state if kind in ENCODERS else loaded(ids, use_cache=False).logits
            assert torch.equal(again[0], logits), f"{name}: loads to another model"
    if options.get("gguf"):
        to_gguf(model, folder)


def fill(model):
    """Values that every mechanism shows in: nothing near zero, nothing equal; stored in bfloat16."""
    for name, p in list(model.named_parameters()) + [(n, b) for n, b in model.named_buffers() 
                                                 if "correction_bias" in n or "expert_bias" in n]:
        if "norm" in name.lower() or ".ln_" in name:
            kind = model.config.model_type
            zero = "gemma" in kind or kind.startswith(("qwen3_next", "qwen3_5")) and "linear_attn" not in name
            centre = 0.0 if zero or name.endswith("bias") else 1.0
            v = centre + 0.3 * torch.randn(p.shape)
        elif p.dim() == 1 or name.endswith("bias"):
            v = 0.2 * torch.randn(p.shape)
        else:
            v = torch.randn(p.shape) * 1.3 / p.shape[-1] ** 0.5
        p.data = v.bfloat16().float()


def save(model, folder, options):
    if options.get("layout") == "saved":
        state = {k: v.bfloat16().contiguous() for k, v in model.state_dict().items() if not k.endswith(recurrent.DERIVED)}
        if model.config.tie_word_embeddings:
            state.pop("lm_head.weight", None)
        save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        model.config.dtype = torch.bfloat16
        model.config.save_pretrained(folder)
        return
    # A copy, for the tables of rotary frequencies would be rounded too.
    small = copy.deepcopy(model).bfloat16()
    derived = any(k.endswith(recurrent.DERIVED) for k in model.state_dict())
    state = {k: v for k, v in small.state_dict().items() if not k.endswith(recurrent.DERIVED)} if derived else None
    small.save_pretrained(folder, state_dict=state)
    for extra in os.listdir(folder):
        if extra not in ("config.json", "model.safetensors"):
            os.remove(os.path.join(folder, extra))


def write_config(folder, options):
    path = os.path.join(folder, "config.json")
    with open(path) as f:
        c = json.load(f)
    c = {k: v for k, v in c.items() if k not in options.get("drop", [])}
    if options.get("style") == 4:
        c["torch_dtype"] = c.pop("dtype")
        r = c.pop("rope_parameters", {})
        c.update({k: r.pop(k) for k in ("rope_theta", "partial_rotary_factor") if k in r})
        if r.get("rope_type", "default") != "default":
            # Both spellings were in use.
            c["rope_scaling"] = {("type" if k == "rope_type" and "mscale" in r else k): v for k, v in r.items()}
        c["transformers_version"] = "4.55.0"
    c.update(options.get("config", {}))
    if os.path.exists(extra := os.path.join(folder, "extra.json")):
        with open(extra) as f:
            c.update(json.load(f))
        os.remove(extra)
    with open(path, "w") as f:
        json.dump(c, f, indent=1, sort_keys=True)
        f.write("\n")


def fp8(model, folder):
    """Block FP8 as DeepSeek publishes it, with ragged last blocks: rows and columns of 16."""
    path = os.path.join(folder, "model.safetensors")
    state, size = load_file(path), 16
    for name in [n for n in state if n.endswith(("_proj.weight", "experts.gate_up_proj", "experts.down_proj"))]:
        w = state[name].float()
        rows, columns = (-(-d // size) for d in w.shape[-2:])
        wide = torch.nn.functional.pad(w, (0, columns * size - w.shape[-1], 0, rows * size - w.shape[-2]))
        blocks = wide.reshape(*w.shape[:-2], rows, size, columns, size)
        scale = blocks.abs().amax((-3, -1)) / 448
        spread = scale.repeat_interleave(size, -2)[..., : w.shape[-2], :].repeat_interleave(size, -1)[..., : w.shape[-1]]
        codes = (w / spread).to(torch.float8_e4m3fn)
        model.get_parameter(name).data = codes.float() * spread
        state[name], state[name + "_scale_inv"] = codes, scale
    save_file(state, path, metadata={"format": "pt"})
    with open(os.path.join(folder, "extra.json"), "w") as f:
        json.dump({"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                           "weight_block_size": [size, size]}}, f)


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def mxfp4(model, folder):
    """Experts as gpt-oss publishes them: blocks of 32 codes, two a byte, the even one low, with a power of two."""
    path = os.path.join(folder, "model.safetensors")
    state = load_file(path)
    for name in [n for n in state if n.endswith("gate_up_proj") or n.endswith("down_proj")]:
        experts, inp, out = state.pop(name).shape
        codes = torch.randint(0, 16, (experts, out, inp // 32, 32))
        exponent = torch.randint(122, 126, (experts, out, inp // 32))
        values = (E2M1[codes] * torch.exp2(exponent.float() - 127)[..., None]).reshape(experts, out, inp)
        model.get_parameter(name).data = values.transpose(1, 2).contiguous()
        state[name + "_blocks"] = (codes[..., 0::2] | codes[..., 1::2] << 4).to(torch.uint8)
        state[name + "_scales"] = exponent.to(torch.uint8)
    save_file(state, path, metadata={"format": "pt"})
    with open(os.path.join(folder, "extra.json"), "w") as f:
        json.dump({"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}}, f)


POST = {"fp8": fp8, "mxfp4": mxfp4}


@torch.no_grad()
def reference(model, folder):
    encoder = model.config.model_type in ENCODERS
    ids = torch.randint(3, model.config.vocab_size, (1, PROMPT))
    for _ in range(0 if encoder else GREEDY):
        ids = torch.cat([ids, model(ids, use_cache=False).logits[:, -1:].argmax(-1)], 1)
    seen = []
    body = getattr(model.base_model, "model", model.base_model)
    body = getattr(body, "decoder", body)
    body = getattr(body, "encoder", body)
    layers = next(getattr(body, n) for n in ("h", "layers", "layer", "blocks") if hasattr(body, n))
    hooks = [m.register_forward_pre_hook(lambda _, a, k: seen.append((a[0] if a else k["hidden_states"])[0].clone()), with_kwargs=True)
             for m in layers]
    # What the last layer gives: before the final norm, where there is one.
    hooks.append(layers[-1].register_forward_hook(lambda _, a, out: seen.append((out[0] if isinstance(out, tuple) else out).reshape(seen[0].shape).clone())))
    logits = (model(ids).last_hidden_state if encoder else model(ids, use_cache=False).logits)[0]
    for h in hooks:
        h.remove()
    top = logits.topk(2).values
    margin = (top[:, 0] - top[:, 1])[PROMPT - 1:].min().item()
    assert encoder or margin > 1e-3, f"{folder}: greedy margin {margin}: change the name"
    save_file({"input_ids": ids[0].int(), "logits": logits.float().contiguous(), "hidden": torch.stack(seen).float()},
              os.path.join(folder, "reference.safetensors"))
    print(f"{os.path.basename(folder)}: std {logits.std():.2f}, margin {margin:.3f}")
    return logits, ids


# ---- GGUF: the same weights under llama.cpp's names and conventions ----------------------------------------------

BF16 = gguf.GGMLQuantizationType.BF16

GGUF_ARCH = {"llama": "llama", "mixtral": "llama", "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "qwen2": "qwen2",
             "qwen2_moe": "qwen2moe", "qwen3": "qwen3", "gemma": "gemma", "gemma2": "gemma2", "gpt_oss": "gpt-oss", "gpt2": "gpt2",
             "olmoe": "olmoe", "minimax_m2": "minimax-m2", "glm4_moe": "glm4moe", "dots1": "dots1",
             "ernie4_5_moe": "ernie4_5-moe", "hunyuan_v1_moe": "hunyuan-moe", "granitemoe": "granitemoe",
             "granitemoeshared": "granitemoe", "llama4_text": "llama4"}

GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp", "mlp.router": "ffn_gate_inp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp", "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "mlp.gate.wg": "ffn_gate_inp", "block_sparse_moe.router": "ffn_gate_inp", "mlp.shared_mlp.gate_proj": "ffn_gate_shexp",
    "mlp.shared_mlp.up_proj": "ffn_up_shexp", "mlp.shared_mlp.down_proj": "ffn_down_shexp",
    "shared_mlp.output_linear": "ffn_down_shexp",
    "self_attn.query_layernorm": "attn_q_norm", "self_attn.key_layernorm": "attn_k_norm",
    "feed_forward.router": "ffn_gate_inp", "feed_forward.gate_proj": "ffn_gate", "feed_forward.up_proj": "ffn_up",
    "feed_forward.down_proj": "ffn_down", "feed_forward.shared_expert.gate_proj": "ffn_gate_shexp",
    "feed_forward.shared_expert.up_proj": "ffn_up_shexp", "feed_forward.shared_expert.down_proj": "ffn_down_shexp",
    "ln_1": "attn_norm", "ln_2": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
    "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
}


def to_gguf(model, folder):
    c, kind = model.config, model.config.model_type
    if kind in recurrent.ARCH:
        return recurrent.write_gguf(model, os.path.join(folder, "model.gguf"))
    arch = GGUF_ARCH[kind]
    w = gguf.GGUFWriter(os.path.join(folder, "model.gguf"), arch)
    hidden, layers, heads = c.hidden_size, c.num_hidden_layers, c.num_attention_heads
    w.add_vocab_size(c.vocab_size)
    w.add_context_length(c.max_position_embeddings)
    w.add_embedding_length(hidden)
    w.add_block_count(layers)
    w.add_head_count(heads)
    if kind == "gpt2":
        w.add_feed_forward_length(c.n_inner or 4 * hidden)
        w.add_layer_norm_eps(c.layer_norm_epsilon)
    else:
        w.add_feed_forward_length(c.intermediate_size_mlp if arch == "llama4" else c.intermediate_size)
        w.add_layer_norm_rms_eps(c.rms_norm_eps)
        w.add_head_count_kv(1 if arch == "deepseek2" else c.num_key_value_heads)
        gguf_rope(w, c, arch)
    experts = getattr(c, "n_routed_experts", None) or getattr(c, "num_local_experts", None) or getattr(c, "num_experts", None)
    deepseek_routing = kind in ("deepseek_v2", "deepseek_v3", "glm4_moe", "dots1")
    if experts:
        w.add_expert_count(experts)
        w.add_expert_used_count(c.num_experts_per_tok)
    if kind in ("qwen2_moe", "ernie4_5_moe") or deepseek_routing:
        w.add_expert_feed_forward_length(c.moe_intermediate_size)
    if kind == "qwen2_moe":
        w.add_expert_shared_feed_forward_length(c.shared_expert_intermediate_size)
    if kind in ("gpt_oss", "minimax_m2", "hunyuan_v1_moe", "llama4_text"):
        w.add_expert_feed_forward_length(c.intermediate_size)
    if kind == "hunyuan_v1_moe":
        w.add_expert_shared_feed_forward_length(c.intermediate_size)
    if kind == "llama4_text":
        w.add_interleave_moe_layer_step(c.interleave_moe_layer_step)
    if kind == "minimax_m2":
        w.add_expert_gating_func(gguf.ExpertGatingFuncType.SIGMOID)
    if kind == "ernie4_5_moe":
        w.add_interleave_moe_layer_step(c.moe_layer_interval)
        w.add_leading_dense_block_count(c.moe_layer_start_index)
        w.add_expert_shared_count(c.moe_num_shared_experts)
    if arch == "granitemoe":
        w.add_attention_scale(c.attention_multiplier)
        w.add_embedding_scale(c.embedding_multiplier)
        w.add_residual_scale(c.residual_multiplier)
        w.add_logit_scale(c.logits_scaling)
        if kind == "granitemoeshared":
            w.add_expert_shared_feed_forward_length(c.shared_intermediate_size)
    if kind in ("gemma2", "gpt_oss"):
        w.add_sliding_window(c.sliding_window)
    if kind == "gemma2":
        w.add_attn_logit_softcapping(c.attn_logit_softcapping)
        w.add_final_logit_softcapping(c.final_logit_softcapping)
    if arch == "deepseek2":
        if c.q_lora_rank:
            w.add_q_lora_rank(c.q_lora_rank)
        w.add_kv_lora_rank(c.kv_lora_rank)
        w.add_key_length(c.kv_lora_rank + c.qk_rope_head_dim)
        w.add_value_length(c.kv_lora_rank)
        w.add_key_length_mla(c.qk_nope_head_dim + c.qk_rope_head_dim)
        w.add_value_length_mla(c.v_head_dim)
    if deepseek_routing:
        w.add_leading_dense_block_count(c.first_k_dense_replace)
        w.add_expert_shared_count(c.n_shared_experts)
        w.add_expert_weights_scale(c.routed_scaling_factor)
        w.add_expert_weights_norm(c.norm_topk_prob)
        softmax = kind == "deepseek_v2"
        w.add_expert_gating_func(gguf.ExpertGatingFuncType.SOFTMAX if softmax else gguf.ExpertGatingFuncType.SIGMOID)
        if c.n_group and c.n_group > 1:
            w.add_expert_group_count(c.n_group)
            w.add_expert_group_used_count(c.topk_group)
    for name, t in gguf_tensors(model, arch):
        t = t.float().contiguous().numpy()
        if t.ndim > 1:
            w.add_tensor(name, gguf.quants.quantize(t, BF16), raw_dtype=BF16)
        else:
            w.add_tensor(name, t)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def gguf_rope(w, c, arch):
    r = c.rope_parameters
    head_dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    w.add_rope_freq_base(r["rope_theta"])
    rotated = int(head_dim * r.get("partial_rotary_factor", 1.0))
    w.add_rope_dimension_count(c.qk_rope_head_dim if arch == "deepseek2" else rotated)
    if arch != "deepseek2":
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if r["rope_type"] == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(r["factor"])
        w.add_rope_scaling_orig_ctx_len(r["original_max_position_embeddings"])
        if r.get("mscale_all_dim"):
            w.add_rope_scaling_yarn_log_mul(0.1 * r["mscale_all_dim"])


def gguf_tensors(model, arch):
    """Names and values as llama.cpp's converter leaves them, biases and norms included."""
    c, state = model.config, model.state_dict()
    heads, kv_heads = c.num_attention_heads, getattr(c, "num_key_value_heads", None) or c.num_attention_heads
    if c.model_type == "llama" and c.rope_parameters["rope_type"] == "llama3":
        plain = 1.0 / 500000.0 ** (torch.arange(0, c.head_dim, 2).double() / c.head_dim)
        yield "rope_freqs.weight", plain / model.model.rotary_emb.inv_freq.double()
    for name, t in state.items():
        if name == "lm_head.weight" and c.tie_word_embeddings:
            continue
        if name.startswith("model.layers.") or name.startswith("transformer.h."):
            _, _, i, rest = name.split(".", 3)
        else:
            i, rest = None, name
        stem, _, suffix = rest.rpartition(".")
        if arch in ("llama", "granitemoe") and stem in ("self_attn.q_proj", "self_attn.k_proj"):
            n = heads if "q_proj" in stem else kv_heads
            t = t.reshape(n, 2, t.shape[0] // n // 2, *t.shape[1:]).swapaxes(1, 2).reshape(t.shape)
        if arch.startswith("gemma") and "norm" in stem:
            t = t + 1
        if arch == "gpt2" and t.dim() == 2 and ".c_" in "." + stem:
            t = t.T
        if arch in ("gemma2", "gpt-oss", "glm4moe") and stem == "post_attention_layernorm":
            stem, to = None, "post_attention_norm"
        elif stem in GGUF_NAMES and suffix in ("weight", "bias"):
            to = GGUF_NAMES[stem]
        else:
            yield from gguf_special(c, i, rest, t)
            continue
        yield f"blk.{i}.{to}.{suffix}" if i is not None else f"{to}.{suffix}", t


def gguf_special(c, i, rest, t):
    at = f"blk.{i}."
    if rest == "self_attn.kv_b_proj.weight":
        t = t.reshape(c.num_attention_heads, c.qk_nope_head_dim + c.v_head_dim, c.kv_lora_rank)
        yield at + "attn_k_b.weight", t[:, : c.qk_nope_head_dim].transpose(1, 2)
        yield at + "attn_v_b.weight", t[:, c.qk_nope_head_dim:]
    elif rest.endswith("e_score_correction_bias"):
        yield at + "exp_probs_b.bias", t.flatten()
    elif rest == "shared_mlp.input_linear.weight":
        gate, up = t.chunk(2)
        yield at + "ffn_gate_shexp.weight", gate
        yield at + "ffn_up_shexp.weight", up
    elif rest == "self_attn.sinks":
        yield at + "attn_sinks.weight", t
    elif rest.startswith("mlp.experts.gate_up_proj") and c.model_type == "gpt_oss":
        suffix = ".bias" if rest.endswith("bias") else ".weight"
        t = t if rest.endswith("bias") else t.transpose(1, 2)
        yield at + "ffn_gate_exps" + suffix, t[:, 0::2]
        yield at + "ffn_up_exps" + suffix, t[:, 1::2]
    elif rest.startswith("mlp.experts.down_proj") and c.model_type == "gpt_oss":
        suffix = ".bias" if rest.endswith("bias") else ".weight"
        yield at + "ffn_down_exps" + suffix, t if rest.endswith("bias") else t.transpose(1, 2)
    elif rest.endswith(".experts.gate_up_proj"):
        t = t.transpose(1, 2) if c.model_type == "llama4_text" else t
        gate, up = t.chunk(2, 1)
        yield at + "ffn_gate_exps.weight", gate
        yield at + "ffn_up_exps.weight", up
    elif rest.endswith(".experts.down_proj"):
        yield at + "ffn_down_exps.weight", t.transpose(1, 2) if c.model_type == "llama4_text" else t
    else:
        raise SystemExit(f"no GGUF name for {rest}")


if __name__ == "__main__":
    for name in sys.argv[1:] or GOLDENS:
        build(name)
