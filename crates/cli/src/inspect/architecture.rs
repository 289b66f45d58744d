//! What a model is made of, layer by layer: which weights make which part, which layers are alike, what each keeps per token.
//!
//! Read off what the family itself names when it loads (`pondera_arch::Description`), so that it is right for every family
//! without knowing one. Does not own: drawings ([`super::draw`], [`super::html`]).
use pondera_arch::{Description, Listed, Model};
use pondera_ops::{CacheSpec, KvType};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// What a weight is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Tables of tokens and positions.
    Embedding,
    /// Queries, keys, values, output, and the norms among them.
    Attention,
    /// Layers that keep a state in place of a cache.
    Recurrent,
    /// Feed-forward, for every token.
    Mlp,
    /// Which experts a token goes to.
    Router,
    /// Feed-forward, for the tokens that are sent there.
    Experts,
    /// Experts that every token goes to.
    SharedExperts,
    /// Norms around the others.
    Norm,
    /// From the last layer to logits.
    Head,
    /// Anything else.
    Other,
}

impl Part {
    /// All, in the order of drawings.
    pub const ALL: [Part; 10] = [
        Part::Embedding,
        Part::Attention,
        Part::Recurrent,
        Part::Mlp,
        Part::Router,
        Part::Experts,
        Part::SharedExperts,
        Part::Norm,
        Part::Head,
        Part::Other,
    ];

    /// As people say it.
    pub fn name(self) -> &'static str {
        match self {
            Part::Embedding => "embedding",
            Part::Attention => "attention",
            Part::Recurrent => "recurrent",
            Part::Mlp => "mlp",
            Part::Router => "router",
            Part::Experts => "experts",
            Part::SharedExperts => "shared experts",
            Part::Norm => "norm",
            Part::Head => "head",
            Part::Other => "other",
        }
    }
}

/// How much of a model something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Weights.
    pub parameters: u64,
    /// Of these, those that work on one token.
    pub active: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, t: &Listed) {
        self.parameters = self.parameters.saturating_add(t.parameters);
        self.active = self.active.saturating_add(t.active);
        self.bytes = self.bytes.saturating_add(t.bytes);
    }
}

/// The whole model.
#[derive(Debug, Serialize)]
pub struct Architecture {
    /// Whether the head is the table of tokens.
    pub tied_embeddings: bool,
    /// How positions enter queries and keys, from the configuration.
    pub positions: String,
    /// By what weights are for.
    pub parts: Vec<PartFacts>,
    /// What stands before the layers.
    pub before: Vec<Block>,
    /// Layers that are made alike, in the order of their first.
    pub layer_kinds: Vec<LayerKind>,
    /// What stands behind the layers.
    pub after: Vec<Block>,
    /// Each layer.
    pub layers: Vec<LayerFacts>,
    /// Bytes of the cache of one sequence at growing contexts.
    pub cache: Vec<CachePoint>,
}

/// The weights of one part in the whole model.
#[derive(Debug, Serialize)]
pub struct PartFacts {
    /// Which.
    pub part: Part,
    /// Weights that the family names; a stack of experts is one.
    pub tensors: usize,
    /// How much.
    #[serde(flatten)]
    pub amount: Amount,
}

/// Weights of one part that stand together.
#[derive(Debug, Serialize)]
pub struct Block {
    /// Which part.
    pub part: Part,
    /// What it does, in a line.
    pub text: String,
    /// How much.
    #[serde(flatten)]
    pub amount: Amount,
    /// The weights.
    pub tensors: Vec<BlockTensor>,
}

/// A weight of a block.
#[derive(Debug, Serialize)]
pub struct BlockTensor {
    /// Its name within the layer.
    pub name: String,
    /// `[groups, out, inp]`.
    pub shape: [usize; 3],
    /// How it is stored, in any of the layers.
    pub types: Vec<&'static str>,
}

/// Layers that are made alike.
#[derive(Debug, Serialize)]
pub struct LayerKind {
    /// Which.
    pub layers: Vec<usize>,
    /// What their attention keeps; none where they have none, or where that cannot be told.
    pub attention: Option<AttentionFacts>,
    /// What they are made of.
    pub blocks: Vec<Block>,
}

