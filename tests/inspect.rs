//! `inspect` of repositories on a hub, of values, and of what a quantization lost.
#[path = "../crates/store/tests/hub/mod.rs"]
mod hub;
mod support;

use hub::{Fault, Hub, Repo, repo};
use pondera::{
    quant::Format,
    weights::{
        TensorSpec,
        gguf::{self, Meta},
        safetensors,
    },
};
use serde_json::json;
use std::{collections::BTreeMap, fs, time::Instant};
use support::{Folder, Ran, command, run, write_gguf, write_repository};

/// The binary against this hub, with the folder as home.
fn inspect(hub: &Hub, folder: &Folder, args: &[&str]) -> Ran {
    let mut c = command(folder.path(), &["inspect"]);
    c.args(args).env("HF_ENDPOINT", &hub.address).env("TMPDIR", folder.path()).output().unwrap().into()
}

const LAYERS: usize = 80;
const HIDDEN: usize = 8192;
const INNER: usize = 28672;
const VOCAB: usize = 128_256;
/// Weights of Llama 3 70B, as its card rounds them: 70.6 billion.
const PARAMETERS: u64 = 70_553_706_496;

/// The tensors of Llama 3 70B under a repository's names, or under GGUF's.
fn llama_70b(gguf: bool, matrix: Format, norm: Format) -> Vec<TensorSpec> {
    let spec = |hf: String, gg: String, format, shape: &[usize]| {
        TensorSpec::new(format!("{}.weight", if gguf { gg } else { hf }), format, shape)
    };
    let mut all = vec![spec("model.embed_tokens".into(), "token_embd".into(), matrix, &[VOCAB, HIDDEN])];
    for i in 0..LAYERS {
        let (hf, gg) = (format!("model.layers.{i}"), format!("blk.{i}"));
        let rows: [(&str, &str, &[usize]); 9] = [
            ("input_layernorm", "attn_norm", &[HIDDEN]),
            ("self_attn.q_proj", "attn_q", &[HIDDEN, HIDDEN]),
            ("self_attn.k_proj", "attn_k", &[1024, HIDDEN]),
            ("self_attn.v_proj", "attn_v", &[1024, HIDDEN]),
            ("self_attn.o_proj", "attn_output", &[HIDDEN, HIDDEN]),
            ("post_attention_layernorm", "ffn_norm", &[HIDDEN]),
            ("mlp.gate_proj", "ffn_gate", &[INNER, HIDDEN]),
            ("mlp.up_proj", "ffn_up", &[INNER, HIDDEN]),
            ("mlp.down_proj", "ffn_down", &[HIDDEN, INNER]),
        ];
        for (h, g, shape) in rows {
            let format = if shape.len() == 1 { norm } else { matrix };
            all.push(spec(format!("{hf}.{h}"), format!("{gg}.{g}"), format, shape));
        }
    }
    all.push(spec("model.norm".into(), "output_norm".into(), norm, &[HIDDEN]));
    all.push(spec("lm_head".into(), "output".into(), matrix, &[VOCAB, HIDDEN]));
    all
}

/// A repository of 30 shards whose weights are nowhere: headers, index, configuration, vocabulary.
fn sharded(folder: &Folder) -> Repo {
    let all = llama_70b(false, Format::BF16, Format::BF16);
    let (mut files, mut lengths, mut map) = (Vec::new(), BTreeMap::new(), serde_json::Map::new());
    for (i, shard) in (0..30).map(|i| (i, &all[i * all.len() / 30..(i + 1) * all.len() / 30])) {
        let name = format!("model-{:05}-of-00030.safetensors", i + 1);
        // What a writer holds before the first tensor: length and header.
        let mut head = Vec::new();
        safetensors::Writer::new(&mut head, &[("format", "pt")], shard).map(|_| ()).unwrap();
        let data: usize = shard.iter().map(|t| t.bytes().unwrap()).sum();
        lengths.insert(name.clone(), (head.len() + data) as u64);
        map.extend(shard.iter().map(|t| (t.name.clone(), json!(name))));
        files.push((name, head));
    }
    assert_eq!((files.len(), map.len()), (30, 723));
    let total: u64 = lengths.values().sum();
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    files.push(("model.safetensors.index.json".into(), index.to_string().into_bytes()));
    let config = json!({ "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCAB, "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": 64, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 8192, "torch_dtype": "bfloat16",
        "tie_word_embeddings": false, "hidden_act": "silu" });
    files.push(("config.json".into(), config.to_string().into_bytes()));
    files.push(("README.md".into(), b"---\nlicense: apache-2.0\n---\n# A model\n".to_vec()));
    files.push(("LICENSE".into(), vec![b'x'; 9000]));
    write_repository(folder, "words");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        files.push((name.into(), fs::read(folder.join("words").join(name)).unwrap()));
    }
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    Repo { lengths, ..repo(&files) }
}

