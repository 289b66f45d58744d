//! pondera: own an open-weight language model. This crate only gathers the rooms under one name;
//! ARCHITECTURE.md says what lives where.
#![forbid(unsafe_code)]

pub use pondera_arch as arch;
pub use pondera_cli as cli;
pub use pondera_cpu as cpu;
pub use pondera_engine as engine;
pub use pondera_ops as ops;
pub use pondera_quant as quant;
pub use pondera_text as text;
pub use pondera_weights as weights;
