//! `quantization_config` and `hf_quant_config.json`: which module is stored how.
//!
//! Owns: the names of methods and sub-formats, their parameters, targets and exceptions. Does not own: tensors.
//! What this crate does not know is an error that names it; nothing is guessed.
use crate::{Error, ErrorKind, Result};
use regex_lite::Regex;
use serde_json::Value;

/// How many elements share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    /// All.
    Tensor,
    /// An output row.
    Channel,
    /// So many columns of a row.
    Group(usize),
    /// So many rows and columns.
    Block([usize; 2]),
}

impl Grain {
    /// Rows and columns that share a scale in a matrix `[out, inp]`.
    pub(crate) fn block(self, out: usize, inp: usize) -> [usize; 2] {
        match self {
            Grain::Tensor => [out, inp],
            Grain::Channel => [1, inp],
            Grain::Group(group) => [1, group],
            Grain::Block(block) => block,
        }
    }
}

/// How a quantized module is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `fp8`: `weight` F8_E4M3, `weight_scale_inv`.
    Fp8 {
        /// Rows and columns of a block; none: one scale per tensor or row.
        block: Option<[usize; 2]>,
    },
    /// 8-bit codes with scales: compressed-tensors `float-quantized`, `int-quantized`, `naive-quantized`; FBGEMM.
    Scaled {
        /// F8_E4M3, else INT8.
        float: bool,
        /// What shares a scale.
        grain: Grain,
        /// Without zero points.
        symmetric: bool,
    },
    /// GPTQ.
    Gptq {
        /// 2, 3, 4 or 8.
        bits: usize,
        /// Input columns of a group; none: all.
        group: Option<usize>,
        /// 1 where zero points are stored less one (version 1), else 0.
        zero_offset: u32,
        /// Whether bits and group hold for every module (no `dynamic` overrides).
        exact: bool,
    },
    /// AWQ, GEMM version, 4 bits.
    Awq {
        /// Input columns of a group; none: all.
        group: Option<usize>,
    },
    /// gpt-oss: `blocks`, `scales`.
    Mxfp4,
    /// compressed-tensors `mxfp4-pack-quantized`.
    Mxfp4Packed,
    /// compressed-tensors `pack-quantized`.
    PackQuantized {
        /// 1 … 8.
        bits: usize,
        /// Tensor, channel or group.
        grain: Grain,
        /// Without zero points.
        symmetric: bool,
    },
    /// compressed-tensors `nvfp4-pack-quantized`.
    Nvfp4Packed,
    /// ModelOpt NVFP4.
    ModelOptNvfp4,
    /// ModelOpt FP8.
    ModelOptFp8 {
        /// What shares a scale.
        grain: Grain,
    },
}

impl Scheme {
    fn suffixes(&self) -> &'static [&'static str] {
        match self {
            Scheme::Fp8 { .. } => &["weight", "weight_scale_inv", "weight_scale", "input_scale", "activation_scale"],
            Scheme::Scaled { .. } => {
                &["weight", "weight_scale", "weight_zero_point", "input_scale", "input_zero_point"]
            }
            Scheme::Gptq { .. } => &["weight", "qweight", "qzeros", "scales", "g_idx"],
            Scheme::Awq { .. } => &["weight", "qweight", "qzeros", "scales"],
            Scheme::Mxfp4 => &["weight", "blocks", "scales"],
            Scheme::Mxfp4Packed => &["weight", "weight_packed", "weight_scale"],
            Scheme::PackQuantized { .. } => {
                &["weight", "weight_packed", "weight_scale", "weight_zero_point", "weight_g_idx", "weight_shape"]
            }
            Scheme::Nvfp4Packed => {
                &["weight", "weight_packed", "weight_scale", "weight_global_scale", "input_global_scale"]
            }
            Scheme::ModelOptNvfp4 => &["weight", "weight_scale", "weight_scale_2", "input_scale", "pre_quant_scale"],
            Scheme::ModelOptFp8 { .. } => &["weight", "weight_scale", "input_scale"],
        }
    }
}

/// What a configuration says about the storage of weights.
#[derive(Clone, Debug)]
pub struct QuantMethod {
    name: &'static str,
    rules: Vec<Rule>,
    ignore: Vec<Pattern>,
}

#[derive(Clone, Debug)]
struct Rule {
    /// Empty: every module.
    targets: Vec<Pattern>,
    scheme: Scheme,
}

const METHODS: &str = "one of fp8, fbgemm_fp8, gptq, awq, mxfp4, compressed-tensors, modelopt";