#[test]
fn a_sharded_70b_shape_is_described_from_its_headers() {
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/large", sharded(&folder));
    let begun = Instant::now();
    let ran = inspect(&hub, &folder, &["org/large", "--ctx", "8192", "--json"]);
    let seconds = begun.elapsed().as_secs_f64();
    let r = ran.json();
    assert!(hub.body_bytes() < 10_000_000, "{} bytes were served", hub.body_bytes());
    assert!(seconds < 2.0, "{seconds} s");
    eprintln!("{} bytes, {} requests, {seconds:.2} s", hub.body_bytes(), hub.log().len());
    let read = r["remote"]["bytes_read"].as_u64().unwrap();
    // The hub counts a moment after bytes are here.
    let counted = (0..200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        hub.body_bytes() == read
    });
    assert!(counted, "{read} of {}", hub.body_bytes());
    assert!(hub.log().iter().all(|q| !q.path.ends_with("LICENSE")));
    assert_eq!((&r["kind"], &r["license"]), (&json!("safetensors"), &json!("Apache-2.0")));
    assert_eq!(r["files"].as_array().unwrap().len(), 36);
    assert_eq!(r["tensors"]["count"], 723);
    assert_eq!(r["tensors"]["bytes"], PARAMETERS * 2);
    let m = &r["model"];
    assert_eq!(
        (&m["family"], &m["parameters_total"], &m["parameters_active"]),
        (&json!("llama"), &json!(PARAMETERS), &json!(PARAMETERS))
    );
    // 80 layers, 8 heads of 128, keys and values, two bytes each.
    assert_eq!(m["memory"]["kv_bytes_per_token_f16"], 80 * 8 * 128 * 2 * 2);
    assert_eq!(m["memory"]["total_f16"], PARAMETERS * 2 + 80 * 8 * 128 * 2 * 2 * 8192);
    let a = &m["architecture"];
    assert_eq!(a["layer_kinds"].as_array().unwrap().len(), 1);
    assert_eq!(a["layer_kinds"][0]["attention"]["kind"], "grouped-query");
    assert_eq!((a["layers"].as_array().unwrap().len(), &a["tied_embeddings"]), (80, &json!(false)));
    assert_eq!(r["tokenizer"]["special"][0]["text"], "<s>");
    // Nothing stays, and no path of the reader's machine is told.
    assert!(!ran.out.contains("pondera-inspect"));
    let left = fs::read_dir(folder.path())
        .unwrap()
        .flatten()
        .any(|e| e.file_name().to_string_lossy().starts_with("pondera-inspect"));
    assert!(!left);
    let page = inspect(&hub, &folder, &["org/large", "--html", "page.html"]);
    assert!(page.code == 0 && page.out.contains("80 layers: 0–79"), "{page:?}");
    assert!(fs::read_to_string(folder.join("page.html")).unwrap().contains("80 × layers"));
    let refused = inspect(&hub, &folder, &["org/large", "--histograms"]);
    assert!(refused.code == 2 && refused.err.contains("pondera pull org/large"), "{refused:?}");
}

