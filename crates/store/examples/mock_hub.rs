//! The tests' hub as a program: serves a small dense model and a GGUF repository until it is killed. For the scripts that
//! put the hub's own client beside ours; prints its address first.
#[path = "../tests/hub/mod.rs"]
mod hub;

use hub::{Hub, bytes, repo};

fn main() {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let hub = Hub::at(&address);
    let index = r#"{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    hub.put(
        "org/dense",
        repo(&[
            (".gitattributes", b"*.safetensors filter=lfs\n".to_vec()),
            ("README.md", b"---\nlicense: mit\n---\n# dense\n".to_vec()),
            ("config.json", b"{\"model_type\": \"llama\"}\n".to_vec()),
            ("model-00001-of-00002.safetensors", bytes(1, 20_000_000)),
            ("model-00002-of-00002.safetensors", bytes(2, 3_000_001)),
            ("model.safetensors.index.json", index.into()),
            ("tokenizer.json", bytes(3, 900_000)),
            ("extra/notes.txt", b"not needed to run\n".to_vec()),
        ]),
    );
    hub.put(
        "org/quants",
        repo(&[
            ("LICENSE", b"MIT\n".to_vec()),
            ("BF16/m-BF16-00001-of-00002.gguf", bytes(4, 2_000_000)),
            ("BF16/m-BF16-00002-of-00002.gguf", bytes(5, 1_000_000)),
            ("m-Q4_K_M.gguf", bytes(6, 5_000_000)),
            ("m-Q8_0.gguf", bytes(7, 4_000_000)),
        ]),
    );
    println!("{}", hub.address);
    loop {
        std::thread::park();
    }
}