impl QuantMethod {
    /// From a `config.json` (its `quantization_config`, also inside `text_config`) or, where that says nothing, from
    /// ModelOpt's `hf_quant_config.json`. `None`: the weights are not quantized.
    ///
    /// # Errors
    /// `Unsupported` for an unknown method or sub-format, `Config` for parameters that make no sense.
    pub fn from_config(config: &Value, hf_quant_config: Option<&Value>) -> Result<Option<QuantMethod>> {
        let keys = ["quantization_config", "compression_config"];
        let places = [config, &config["text_config"], &config["llm_config"], &config["language_config"]];
        let found = places.iter().flat_map(|c| keys.iter().map(|k| &c[*k])).find(|v| !v.is_null());
        if let Some(value) = found {
            return QuantMethod::parse(value).map(Some);
        }
        let Some(own) = hf_quant_config.map(|v| &v["quantization"]).filter(|v| !v["quant_algo"].is_null()) else {
            return Ok(None);
        };
        model_opt(&Object { value: own, at: "hf_quant_config.quantization" }).map(Some)
    }

    /// From the value of `quantization_config`.
    ///
    /// # Errors
    /// As [`QuantMethod::from_config`].
    pub fn parse(value: &Value) -> Result<QuantMethod> {
        let c = Object { value, at: "quantization_config" };
        if !value.is_object() {
            return Err(Error::new(ErrorKind::Config, c.at, "an object", shown(value)));
        }
        let method = match c.text("quant_method")? {
            Some(method) => method,
            None if !value["quant_algo"].is_null() => "modelopt",
            None if !value["config_groups"].is_null() => "compressed-tensors",
            None => return Err(Error::new(ErrorKind::Config, &c.key("quant_method"), METHODS, "none")),
        };
        let ignore = c.patterns("modules_to_not_convert", Pattern::segments)?;
        let single = |name, scheme| QuantMethod { name, rules: vec![Rule { targets: Vec::new(), scheme }], ignore };
        match method {
            "fp8" => Ok(single("fp8", fp8(&c)?)),
            "fbgemm_fp8" => {
                Ok(single("fbgemm_fp8", Scheme::Scaled { float: true, grain: Grain::Channel, symmetric: true }))
            }
            "gptq" => Ok(single("gptq", gptq(&c)?)),
            "awq" => Ok(single("awq", awq(&c)?)),
            "mxfp4" => Ok(single("mxfp4", Scheme::Mxfp4)),
            "compressed-tensors" => compressed_tensors(&c),
            "modelopt" | "modelopt_fp8" | "modelopt_fp4" => model_opt(&c),
            other => Err(Error::new(ErrorKind::Unsupported, &c.key("quant_method"), METHODS, format!("{other:?}"))),
        }
    }

    /// The method's name in configurations.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the configuration says that `module` (its name without the last suffix) is left as it was.
    pub fn ignores(&self, module: &str) -> bool {
        self.ignore.iter().any(|p| p.matches(module)) || !self.rules.iter().any(|r| r.holds_for(module))
    }

    /// How `module` is stored, given that it is quantized. Where only one scheme exists it holds even for modules that
    /// the configuration leaves out: that their tensors are quantized was seen.
    ///
    /// # Errors
    /// `Config` where none of several schemes names the module.
    pub fn scheme(&self, module: &str) -> Result<&Scheme> {
        if let [rule] = &self.rules[..] {
            return Ok(&rule.scheme);
        }
        let rule = self.rules.iter().find(|r| r.holds_for(module));
        rule.map(|r| &r.scheme).ok_or_else(|| {
            Error::new(ErrorKind::Config, "quantization_config", format!("a scheme for {module}"), "none that names it")
        })
    }

    /// Suffixes of all sibling tensors that a weight stored by this method can have.
    pub fn suffixes(&self) -> Vec<&'static str> {
        let mut all: Vec<&str> = self.rules.iter().flat_map(|r| r.scheme.suffixes()).copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Rule {
    fn holds_for(&self, module: &str) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|p| p.matches(module))
    }
}

fn fp8(c: &Object<'_>) -> Result<Scheme> {
    if let Some(fmt) = c.text("fmt")?.filter(|f| *f != "e4m3") {
        return Err(Error::new(ErrorKind::Unsupported, &c.key("fmt"), "e4m3", format!("{fmt:?}")));
    }
    match c.value.get("weight_block_size") {
        None => Ok(Scheme::Fp8 { block: Some([128, 128]) }),
        Some(Value::Null) => Ok(Scheme::Fp8 { block: None }),
        Some(_) => Ok(Scheme::Fp8 { block: Some(c.block("weight_block_size")?) }),
    }
}