/// A split set of three whose first file has a vocabulary as long as Llama 3's.
fn split() -> Repo {
    let all = llama_70b(true, Format::Q8_0, Format::F32);
    let words: Vec<String> = (0..VOCAB).map(|i| format!("token-of-some-length-{i:030}")).collect();
    let u = |n: usize| Meta::U32(n as u32);
    let own = [
        ("general.architecture", Meta::from("llama")),
        ("general.license", Meta::from("apache-2.0")),
        ("llama.block_count", u(LAYERS)),
        ("llama.context_length", u(8192)),
        ("llama.embedding_length", u(HIDDEN)),
        ("llama.feed_forward_length", u(INNER)),
        ("llama.attention.head_count", u(64)),
        ("llama.attention.head_count_kv", u(8)),
        ("llama.attention.layer_norm_rms_epsilon", Meta::F32(1e-5)),
        ("llama.rope.freq_base", Meta::F32(500_000.0)),
        ("llama.vocab_size", u(VOCAB)),
        ("tokenizer.ggml.model", Meta::from("gpt2")),
        ("tokenizer.ggml.pre", Meta::from("llama-bpe")),
        ("tokenizer.ggml.tokens", Meta::Strings(words)),
        ("tokenizer.ggml.token_type", Meta::I32s(vec![1; VOCAB])),
        ("tokenizer.ggml.merges", Meta::Strings(Vec::new())),
    ];
    let (mut files, mut lengths) = (Vec::new(), BTreeMap::new());
    for (i, shard) in all.chunks(all.len().div_ceil(3)).enumerate() {
        let mut metadata = if i == 0 { own.to_vec() } else { Vec::new() };
        metadata.push(("split.no", Meta::U16(i as u16)));
        metadata.push(("split.count", Meta::U16(3)));
        metadata.push(("split.tensors.count", Meta::I32(all.len() as i32)));
        let mut head = Vec::new();
        gguf::Writer::new(&mut head, &metadata, shard).map(|_| ()).unwrap();
        let aligned = |n: usize| n.next_multiple_of(32) as u64;
        let name = format!("m-Q8_0-{:05}-of-00003.gguf", i + 1);
        let data: u64 = shard.iter().map(|t| aligned(t.bytes().unwrap())).sum();
        lengths.insert(name.clone(), aligned(head.len()) + data);
        files.push((name, head));
    }
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(n, b)| (n.as_str(), b.clone())).collect();
    Repo { lengths, ..repo(&files) }
}

#[test]
fn a_split_gguf_is_described_from_its_headers() {
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/split", split());
    let begun = Instant::now();
    let ran = inspect(&hub, &folder, &["org/split:q8_0", "--json"]);
    let seconds = begun.elapsed().as_secs_f64();
    let r = ran.json();
    eprintln!("{} bytes, {} requests, {seconds:.2} s", hub.body_bytes(), hub.log().len());
    assert!(hub.body_bytes() < 16_000_000, "{} bytes were served", hub.body_bytes());
    assert!(seconds < 3.0, "{seconds} s");
    assert_eq!(
        (&r["kind"], &r["tensors"]["count"], &r["license"]),
        (&json!("gguf"), &json!(723), &json!("Apache-2.0"))
    );
    assert_eq!(r["model"]["parameters_total"], PARAMETERS);
    assert_eq!(r["tensors"]["types"][0]["type"], "Q8_0");
    assert_eq!(r["files"].as_array().unwrap().len(), 3);
}