/// What attention looks at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AttentionFacts {
    /// `multi-head`, `grouped-query`, `multi-query`, `latent`.
    pub kind: &'static str,
    /// Heads of queries, where the configuration says one number.
    pub query_heads: Option<u64>,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a key.
    pub k_dim: usize,
    /// Width of a value; none where it is part of the key.
    pub v_dim: Option<usize>,
    /// How far back it sees; none for all.
    pub window: Option<usize>,
    /// Bytes that one token takes in an f16 cache of one layer.
    pub kv_bytes_per_token_f16: usize,
}

/// One layer.
#[derive(Debug, Serialize)]
pub struct LayerFacts {
    /// From 0.
    pub layer: usize,
    /// How much.
    #[serde(flatten)]
    pub amount: Amount,
    /// By part.
    pub parts: BTreeMap<Part, Amount>,
    /// Bytes by how they are stored.
    pub types: BTreeMap<&'static str, u64>,
}

/// The cache at a context.
#[derive(Debug, Serialize)]
pub struct CachePoint {
    /// Tokens.
    pub ctx: usize,
    /// Bytes as f16.
    pub f16: u64,
    /// Bytes as f32.
    pub f32: u64,
    /// Bytes as q8.
    pub q8: u64,
}

/// The layer that a weight's name says it is of, and the rest of the name.
pub fn layer_of(name: &str, layers: usize) -> (Option<usize>, String) {
    let parts: Vec<&str> = name.split('.').collect();
    let at = parts.iter().position(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    match at.and_then(|at| Some((at, parts[at].parse::<usize>().ok()?))) {
        Some((at, n)) if n < layers => (Some(n), parts[at + 1..].join(".")),
        _ => (None, name.to_string()),
    }
}

/// What a weight is for, from its name without the layer, its shape, and whether it is in a layer.
pub fn part_of(role: &str, shape: [usize; 3], in_layer: bool) -> Part {
    let lower = role.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| lower.contains(w));
    let segment = |s: &str| lower.split('.').any(|p| p == s);
    let norm = has(&["norm"]) || lower.split('.').any(|p| p.starts_with("ln_") || p.starts_with("ln"));
    if !in_layer {
        return match () {
            () if norm => Part::Norm,
            () if has(&["embd", "embed", "wte", "wpe", "token_types", "positions"]) && !has(&["embed_out"]) => {
                Part::Embedding
            }
            () if has(&["lm_head", "embed_out", "classifier", "score"]) || segment("output") => Part::Head,
            () => Part::Other,
        };
    }
    let attention = has(&["attn", "attention", "indexer"]) && !has(&["linear_attn", "linear_attention"]);
    // `attn_norm` and `post_attention_layernorm` stand around attention, `attn_q_norm` and `self_attn.q_norm` in it.
    let around = norm
        && !lower.split('.').rev().skip(1).any(|p| ["self_attn", "attn", "attention", "self_attention"].contains(&p))
        && !has(&["q_norm", "k_norm", "kv_a_norm", "q_a_norm", "sub_norm"]);
    match () {
        () if has(&["shexp", "shared_expert", "shared_mlp"]) => Part::SharedExperts,
        () if has(&["router", "gate_inp", "exp_probs", "e_score"])
            || segment("gate") && has(&["mlp.", "moe.", "feed_forward."]) && !has(&["experts"]) && shape[0] == 1 =>
        {
            Part::Router
        }
        () if has(&["expert", "_exps"]) => Part::Experts,
        () if has(&["mamba", "ssm", "linear_attn", "mixer", "conv", "time_mix", "delta", "lightning"]) && !around
            || has(&["ssm_norm"]) =>
        {
            Part::Recurrent
        }
        () if attention && !around => Part::Attention,
        () if norm => Part::Norm,
        () if has(&["mlp", "ffn", "feed_forward", "fc1", "fc2", "intermediate", "output.dense", "wi", "wo"]) => {
            Part::Mlp
        }
        () if has(&["q_proj", "k_proj", "v_proj", "o_proj", "qkv", "query", "wq", "wk", "wv"]) => Part::Attention,
        () => Part::Other,
    }
}