fn gptq(c: &Object<'_>) -> Result<Scheme> {
    let bits = c.needed("bits")?;
    if ![2, 3, 4, 8].contains(&bits) {
        return Err(Error::new(ErrorKind::Unsupported, &c.key("bits"), "2, 3, 4 or 8", bits));
    }
    let zero_offset = match c.text("checkpoint_format")?.unwrap_or("gptq") {
        "gptq" => 1,
        "gptq_v2" => 0,
        other => {
            let expected = "gptq or gptq_v2";
            return Err(Error::new(
                ErrorKind::Unsupported,
                &c.key("checkpoint_format"),
                expected,
                format!("{other:?}"),
            ));
        }
    };
    if c.value["is_marlin_format"] == true {
        return Err(Error::new(ErrorKind::Unsupported, &c.key("is_marlin_format"), "false", "true"));
    }
    if let Some(other) = c.text("pack_dtype")?.filter(|t| *t != "int32") {
        return Err(Error::new(ErrorKind::Unsupported, &c.key("pack_dtype"), "int32", format!("{other:?}")));
    }
    let exact = c.value["dynamic"].as_object().is_none_or(|d| d.is_empty());
    Ok(Scheme::Gptq { bits, group: c.group("group_size")?, zero_offset, exact })
}

fn awq(c: &Object<'_>) -> Result<Scheme> {
    let bits = c.number("bits")?.or(c.number("w_bit")?).unwrap_or(4);
    if bits != 4 {
        return Err(Error::new(ErrorKind::Unsupported, &c.key("bits"), 4, bits));
    }
    let version = c.text("version")?.unwrap_or("gemm").to_ascii_lowercase();
    if version != "gemm" {
        return Err(Error::new(ErrorKind::Unsupported, &c.key("version"), "gemm", format!("{version:?}")));
    }
    if c.value["zero_point"] == false {
        return Err(Error::new(ErrorKind::Unsupported, &c.key("zero_point"), "true", "false"));
    }
    let group = if c.value["group_size"].is_null() { c.group("q_group_size")? } else { c.group("group_size")? };
    Ok(Scheme::Awq { group })
}

fn compressed_tensors(c: &Object<'_>) -> Result<QuantMethod> {
    let sparse = c.value["sparsity_config"]["format"].as_str().filter(|f| *f != "dense");
    if let Some(format) = sparse {
        let key = c.key("sparsity_config.format");
        return Err(Error::new(ErrorKind::Unsupported, &key, "dense", format!("{format:?}")));
    }
    if c.value["transform_config"]["config_groups"].as_object().is_some_and(|g| !g.is_empty()) {
        return Err(Error::new(ErrorKind::Unsupported, &c.key("transform_config"), "none", "transforms"));
    }
    let mut rules = Vec::new();
    let groups = c.value["config_groups"].as_object().into_iter().flatten();
    for (name, value) in groups {
        let at = format!("{}.config_groups.{name}", c.at);
        let group = Object { value, at: &at };
        let format = group.text("format")?.or(c.text("format")?).unwrap_or("none");
        if value["weights"].is_null() || format == "dense" {
            continue;
        }
        let weights_at = format!("{at}.weights");
        let weights = Object { value: &value["weights"], at: &weights_at };
        let scheme = compressed_scheme(format, &c.key("format"), &weights)?;
        let mut targets = group.patterns("targets", Pattern::exact)?;
        if targets.iter().any(|p| matches!(p, Pattern::Exact(name) if name == "Linear")) {
            targets.clear(); // the class of all matrices
        }
        rules.push(Rule { targets, scheme });
    }
    // A rule for all modules is what is left after those that name some.
    rules.sort_by_key(|r| r.targets.is_empty());
    if rules.is_empty() {
        return Err(Error::new(ErrorKind::Config, &c.key("config_groups"), "a group with quantized weights", "none"));
    }
    Ok(QuantMethod { name: "compressed-tensors", rules, ignore: c.patterns("ignore", Pattern::exact)? })
}

