//! Dialects: one file each turns bytes of requests into jobs, and what comes of them into bytes.
pub mod anthropic;
pub mod ollama;
pub mod ollama_store;
pub mod openai;
pub mod openai_batches;
pub mod openai_chat;
pub mod openai_completions;
pub mod openai_embeddings;
pub mod openai_files;
pub mod openai_models;
pub mod openai_responses;
pub mod operations;
pub mod pondera;
pub mod rest;