impl Architecture {
    /// What `model` is made of; `config` is its configuration as `config.json` spells it.
    pub fn of(model: &Model, config: &Map<String, Value>, ctx: usize) -> Architecture {
        let d = model.description();
        let mut outside: Vec<(Part, &Listed, String)> = Vec::new();
        let mut inside: BTreeMap<usize, Vec<(Part, &Listed, String)>> = BTreeMap::new();
        for t in &d.tensors {
            let (layer, role) = layer_of(&t.name, d.num_hidden_layers);
            let part = part_of(&role, t.shape, layer.is_some());
            match layer {
                Some(n) => inside.entry(n).or_default().push((part, t, role)),
                None => outside.push((part, t, role)),
            }
        }
        let (before, after): (Vec<_>, Vec<_>) =
            outside.into_iter().partition(|(part, _, role)| *part == Part::Embedding || role.contains("embed"));
        let caches = by_layer(model.caches(), &inside);
        Architecture {
            tied_embeddings: !after.iter().any(|(part, ..)| *part == Part::Head) && !model.is_encoder(),
            positions: positions(config),
            parts: parts(inside.values().flatten().chain(&before).chain(&after)),
            layer_kinds: kinds(&inside, &caches, config, d),
            layers: inside.iter().map(|(layer, all)| layer_facts(*layer, all)).collect(),
            before: blocks(&before, None, config, d),
            after: blocks(&after, None, config, d),
            cache: cache(model.caches(), ctx.max(d.max_position_embeddings)),
        }
    }
}

type Named<'a> = (Part, &'a Listed, String);

fn parts<'a>(all: impl Iterator<Item = &'a Named<'a>>) -> Vec<PartFacts> {
    let mut parts: BTreeMap<Part, PartFacts> = BTreeMap::new();
    for (part, t, _) in all {
        let facts = parts.entry(*part).or_insert(PartFacts { part: *part, tensors: 0, amount: Amount::default() });
        facts.tensors += 1;
        facts.amount.add(t);
    }
    parts.into_values().collect()
}

