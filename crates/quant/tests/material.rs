//! Checks against reference material that lies outside the repository: `PONDERA_MATERIAL=folder cargo test -- --ignored`.
use pondera_quant::FORMATS;
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
