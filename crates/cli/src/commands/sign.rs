//! `sign`: signs a model's files with a key, as OpenSSF Model Signing has it.
//!
//! Owns the flags and where the signature goes. Does not own: what is signed and how (`pondera-audit`).
use crate::{
    Context,
    error::{Error, Result},
    model::{self, Source},
    progress::Bar,
    report,
};
use pondera_audit::signature::{self, Cert, DEFAULT_NAME, SecretKey, Signing};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Sign a model's files with a key
#[derive(clap::Args)]
#[command(after_help = "Keys are ECDSA on P-256 or P-384 in PEM, as `openssl ecparam -name prime256v1 -genkey -noout` \
    makes them.\n`pondera audit MODEL --key PUBLIC` verifies it; so does model_signing.\n\nExamples:\n  \
    pondera sign model/ --key key.pem\n  pondera sign model.gguf --key key.pem --out model.gguf.sig\n  \
    pondera sign model/ --key key.pem --certificate chain.pem --ignore notes")]
pub struct Args {
    /// A model, a folder or file
    model: String,
    /// The private key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Certificates of the key, its own first; their root is what verifiers then trust
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Where the signature goes [default: model.sig in the folder, FILE.sig beside a file]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leave out a path inside of the folder
    #[arg(long, value_name = "PATH")]
    ignore: Vec<String>,
}

/// Writes the signature.
pub fn run(args: &Args, context: &Context) -> Result<()> {
    let key = SecretKey::from_pem(&read(&args.key, "--key")?)
        .map_err(|what| bad("--key", &args.key, what))?;
    let certificates = match &args.certificate {
        Some(file) => Cert::from_pem(&read(file, "--certificate")?)
            .map_err(|what| bad("--certificate", file, what))?,
        None => Vec::new(),
    };
    let Source::Path(path) = model::resolve(Some(&args.model), &context.global)? else {
        return Err(Error::usage("the built-in model is part of this program").hint("name a folder or file"));
    };
    let out = args.out.clone().unwrap_or_else(|| beside(&path));
    report::free("--out", &out, &report::SIGNATURES)?;
    let mut bar: Option<Bar> = None;
    let what =
        Signing { path: &path, out: &out, key: &key, certificates: &certificates, ignored: &args.ignore };
    let signed = signature::sign(&what, &mut |done, total| {
        bar.get_or_insert_with(|| Bar::bytes(context, "hashed", total)).set(done);
    })?;
    drop(bar);
    fs::write(&out, &signed.bundle).map_err(|e| Error::output(out.display(), &e))?;
    if context.out.json() {
        let written = json!({ "signature": out, "files": signed.files, "sha256": signed.root,
            "key": key.public().hint(), "certificates": certificates.len() });
        return context.out.object(&written);
    }
    let files = if signed.files == 1 { "1 file".to_string() } else { format!("{} files", signed.files) };
    context.out.page(&format!("{} signs {files}\n", out.display()))
}

/// A file that does not hold what its flag asks for.
pub(super) fn bad(flag: &str, file: &Path, what: &str) -> Error {
    Error::usage(format!("{flag} {}: {what}", file.display())).hint("docs/signatures.md says what it must hold")
}

/// A text that trust is read from.
pub(super) fn read(file: &Path, flag: &str) -> Result<String> {
    signature::read_trust(file)
        .map_err(|e| Error::usage(format!("{flag} {}: cannot be read: {e}", file.display())).hint("name a file in PEM or JSON that can be read"))
}

/// Where a model's signature lies unless it is named.
pub(super) fn beside(model: &Path) -> PathBuf {
    if model.is_dir() {
        return model.join(DEFAULT_NAME);
    }
    let mut name = model.as_os_str().to_os_string();
    name.push(".sig");
    name.into()
}