fn layer_facts(layer: usize, all: &[Named<'_>]) -> LayerFacts {
    let mut facts = LayerFacts { layer, amount: Amount::default(), parts: BTreeMap::new(), types: BTreeMap::new() };
    for (part, t, _) in all {
        facts.amount.add(t);
        facts.parts.entry(*part).or_default().add(t);
        let bytes = facts.types.entry(t.format).or_default();
        *bytes = bytes.saturating_add(t.bytes);
    }
    facts
}

/// The cache of each layer: one a layer, or one for each layer that has attention. Empty where neither counts out.
fn by_layer(caches: &[CacheSpec], inside: &BTreeMap<usize, Vec<Named<'_>>>) -> BTreeMap<usize, CacheSpec> {
    let attend = |all: &[Named<'_>]| all.iter().any(|(part, ..)| *part == Part::Attention);
    let with: Vec<usize> = inside.iter().filter(|(_, all)| attend(all)).map(|(n, _)| *n).collect();
    let all: Vec<usize> = inside.keys().copied().collect();
    match caches.len() {
        n if n == with.len() => with.into_iter().zip(caches.iter().copied()).collect(),
        n if n == all.len() => all.into_iter().zip(caches.iter().copied()).collect(),
        _ => BTreeMap::new(),
    }
}

fn kinds(
    inside: &BTreeMap<usize, Vec<Named<'_>>>,
    caches: &BTreeMap<usize, CacheSpec>,
    config: &Map<String, Value>,
    d: &Description,
) -> Vec<LayerKind> {
    let mut numbers = HashMap::new();
    let mut found: Vec<(Option<CacheSpec>, Vec<usize>)> = Vec::new();
    for (layer, all) in inside {
        let spec = caches.get(layer).copied();
        let made: Vec<(&str, [usize; 3])> = all.iter().map(|(_, t, role)| (role.as_str(), t.shape)).collect();
        let number = *numbers.entry((made, spec.map(|c| (c.width(), c.k_dim, c.window)))).or_insert(found.len());
        match found.get_mut(number) {
            Some((_, layers)) => layers.push(*layer),
            None => found.push((spec, vec![*layer])),
        }
    }
    found
        .into_iter()
        .map(|(spec, layers)| {
            let attention = spec.map(|c| attention(&c, config));
            let first = layers.first().and_then(|n| inside.get(n)).map_or(&[][..], Vec::as_slice);
            let mut blocks = blocks(first, attention.as_ref(), config, d);
            // The same weight may be stored in another way in another layer.
            for (i, (_, _, role)) in first.iter().enumerate() {
                let mut types: Vec<&'static str> = Vec::new();
                for t in layers.iter().filter_map(|n| Some(inside.get(n)?.get(i)?.1)) {
                    if !types.contains(&t.format) {
                        types.push(t.format);
                    }
                }
                if let Some(t) = blocks.iter_mut().flat_map(|b| &mut b.tensors).find(|t| t.name == *role) {
                    t.types = types;
                }
            }
            LayerKind { layers, attention, blocks }
        })
        .collect()
}

fn attention(c: &CacheSpec, config: &Map<String, Value>) -> AttentionFacts {
    let query_heads = ["num_attention_heads", "n_head", "num_heads"].iter().find_map(|k| config.get(*k)?.as_u64());
    let kv = c.kv_heads as u64;
    let kind = match query_heads {
        _ if c.v_dim.is_none() => "latent",
        Some(q) if kv == 1 && q > 1 => "multi-query",
        Some(q) if kv < q => "grouped-query",
        _ => "multi-head",
    };
    AttentionFacts {
        kind,
        query_heads,
        kv_heads: c.kv_heads,
        k_dim: c.k_dim,
        v_dim: c.v_dim,
        window: c.window,
        kv_bytes_per_token_f16: c.bytes(KvType::F16),
    }
}

/// The weights of a part make a block. Families name their weights in no order of computation, so that blocks stand in
/// that of [`Part`].
fn blocks(
    all: &[Named<'_>],
    attention: Option<&AttentionFacts>,
    config: &Map<String, Value>,
    d: &Description,
) -> Vec<Block> {
    let mut by: BTreeMap<Part, Vec<&Named<'_>>> = BTreeMap::new();
    for named in all {
        by.entry(named.0).or_default().push(named);
    }
    by.into_iter()
        .map(|(part, run)| {
            let mut amount = Amount::default();
            run.iter().for_each(|(_, t, _)| amount.add(t));
            let tensors = run
                .iter()
                .map(|(_, t, role)| BlockTensor { name: role.clone(), shape: t.shape, types: vec![t.format] })
                .collect();
            Block { part, text: text(part, &run, attention, config, d), amount, tensors }
        })
        .collect()
}

/// What a block does, in a line.
fn text(
    part: Part,
    run: &[&Named<'_>],
    attention: Option<&AttentionFacts>,
    config: &Map<String, Value>,
    d: &Description,
) -> String {
    let matrices: Vec<[usize; 3]> = run.iter().map(|r| r.1.shape).filter(|s| s[1] > 1 && s[2] > 1).collect();
    // The last matrix leads back to the stream; its input is the inner width.
    let inner = matrices.last().map_or(0, |s| s[2]);
    let word = |keys: &[&str]| keys.iter().find_map(|k| config.get(*k)?.as_str()).unwrap_or("").to_string();
    let act = word(&["hidden_act", "hidden_activation", "activation_function", "activation", "mlp_hidden_act"]);
    let act = if act.is_empty() { String::new() } else { format!(", {act}") };
    let gated = if run.iter().any(|r| r.2.contains("gate") || r.2.contains("w3")) { "gated " } else { "" };
    let through = format!("{gated}{} → {inner} → {}{act}", d.hidden_size, d.hidden_size);
    match part {
        Part::Attention => attention.map_or_else(String::new, attention_text),
        Part::Mlp | Part::SharedExperts if inner > 0 => through,
        Part::Experts => {
            let (experts, chosen) = d.experts.unwrap_or((matrices.first().map_or(0, |s| s[0]), 0));
            format!("{experts}, {chosen} per token, each {through}")
        }
        Part::Embedding | Part::Head | Part::Router if !matrices.is_empty() => {
            let of = |s: &[usize; 3]| {
                let (from, to) = if part == Part::Embedding { (s[1], s[2]) } else { (s[2], s[1]) };
                format!("{from} → {to}")
            };
            matrices.iter().map(of).collect::<Vec<_>>().join(", ")
        }
        Part::Norm => run.iter().map(|r| r.2.trim_end_matches(".weight").to_string()).collect::<Vec<_>>().join(", "),
        _ => matrices.iter().map(|s| format!("{} × {}", s[1], s[2])).collect::<Vec<_>>().join(", "),
    }
}

fn attention_text(a: &AttentionFacts) -> String {
    let heads = match (a.kind, a.query_heads) {
        ("latent", Some(q)) => format!("latent: {q} heads share keys and values of width {}", a.k_dim),
        ("latent", None) => format!("latent: keys and values of width {}", a.k_dim),
        ("multi-head", _) => format!("multi-head: {} heads of {}", a.kv_heads, widths(a)),
        (kind, Some(q)) => {
            let s = if a.kv_heads == 1 { "" } else { "s" };
            format!("{kind}: {q} heads, {} head{s} of keys and values of {}", a.kv_heads, widths(a))
        }
        (kind, None) => format!("{kind}: {} heads of {}", a.kv_heads, widths(a)),
    };
    match a.window {
        Some(w) => format!("{heads}, sees {w} positions"),
        None => heads,
    }
}

fn widths(a: &AttentionFacts) -> String {
    match a.v_dim {
        Some(v) if v != a.k_dim => format!("{} and {v}", a.k_dim),
        _ => a.k_dim.to_string(),
    }
}

/// `rotary, θ 500000, llama3 ×8`.
fn positions(config: &Map<String, Value>) -> String {
    let number = |m: &Map<String, Value>, k: &str| m.get(k).filter(|v| v.is_number()).map(ToString::to_string);
    let empty = Map::new();
    let nested = |k: &str| config.get(k).and_then(Value::as_object);
    let scaling = nested("rope_scaling").or_else(|| nested("rope_parameters")).unwrap_or(&empty);
    let Some(theta) = number(config, "rope_theta").or_else(|| number(scaling, "rope_theta")) else {
        return String::new();
    };
    let mut text = format!("rotary, θ {}", theta.trim_end_matches(".0"));
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str);
    if let Some(kind) = kind.filter(|k| *k != "default") {
        text += &format!(", {kind}");
        if let Some(factor) = number(scaling, "factor") {
            text += &format!(" ×{}", factor.trim_end_matches(".0"));
        }
    }
    text
}

/// Powers of two from some way below the longest context up to it, and that.
fn cache(caches: &[CacheSpec], longest: usize) -> Vec<CachePoint> {
    let mut points: Vec<usize> =
        (5..usize::BITS - 1).map(|e| 1usize << e).filter(|n| longest / n <= 256).take_while(|n| *n < longest).collect();
    points.push(longest);
    let at = |ctx: usize, kv| Description::kv_bytes(caches, ctx, kv);
    points
        .into_iter()
        .map(|ctx| CachePoint { ctx, f16: at(ctx, KvType::F16), f32: at(ctx, KvType::F32), q8: at(ctx, KvType::Q8) })
        .collect()
}

/// `0–3, 5, 7–9`.
pub fn ranges(layers: &[usize]) -> String {
    let mut out: Vec<String> = Vec::new();
    for run in layers.chunk_by(|a, b| a + 1 == *b) {
        match run {
            [one] => out.push(one.to_string()),
            [first, .., last] => out.push(format!("{first}–{last}")),
            [] => {}
        }
    }
    out.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use pondera_arch::{FAMILIES, Shape, Source};

    #[test]
    fn names_of_both_conventions_mean_the_same_parts() {
        let one = [1, 64, 64];
        for (hf, gguf, want) in [
            ("input_layernorm.weight", "attn_norm.weight", Part::Norm),
            ("self_attn.q_proj.weight", "attn_q.weight", Part::Attention),
            ("self_attn.q_norm.weight", "attn_q_norm.weight", Part::Attention),
            ("post_attention_layernorm.weight", "ffn_norm.weight", Part::Norm),
            ("mlp.gate_proj.weight", "ffn_gate.weight", Part::Mlp),
            ("mlp.gate.weight", "ffn_gate_inp.weight", Part::Router),
            ("mlp.experts", "ffn_gate_exps.weight", Part::Experts),
            ("mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight", Part::SharedExperts),
            ("mamba.in_proj.weight", "ssm_in.weight", Part::Recurrent),
        ] {
            assert_eq!(part_of(hf, one, true), want, "{hf}");
            assert_eq!(part_of(gguf, one, true), want, "{gguf}");
        }
        for (name, want) in [
            ("model.embed_tokens.weight", Part::Embedding),
            ("token_embd.weight", Part::Embedding),
            ("output.weight", Part::Head),
            ("lm_head.weight", Part::Head),
            ("output_norm.weight", Part::Norm),
            ("model.norm.weight", Part::Norm),
        ] {
            assert_eq!(part_of(name, one, false), want, "{name}");
        }
    }

    #[test]
    fn layers_are_found_in_names() {
        assert_eq!(layer_of("model.layers.12.mlp.up_proj.weight", 80), (Some(12), "mlp.up_proj.weight".into()));
        assert_eq!(layer_of("blk.3.attn_q.weight", 4), (Some(3), "attn_q.weight".into()));
        assert_eq!(layer_of("model.layers.61.eh_proj.weight", 61).0, None);
        assert_eq!(layer_of("lm_head.weight", 61).0, None);
        assert_eq!(ranges(&[0, 1, 2, 4, 6, 7]), "0–2, 4, 6–7");
    }

    #[test]
    fn every_familys_weights_find_a_part_and_their_sums_are_the_models() {
        let mut seen = 0;
        for family in FAMILIES {
            // Some configurations have no default that makes a whole model.
            let Ok(config) = family.example() else { continue };
            let Ok(model) = Model::load(&config, &Source::Describe) else { continue };
            seen += 1;
            let (a, d) = (Architecture::of(&model, config.keys(), 1024), model.description());
            let total: u64 = a.parts.iter().map(|p| p.amount.parameters).sum();
            assert_eq!(total, d.parameters_total, "{}", family.model_type);
            let layers: u64 = a.layers.iter().map(|l| l.amount.parameters).sum();
            let outside: u64 = a.before.iter().chain(&a.after).map(|b| b.amount.parameters).sum();
            assert_eq!(layers + outside, total, "{}", family.model_type);
            assert_eq!(a.layers.len(), d.num_hidden_layers, "{}", family.model_type);
            assert_eq!(a.layer_kinds.iter().map(|k| k.layers.len()).sum::<usize>(), a.layers.len());
            // What has no place is little: biases, scalars.
            let other = a.parts.iter().find(|p| p.part == Part::Other).map_or(0, |p| p.amount.parameters);
            assert!(other * 50 <= total, "{}: {other} of {total} are `other`", family.model_type);
            assert!(!a.before.is_empty(), "{}", family.model_type);
            assert_eq!(d.experts.is_some(), a.parts.iter().any(|p| p.part == Part::Experts), "{}", family.model_type);
        }
        assert!(seen * 10 > FAMILIES.len() * 9, "{seen} of {}", FAMILIES.len());
    }

    #[test]
    fn attention_is_told_by_its_heads() {
        let of = |name: &str| {
            let config = Shape::find(name).and_then(|s| s.config(None)).unwrap();
            let model = Model::load(&config, &Source::Describe).unwrap();
            Architecture::of(&model, config.keys(), 1024)
        };
        let llama = of("llama-3.1-8b");
        assert_eq!(llama.layer_kinds.len(), 1);
        let a = llama.layer_kinds[0].attention.clone().unwrap();
        assert_eq!((a.kind, a.query_heads, a.kv_heads, a.k_dim), ("grouped-query", Some(32), 8, 128));
        assert_eq!(llama.positions, "rotary, θ 500000, llama3 ×8");
        assert!(!llama.tied_embeddings && of("qwen3-0.6b").tied_embeddings);
        let v2 = of("deepseek-v2-lite");
        assert_eq!(v2.layer_kinds.iter().map(|k| ranges(&k.layers)).collect::<Vec<_>>(), ["0", "1–26"]);
        assert_eq!(v2.layer_kinds[0].attention.as_ref().unwrap().kind, "latent");
        let moe = of("qwen3-30b-a3b");
        let experts = moe.layer_kinds[0].blocks.iter().find(|b| b.part == Part::Experts).unwrap();
        assert!(experts.text.starts_with("128, 8 per token, each gated 2048 → 768 → 2048"), "{}", experts.text);
    }
}
