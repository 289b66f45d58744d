//! The table of syntaxes: one file per family.
use super::Syntax;

mod apertus;
mod apriel;
mod command;
mod deepseek;
mod gemma;
mod glm;
mod granite;
mod hermes;
mod kimi;
mod lfm2;
mod llama;
mod minimax;
mod mistral;
mod phi;
mod qwen_coder;
mod seed;
mod solar;

/// All of them; where a template fits several, the first that reads what the template writes.
pub static SYNTAXES: &[&Syntax] = &[
    &mistral::CALL_ID,
    &mistral::ARGS,
    &mistral::SYNTAX,
    &mistral::SPACED,
    &deepseek::V3_2,
    &deepseek::V4,
    &deepseek::SYNTAX,
    &deepseek::V3_1,
    &kimi::SYNTAX,
    &minimax::SYNTAX,
    &minimax::M3,
    &seed::SYNTAX,
    &qwen_coder::SYNTAX,
    &glm::SYNTAX,
    &glm::DENSE,
    &gemma::SYNTAX,
    &lfm2::SYNTAX,
    &apertus::SYNTAX,
    &solar::SYNTAX,
    &command::SYNTAX,
    &command::R,
    &phi::SYNTAX,
    &granite::SYNTAX,
    &apriel::SYNTAX,
    &hermes::SYNTAX,
    &llama::SYNTAX,
];