#[test]
fn hostile_headers_end_in_an_error_and_not_in_a_download() {
    let folder = Folder::new();
    let long = |head: Vec<u8>, name: &str| {
        let config = br#"{"model_type": "llama"}"#.to_vec();
        Repo { lengths: [(name.to_string(), 1 << 42)].into(), ..repo(&[("config.json", config), (name, head)]) }
    };
    let mut gguf = b"GGUF\x03\0\0\0".to_vec();
    gguf.extend((1u64 << 60).to_le_bytes());
    gguf.extend(2u64.to_le_bytes());
    let mut key = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0".to_vec();
    key.extend((1u64 << 63).to_le_bytes());
    let mut array = b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0a\x09\0\0\0\x08\0\0\0".to_vec();
    array.extend((1u64 << 33).to_le_bytes());
    for (name, head) in [
        ("model.safetensors", (1u64 << 63).to_le_bytes().to_vec()),
        ("model.safetensors", 90_000_000u64.to_le_bytes().to_vec()),
        ("model.safetensors", [&2u64.to_le_bytes()[..], b"{}"].concat()),
        ("model.safetensors", Vec::new()),
        ("m.gguf", gguf),
        ("m.gguf", key),
        ("m.gguf", Vec::new()),
        ("m.gguf", b"GGUF\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
    ] {
        let hub = Hub::new();
        hub.put("org/m", long(head.clone(), name));
        let ran = inspect(&hub, &folder, &["org/m"]);
        let sound = head.starts_with(b"GGUF") && head[8..] == [0; 16];
        assert_eq!(ran.code, if sound { 0 } else { 3 }, "{head:?}: {ran:?}");
        assert!(sound || ran.err.contains(name) && ran.err.contains("hint: "), "{ran:?}");
        assert!(!ran.err.contains("pondera-inspect"), "{ran:?}");
        assert!(hub.body_bytes() < 100_000_000, "{}", hub.body_bytes());
    }
    // An array of strings that goes on for ever is read up to a bound.
    let hub = Hub::new();
    hub.put("org/m", long(array, "m.gguf"));
    let ran = inspect(&hub, &folder, &["org/m"]);
    assert!(ran.code == 3 && ran.err.contains("64 MiB"), "{ran:?}");
}

#[test]
fn a_short_name_is_read_from_the_hub_too() {
    let (hub, folder) = (Hub::new(), Folder::new());
    write_gguf(&folder, "m.gguf", Format::F32);
    let model = fs::read(folder.join("m.gguf")).unwrap();
    hub.put("meta-llama/Llama-3.2-1B-Instruct", repo(&[("m-F32.gguf", model)]));
    for args in [&["llama3.2:1b", "--json"][..], &["llama3.2:1b", "--remote", "--json"]] {
        let ran = inspect(&hub, &folder, args);
        assert_eq!(ran.json()["remote"]["reference"], "meta-llama/Llama-3.2-1B-Instruct");
        assert!(ran.err.contains("llama3.2:1b is meta-llama/"), "{ran:?}");
    }
    // What has that name here is meant before it.
    fs::create_dir_all(folder.join("named")).unwrap();
    fs::copy(folder.join("m.gguf"), folder.join("named/llama3.2:1b.gguf")).unwrap();
    hub.forget();
    let here = inspect(&hub, &folder, &["llama3.2:1b", "--store", "named", "--json"]).json();
    assert!(here["remote"].is_null() && hub.log().is_empty(), "{here}");
}

#[test]
fn what_is_here_is_not_asked_for_and_offline_nothing_is() {
    let (hub, folder) = (Hub::new(), Folder::new());
    write_gguf(&folder, "m.gguf", Format::F32);
    hub.put("org/m", repo(&[("m-F32.gguf", fs::read(folder.join("m.gguf")).unwrap())]));
    let afar = inspect(&hub, &folder, &["org/m", "--json"]).json();
    assert_eq!(afar["remote"]["reference"], "org/m");
    hub.forget();
    for args in [&["org/m", "--offline"][..], &["org/m", "--remote", "--offline"]] {
        let off = inspect(&hub, &folder, args);
        assert!(off.code != 0 && off.err.contains("hint: "), "{off:?}");
    }
    assert!(hub.log().is_empty());
    let mut pull = command(folder.path(), &["pull", "org/m"]);
    assert!(pull.env("HF_ENDPOINT", &hub.address).output().unwrap().status.success());
    hub.forget();
    let here = inspect(&hub, &folder, &["org/m", "--json"]).json();
    assert!(here["remote"].is_null() && hub.log().is_empty());
    assert_eq!(here["model"], afar["model"]);
    assert_eq!(
        (&here["tensors"], &here["tokenizer"], &here["chat_template"]),
        (&afar["tensors"], &afar["tokenizer"], &afar["chat_template"])
    );
    assert_eq!(inspect(&hub, &folder, &["org/m", "--remote", "--json"]).json()["remote"]["reference"], "org/m");
    assert!(!hub.log().is_empty());
    assert_eq!(inspect(&hub, &folder, &["m.gguf", "--remote"]).code, 2);
    let none = inspect(&hub, &folder, &["org/nothing"]);
    assert!(none.code == 1 && none.err.contains("no such repository"), "{none:?}");
}

#[test]
fn pytorch_files_afar_are_described_by_their_configuration() {
    let (hub, folder) = (Hub::new(), Folder::new());
    write_repository(&folder, "llama");
    let read = |n: &str| fs::read(folder.join("llama").join(n)).unwrap();
    let files = [("config.json", read("config.json")), ("pytorch_model.bin", hub::bytes(1, 100_000))];
    hub.put("org/old", repo(&files));
    let r = inspect(&hub, &folder, &["org/old", "--json"]).json();
    assert_eq!((&r["kind"], &r["model"]["family"], &r["tensors"]), (&json!("pytorch"), &json!("llama"), &json!(null)));
    assert!(r["not_runnable"].as_str().unwrap().contains("PyTorch"), "{r}");
    assert!(hub.body_bytes() < 10_000);
}

#[test]
fn a_server_without_ranges_is_no_obstacle() {
    let (hub, folder) = (Hub::new(), Folder::new());
    hub.put("org/large", sharded(&folder));
    hub.hook(|r| r.away.then_some(Fault::IgnoreRange));
    let r = inspect(&hub, &folder, &["org/large", "--json"]).json();
    assert_eq!(r["model"]["parameters_total"], PARAMETERS);
    assert!(r["remote"]["bytes_read"].as_u64().unwrap() < 10_000_000, "{}", r["remote"]);
}

#[test]
fn values_and_errors_are_those_of_the_weights() {
    let folder = Folder::new();
    write_repository(&folder, "llama");
    write_gguf(&folder, "f32.gguf", Format::F32);
    assert_eq!(run(folder.path(), &["convert", "llama", "half", "--type", "bf16"]).code, 0);
    // The same values under other names in another container.
    let same = run(folder.path(), &["inspect", "f32.gguf", "--against", "llama", "--json"]).json();
    let c = &same["comparison"];
    assert_eq!((&c["relative_rms"], c["tensors"].as_array().unwrap().len()), (&json!(0.0), 16));
    assert_eq!((&c["unmatched"], &c["tensors"][0]["original"]), (&json!([]), &json!("model.embed_tokens.weight")));
    let half = run(folder.path(), &["inspect", "half", "--against", "llama", "--json"]).json();
    let c = &half["comparison"];
    // Rounding to eight bits of fraction: at most 2^-9 of a value, uniformly spread.
    let error = c["relative_rms"].as_f64().unwrap();
    assert!((5e-4..2e-3).contains(&error), "{error}");
    assert_eq!(c["layers"].as_array().unwrap().len(), 3);
    let v = run(folder.path(), &["inspect", "llama", "--histograms", "--json"]).json();
    let v = &v["values"];
    assert_eq!((v["tensors"].as_array().unwrap().len(), v["histograms"].as_array().unwrap().len()), (21, 3));
    for h in v["histograms"].as_array().unwrap() {
        let sum = |k: &str| h[k].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).sum::<u64>();
        let of = v["tensors"].as_array().unwrap().iter().filter(|t| t["layer"] == h["layer"] && t["part"] != "norm");
        assert_eq!(sum("counts") + sum("outside"), of.map(|t| t["elements"].as_u64().unwrap()).sum::<u64>());
    }
    let embedding = &v["tensors"][0];
    // Uniform between ±2/√32.
    let bound = 2.0 / 32f64.sqrt();
    assert!((embedding["std"].as_f64().unwrap() - bound / 3f64.sqrt()).abs() < 0.01, "{embedding}");
    assert!(embedding["max"].as_f64().unwrap() <= bound && embedding["non_finite"] == 0);
    let page = run(folder.path(), &["inspect", "half", "--against", "llama", "--histograms", "--tensors"]);
    assert!(
        page.code == 0 && page.out.contains("difference from llama") && page.out.contains("values of the matrices")
    );
    let bare = run(folder.path(), &["inspect", "llama/tokenizer.json", "--histograms"]);
    assert_eq!(bare.code, 3, "{bare:?}");
}