fn compressed_scheme(format: &str, format_key: &str, w: &Object<'_>) -> Result<Scheme> {
    let bits = w.needed("num_bits")?;
    let kind = w.text("type")?.unwrap_or("int");
    let symmetric = w.value["symmetric"].as_bool().unwrap_or(true);
    let wrong = |bits_wanted: &str| {
        let expected = format!("{bits_wanted} for {format}");
        Error::new(ErrorKind::Unsupported, w.at, expected, format!("{kind} of {bits} bits"))
    };
    match (format, kind, bits) {
        ("pack-quantized", "int", 1..=8) => Ok(Scheme::PackQuantized { bits, grain: grain(w)?, symmetric }),
        ("pack-quantized", ..) => Err(wrong("int of 1 to 8 bits")),
        ("float-quantized" | "naive-quantized", "float", 8) => {
            Ok(Scheme::Scaled { float: true, grain: grain(w)?, symmetric })
        }
        ("int-quantized" | "naive-quantized", "int", 8) => {
            Ok(Scheme::Scaled { float: false, grain: grain(w)?, symmetric })
        }
        ("float-quantized" | "int-quantized" | "naive-quantized", ..) => Err(wrong("8 bits of that kind")),
        ("nvfp4-pack-quantized", "float", 4) => fixed_group(w, 16, Scheme::Nvfp4Packed),
        ("mxfp4-pack-quantized", "float", 4) => fixed_group(w, 32, Scheme::Mxfp4Packed),
        ("nvfp4-pack-quantized" | "mxfp4-pack-quantized", ..) => Err(wrong("float of 4 bits")),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            format_key,
            "dense, pack-quantized, float-quantized, int-quantized, naive-quantized, nvfp4-pack-quantized or \
             mxfp4-pack-quantized",
            format!("{format:?}"),
        )),
    }
}

fn fixed_group(w: &Object<'_>, wanted: usize, scheme: Scheme) -> Result<Scheme> {
    match w.group("group_size")? {
        None => Ok(scheme),
        Some(group) if group == wanted => Ok(scheme),
        Some(group) => Err(Error::new(ErrorKind::Unsupported, &w.key("group_size"), wanted, group)),
    }
}

/// What `strategy` says; without one, what `group_size` implies.
fn grain(w: &Object<'_>) -> Result<Grain> {
    let group = w.group("group_size")?;
    let needed =
        || group.ok_or_else(|| Error::new(ErrorKind::Config, &w.key("group_size"), "a positive number", "none"));
    match w.text("strategy")? {
        Some("tensor") => Ok(Grain::Tensor),
        Some("channel") => Ok(Grain::Channel),
        Some("group") => needed().map(Grain::Group),
        Some("block") => w.block("block_structure").map(Grain::Block),
        None if w.value["group_size"].is_null() => Ok(Grain::Tensor),
        None => Ok(group.map_or(Grain::Channel, Grain::Group)),
        Some(other) => {
            let expected = "tensor, channel, group or block";
            Err(Error::new(ErrorKind::Unsupported, &w.key("strategy"), expected, format!("{other:?}")))
        }
    }
}

fn model_opt(c: &Object<'_>) -> Result<QuantMethod> {
    let mut ignore = Vec::new();
    for key in ["exclude_modules", "ignore", "modules_to_not_convert"] {
        ignore.extend(c.patterns(key, Pattern::segments)?);
    }
    let algo = c.text("quant_algo")?.unwrap_or("none");
    let mut rules = Vec::new();
    if algo == "MIXED_PRECISION" {
        for (module, layer) in c.value["quantized_layers"].as_object().into_iter().flatten() {
            let at = format!("{}.quantized_layers.{module}", c.at);
            let layer = Object { value: layer, at: &at };
            let scheme = model_opt_scheme(layer.text("quant_algo")?.unwrap_or("none"), &layer)?;
            rules.push(Rule { targets: vec![Pattern::Exact(module.clone())], scheme });
        }
        if rules.is_empty() {
            return Err(Error::new(ErrorKind::Config, &c.key("quantized_layers"), "the layers' algorithms", "none"));
        }
    } else {
        rules.push(Rule { targets: Vec::new(), scheme: model_opt_scheme(algo, c)? });
    }
    Ok(QuantMethod { name: "modelopt", rules, ignore })
}

fn model_opt_scheme(algo: &str, c: &Object<'_>) -> Result<Scheme> {
    match algo {
        "FP8" => Ok(Scheme::ModelOptFp8 { grain: Grain::Tensor }),
        "FP8_PER_CHANNEL_PER_TOKEN" => Ok(Scheme::ModelOptFp8 { grain: Grain::Channel }),
        "FP8_PB_WO" => {
            let size = c.group("group_size")?.unwrap_or(128);
            Ok(Scheme::ModelOptFp8 { grain: Grain::Block([size, size]) })
        }
        "NVFP4" => fixed_group(c, 16, Scheme::ModelOptNvfp4),
        other => {
            let expected = "FP8, FP8_PER_CHANNEL_PER_TOKEN, FP8_PB_WO, NVFP4 or MIXED_PRECISION";
            Err(Error::new(ErrorKind::Unsupported, &c.key("quant_algo"), expected, format!("{other:?}")))
        }
    }
}

