//! Checks against reference material that lies outside the repository: `PONDERA_MATERIAL=folder cargo test -- --ignored`.
use pondera_quant::{
    FORMATS, Format, TensorView,
    packed::{QuantMethod, from_parts},
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

type Tensors = BTreeMap<String, (String, Vec<usize>, Vec<u8>)>;

/// All tensors of a safetensors file: dtype, shape, bytes.
fn tensors(path: &Path) -> Tensors {
    let file = fs::read(path).expect("the file is there");
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let Value::Object(header_map) = serde_json::from_slice(&file[8..8 + header]).unwrap() else { panic!("no object") };
    let entries = header_map.into_iter().filter(|(name, _)| name != "__metadata__");
    entries
        .map(|(name, t)| {
            let number = |v: &Value| v.as_u64().unwrap() as usize;
            let shape = t["shape"].as_array().unwrap().iter().map(number).collect();
            let (from, to) = (number(&t["data_offsets"][0]), number(&t["data_offsets"][1]));
            let bytes = file[8 + header + from..8 + header + to].to_vec();
            (name, (t["dtype"].as_str().unwrap().to_string(), shape, bytes))
        })
        .collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
#[ignore = "needs PONDERA_MATERIAL"]
fn dequant_vectors() {
    let folder = std::env::var("PONDERA_MATERIAL").expect("PONDERA_MATERIAL is the folder of the material");
    let folder = Path::new(&folder).join("gguf");
    let vectors = tensors(&folder.join("dequant_vectors.safetensors"));
    let facts: Value = serde_json::from_slice(&fs::read(folder.join("dequant_vectors.json")).unwrap()).unwrap();
    let types = facts["types"].as_object().unwrap();
    for (name, facts) in types {
        let f = FORMATS.iter().find(|f| f.name == name).unwrap_or_else(|| panic!("{name} is unknown"));
        assert_eq!(f.gguf_id.map(u64::from), facts["id"].as_u64(), "{name}");
        assert_eq!(Some(f.block as u64), facts["block_size"].as_u64(), "{name}");
        assert_eq!(Some(f.bytes as u64), facts["type_size"].as_u64(), "{name}");
        let mut worst = [0, 0];
        for (kind, worst) in ["", "random_"].iter().zip(&mut worst) {
            let Some((_, _, raw)) = vectors.get(&format!("{name}.{kind}raw")) else { continue };
            let want = floats(&vectors[&format!("{name}.{kind}f32")].2);
            let mut got = vec![0.0; want.len()];
            (f.decode)(raw, &mut got);
            let ulps = |(a, b): (&f32, &f32)| if a == b { 0 } else { (a.to_bits() as i64 - b.to_bits() as i64).abs() };
            *worst = got.iter().zip(&want).map(ulps).max().unwrap();
        }
        let mut encoded = String::from("no encoder");
        if let (Some(encode), Some((_, _, source))) = (f.encode, vectors.get(&format!("{name}.source"))) {
            let source = floats(source);
            let (mut blocks, mut back) = (vec![0; source.len() / f.block * f.bytes], vec![0.0; source.len()]);
            encode(&source, &mut blocks);
            (f.decode)(&blocks, &mut back);
            let squares: f64 = back.iter().zip(&source).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            let rmse = (squares / source.len() as f64).sqrt();
            encoded = format!("rmse {rmse:.5}, {:.3} of the reference", rmse / facts["rmse"].as_f64().unwrap());
        }
        println!("{name:8} decode {} ulp, random {} ulp; {encoded}", worst[0], worst[1]);
        assert!(worst[0] <= 1 && worst[1] <= 1, "{name}");
    }
    assert_eq!(types.len(), 27);
}

/// The module, output rows and input columns that a tensor of codes tells; `None` for other tensors. Codes have 4 bits
/// or 8.
fn module_of<'a>(name: &'a str, dtype: &str, shape: &[usize], method: &str) -> Option<(&'a str, usize, usize)> {
    let (module, suffix) = name.rsplit_once('.').filter(|_| !name.ends_with("_blocks")).or(name.rsplit_once('_'))?;
    let (out, inp) = match (suffix, dtype, method) {
        ("qweight", _, "gptq") => (shape[1], shape[0] * 8),
        ("qweight", ..) => (shape[1] * 8, shape[0]),
        ("blocks", ..) => (shape[1], shape[2] * 32),
        ("weight" | "weight_packed", "U8", _) => (shape[0], shape[1] * 2),
        ("weight_packed", "I32", _) => (shape[0], shape[1] * 8),
        ("weight", "F8_E4M3" | "I8", _) => (shape[0], shape[1]),
        _ => return None,
    };
    Some((module, out, inp))
}

/// Every quantized module of the folders under `quantized_hf` and `frontier/quantized_hf` decodes to finite weights of a
/// plausible size. `PONDERA_DUMP=folder` writes them as raw f32 for comparison with other decoders.
#[test]
#[ignore = "needs PONDERA_MATERIAL"]
fn quantized_folders() {
    let root = std::env::var("PONDERA_MATERIAL").expect("PONDERA_MATERIAL is the folder of the material");
    let dump = std::env::var("PONDERA_DUMP").ok();
    for part in ["quantized_hf", "frontier/quantized_hf"] {
        for folder in fs::read_dir(Path::new(&root).join(part)).unwrap() {
            let folder = folder.unwrap().path();
            let json =
                |name: &str| fs::read(folder.join(name)).ok().map(|b| serde_json::from_slice::<Value>(&b).unwrap());
            let config = json("config.json").unwrap();
            let method = QuantMethod::from_config(&config, json("hf_quant_config.json").as_ref()).unwrap().unwrap();
            let tensors = tensors(&folder.join("model.safetensors"));
            let (mut modules, mut formats) = (0, BTreeMap::<&str, usize>::new());
            for (name, (dtype, shape, _)) in &tensors {
                let Some((module, out, inp)) = module_of(name, dtype, shape, method.name()) else { continue };
                let experts = if name.ends_with("_blocks") { shape[0] } else { 1 };
                let mut weights = vec![0.0; experts * out * inp];
                for (e, weights) in weights.chunks_exact_mut(out * inp).enumerate() {
                    let lookup = |suffix: &str| {
                        let separator =
                            if ["blocks", "scales"].contains(&suffix) && method.name() == "mxfp4" { "_" } else { "." };
                        let (dtype, shape, bytes) = tensors.get(&format!("{module}{separator}{suffix}"))?;
                        let format = Format::from_safetensors(dtype)?;
                        let view = TensorView { format, shape: shape.clone(), bytes: bytes.clone().into() };
                        if separator == "_" { view.index(e) } else { Some(view) }
                    };
                    let m = from_parts(&method, module, &lookup, out, inp).unwrap_or_else(|e| panic!("{module}: {e}"));
                    m.decode_rows(0..out, weights);
                    *formats.entry(m.format_name()).or_default() += 1;
                }
                let rms = (weights.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>() / weights.len() as f64).sqrt();
                assert!((1e-3..10.0).contains(&rms), "{module}: root mean square {rms}");
                modules += 1;
                if let Some(dump) = &dump {
                    let file = format!("{}.{module}.f32", folder.file_name().unwrap().to_str().unwrap());
                    fs::write(
                        Path::new(dump).join(file),
                        weights.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>(),
                    )
                    .unwrap();
                }
            }
            println!("{}: {modules} modules, {formats:?}", folder.display());
            assert!(modules > 0);
        }
    }
}
