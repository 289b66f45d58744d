//! Adapters (`--lora`): the flag, and how its adapters come beside a model.
use crate::{
    Context,
    error::{Error, Result},
    load::Loaded,
    model::Source,
    policy,
    progress::Spinner,
};
use std::{path::PathBuf, time::Instant};

/// Adapters that a command computes with.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Lora {
    /// An adapter (a PEFT folder or a GGUF file) and a factor on its scale; several add up
    #[arg(long, value_name = "PATH[=SCALE]", value_parser = adapter)]
    pub lora: Vec<(PathBuf, f32)>,
}

/// `PATH` or `PATH=SCALE`; what follows the last `=` is a scale only where it is a number.
fn adapter(text: &str) -> std::result::Result<(PathBuf, f32), String> {
    match text.rsplit_once('=') {
        Some((path, scale)) if !path.is_empty() => match scale.parse::<f32>() {
            Ok(scale) if scale.is_finite() => Ok((path.into(), scale)),
            Ok(_) => Err("a scale is a finite number".into()),
            Err(_) => Ok((text.into(), 1.0)),
        },
        _ => Ok((text.into(), 1.0)),
    }
}

/// `NAME=PATH`, as `serve` takes them.
pub fn named(text: &str) -> std::result::Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => Ok((name.into(), path.into())),
        _ => Err("expected NAME=PATH".into()),
    }
}

impl Loaded {
    /// Loads the adapters of `--lora` and takes them for all that follows.
    pub fn open_lora(&mut self, lora: &Lora, context: &Context) -> Result<()> {
        if lora.lora.is_empty() {
            return Ok(());
        }
        let (start, spinner) = (Instant::now(), Spinner::new(context, "loading adapters".to_string()));
        if let Some((path, _)) = lora.lora.iter().find(|(path, _)| !path.exists()) {
            return Err(Error::file(format!("{}: there is no such adapter", path.display())));
        }
        for (path, _) in &lora.lora {
            policy::check(&Source::Path(path.clone()), &context.global)?;
        }
        let files: Vec<_> = lora.lora.iter().map(|(path, scale)| (path.as_path(), *scale)).collect();
        let id = self.engine.load_adapter("--lora", &files)?;
        self.engine.use_adapter(Some(id))?;
        drop(spinner);
        self.load_s += start.elapsed().as_secs_f64();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_number_behind_the_last_equals_sign() {
        assert_eq!(adapter("a/b"), Ok(("a/b".into(), 1.0)));
        assert_eq!(adapter("a=0.5"), Ok(("a".into(), 0.5)));
        assert_eq!(adapter("a=b=-2"), Ok(("a=b".into(), -2.0)));
        assert_eq!(adapter("step=100/final"), Ok(("step=100/final".into(), 1.0)));
        assert!(adapter("a=inf").is_err());
        assert_eq!(named("x=y=z"), Ok(("x".into(), "y=z".into())));
        assert!(named("x").is_err() && named("=x").is_err() && named("x=").is_err());
    }
}