/// A JSON object and where it stands.
struct Object<'a> {
    value: &'a Value,
    at: &'a str,
}

impl<'a> Object<'a> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.at)
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        Error::new(ErrorKind::Config, &self.key(key), expected, shown(&self.value[key]))
    }

    fn text(&self, key: &str) -> Result<Option<&'a str>> {
        match &self.value[key] {
            Value::Null => Ok(None),
            Value::String(s) => Ok(Some(s)),
            _ => Err(self.wrong(key, "a string")),
        }
    }

    fn number(&self, key: &str) -> Result<Option<usize>> {
        match &self.value[key] {
            Value::Null => Ok(None),
            v => v.as_u64().and_then(|n| usize::try_from(n).ok()).map(Some).ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    fn needed(&self, key: &str) -> Result<usize> {
        self.number(key)?.ok_or_else(|| self.wrong(key, "a number"))
    }

    /// A group size; -1 and nothing mean all columns.
    fn group(&self, key: &str) -> Result<Option<usize>> {
        if self.value[key].as_i64() == Some(-1) {
            return Ok(None);
        }
        match self.number(key)? {
            Some(0) => Err(self.wrong(key, "a positive number or -1")),
            group => Ok(group),
        }
    }

    /// `[rows, columns]`, both positive.
    fn block(&self, key: &str) -> Result<[usize; 2]> {
        let number = |v: &Value| v.as_u64().filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
        let numbers: Option<Vec<usize>> = self.value[key].as_array().and_then(|a| a.iter().map(number).collect());
        match numbers.as_deref() {
            Some(&[rows, columns]) => Ok([rows, columns]),
            _ => Err(self.wrong(key, "two positive numbers")),
        }
    }

    fn patterns(&self, key: &str, of: fn(&str) -> Pattern) -> Result<Vec<Pattern>> {
        match &self.value[key] {
            Value::Null => Ok(Vec::new()),
            Value::String(s) => Ok(vec![of(s)]),
            Value::Array(a) => {
                a.iter().map(|v| v.as_str().map(of).ok_or_else(|| self.wrong(key, "a list of strings"))).collect()
            }
            _ => Err(self.wrong(key, "a list of strings")),
        }
    }
}

/// A value for a message, cut where it is long.
fn shown(value: &Value) -> String {
    const SHOWN_MAX: usize = 80;
    let text = value.to_string();
    if text.chars().count() <= SHOWN_MAX { text } else { text.chars().take(SHOWN_MAX).chain(['…']).collect() }
}

/// Which modules an entry of a list means.
#[derive(Clone, Debug)]
enum Pattern {
    /// This module.
    Exact(String),
    /// `re:…`, from the start of the name.
    Regex(Regex),
    /// A run of whole segments of the name, `*` for anything; also what lies below.
    Segments(String),
    /// A regular expression beyond the supported syntax (look-around): means nothing here.
    Unreadable,
}

impl Pattern {
    fn exact(text: &str) -> Pattern {
        match text.strip_prefix("re:") {
            None => Pattern::Exact(text.to_string()),
            Some(re) => Regex::new(&format!("^(?:{re})")).map_or(Pattern::Unreadable, Pattern::Regex),
        }
    }

    fn segments(text: &str) -> Pattern {
        if text.starts_with("re:") { Pattern::exact(text) } else { Pattern::Segments(text.to_string()) }
    }

    fn matches(&self, module: &str) -> bool {
        match self {
            Pattern::Exact(name) => name == module,
            Pattern::Regex(re) => re.is_match(module),
            Pattern::Segments(glob) => {
                let starts = std::iter::once(0).chain(module.match_indices('.').map(|(i, _)| i + 1));
                let ends: Vec<usize> = module.match_indices('.').map(|(i, _)| i).chain([module.len()]).collect();
                starts.into_iter().any(|s| ends.iter().any(|&e| e > s && glob_matches(glob, &module[s..e])))
            }
            Pattern::Unreadable => false,
        }
    }
}

/// `*` matches any run of characters; linear with one point of return.
fn glob_matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut g, mut t, mut back) = (0, 0, None);
    while t < text.len() {
        if g < glob.len() && glob[g] == b'*' {
            back = Some((g + 1, t));
            g += 1;
        } else if g < glob.len() && glob[g] == text[t] {
            (g, t) = (g + 1, t + 1);
        } else if let Some((after, from)) = back {
            (g, t) = (after, from + 1);
            back = Some((after, from + 1));
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|b| *b == b'*')
}
