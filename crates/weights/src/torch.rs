//! PyTorch checkpoints. Reading them is on its way; until then they are refused by name.
use crate::{
    TensorInfo,
    error::{Result, unsupported},
    zip,
};
use pondera_quant::Bytes;

pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    zip::looks_like(bytes) || matches!(bytes, [0x80, 2..=5, ..])
}

pub(crate) fn parse(_: &Bytes) -> Result<Vec<TensorInfo>> {
    Err(unsupported("PyTorch checkpoints are not supported yet").hint("convert the model to safetensors"))
}

pub(crate) fn row_major(_: &TensorInfo, _: &[usize], _: &[u8]) -> Result<Vec<u8>> {
    Err(unsupported("strided tensors are not supported yet"))
}