#[test]
fn a_prediction_is_a_range_with_its_reasons() {
    let folder = Folder::new();
    write_repository(&folder, "llama");
    let r = run(folder.path(), &["inspect", "llama", "--predict", "--ctx", "256", "--json"]).json();
    let p = &r["predicted"];
    let of = |k: &str, v: &str| p[k][v].as_f64().unwrap();
    assert!(of("decode", "tps_min") > 0.0 && of("decode", "tps_min") < of("decode", "tps_max"), "{p}");
    assert!(of("prefill", "tps_max") > of("decode", "tps_max") && p["assumes"].as_array().unwrap().len() == 5, "{p}");
    assert_eq!(run(folder.path(), &["inspect", "llama/tokenizer.json", "--predict"]).code, 3);
}

#[test]
fn the_page_is_well_formed_stands_alone_and_shows_text_as_text() {
    let folder = Folder::new();
    write_repository(&folder, "<b>&llama");
    let ran = run(
        folder.path(),
        &["inspect", "<b>&llama", "--html", "p.html", "--histograms", "--against", "<b>&llama", "--predict", "-q"],
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let page = fs::read_to_string(folder.join("p.html")).unwrap();
    assert!(page.contains("&lt;b&gt;&amp;llama") && !page.contains("<b>&llama"));
    for word in ["<script", "http://", "https://", "@import", "url(", "src="] {
        assert!(!page.contains(word), "{word}");
    }
    // Every element is closed where it was opened.
    let mut open: Vec<String> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>\n").unwrap();
    while let Some((_, tail)) = rest.split_once('<') {
        let (tag, tail) = tail.split_once('>').unwrap();
        rest = tail;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{}", &rest[..rest.len().min(80)]);
        } else if !tag.ends_with('/') && !tag.starts_with("meta") {
            open.push(tag.split(' ').next().unwrap().to_string());
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(page.matches("<svg").count() >= 7 && page.len() < 400_000, "{}", page.len());
    let nowhere = run(folder.path(), &["inspect", "<b>&llama", "--html", "none/p.html"]);
    assert_eq!(nowhere.code, 1, "{nowhere:?}");
}
