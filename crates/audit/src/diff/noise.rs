//! How much of a difference storage alone explains: rounding to a float type, the error of a block format.
//!
//! Owns: what a type's noise is expected to be. Does not own: the formats (`pondera-quant`).
use super::{
    moments::{Grid, Moments},
    values::Values,
};
use pondera_quant::{Format, Matrix};

/// Rows that are encoded to find the noise of a block format.
const ENCODED: usize = 24;

/// How a side is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Storage {
    /// Floats; the coarsest type that holds all values.
    Plain(Grid),
    /// A format of blocks that this program can write.
    Block(Format),
    /// Another lossy one, with its usual relative error.
    Lossy(f64),
}

impl Storage {
    pub fn of(m: &Matrix, grid: Grid) -> Storage {
        match m {
            Matrix::Rows { format, .. } | Matrix::Strided { format, .. } => {
                let info = format.info();
                match (info.block, info.encode) {
                    _ if *format == Format::F8E5M2 => Storage::Lossy(0.06),
                    (1, _) if *format != Format::F8E4M3 => Storage::Plain(grid),
                    (_, Some(_)) => Storage::Block(*format),
                    _ => Storage::Lossy(uniform(info.bytes as f64 * 8.0 / info.block as f64)),
                }
            }
            Matrix::Packed { weight, .. } => Storage::Lossy(packed(weight.name())),
        }
    }

    /// Whether the stored values are far from what they stand for.
    pub fn is_lossy(self) -> bool {
        !matches!(self, Storage::Plain(_))
    }
}

/// Relative error of rounding normally distributed weights of a small block to `bits` bits.
fn uniform(bits: f64) -> f64 {
    1.44 * 2f64.powf(-bits.clamp(0.5, 16.0))
}

/// The error of what quantization tools write, by its name.
fn packed(name: &str) -> f64 {
    let name = name.to_uppercase();
    if name.contains("FP8") || name.contains("E4M3") {
        return 0.027;
    }
    if name.contains("FP4") {
        return 0.11;
    }
    let digits: String = name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    uniform(digits.parse().unwrap_or(8.0))
}

/// Energy that the two storages are expected to add to a difference of nothing; `a`, `b` are what was measured of all
/// values.
pub(super) fn expected(a: (&Values<'_>, Storage), b: (&Values<'_>, Storage), m: &Moments) -> f64 {
    let rounding = |s: Storage, other: &Values<'_>, power: f64, exponents: f64, exponents_f16: f64| match s {
        Storage::Plain(Grid::F16) => exponents_f16 * 2f64.powi(-20) / 12.0,
        Storage::Plain(grid) => exponents * grid.half_ulp().powi(2) * 4.0 / 12.0,
        Storage::Block(format) => power * encoding(format, other),
        Storage::Lossy(relative) => power * relative * relative,
    };
    rounding(a.1, b.0, m.aa, m.exponents_a, m.exponents_f16_a)
        + rounding(b.1, a.0, m.bb, m.exponents_b, m.exponents_f16_b)
}

/// Energy lost by encoding `values`, as a share of their own; from a few rows. Rows are turned by part of a block first:
/// values that lie on the format's own grid would lose nothing.
fn encoding(format: Format, values: &Values<'_>) -> f64 {
    let info = format.info();
    let Some(encode) = info.encode else { return uniform(info.bytes as f64 * 8.0 / info.block as f64).powi(2) };
    let mut row = vec![0f32; values.cols];
    let (mut lost, mut all) = (0f64, 0f64);
    let n = values.rows.min(ENCODED);
    // Short vectors are padded as their last value goes on.
    let width = values.cols.next_multiple_of(info.block);
    let bytes = width / info.block * info.bytes;
    let (mut coded, mut back) = (vec![0u8; bytes], vec![0f32; width]);
    for i in 0..n {
        let r = (i * values.rows + values.rows / 2) / n;
        values.read(r..r + 1, &mut row);
        if row.iter().any(|v| !v.is_finite()) {
            continue;
        }
        let turn = (info.block / 2 + 8).min(row.len() / 2);
        row.rotate_left(turn);
        let mut padded = row.clone();
        padded.resize(width, row.last().copied().unwrap_or(0.0));
        encode(&padded, &mut coded);
        (info.decode)(&coded, &mut back);
        for (x, y) in row.iter().zip(&back) {
            lost += f64::from(x - y).powi(2);
            all += f64::from(*x).powi(2);
        }
    }
    if all > 0.0 { lost / all } else { 0.0 }
}

/// Whether `b` is `a` stored in a coarser or finer float type, each element for itself.
pub(super) fn is_rounding(a: Storage, b: Storage, m: &Moments) -> bool {
    let (Storage::Plain(a), Storage::Plain(b)) = (a, b) else { return false };
    if a == b {
        return false;
    }
    let half = |g: Grid| (g.half_ulp(), if g == Grid::F16 { 2f64.powi(-11) } else { f64::INFINITY });
    let (a, b) = (half(a), half(b));
    let normal = f64::from(m.step_max) <= (a.0 + b.0) * 1.01;
    // Small values of f16 lie further apart.
    let f16 = a.1.min(b.1);
    normal || (f16.is_finite() && f64::from(m.step_f16_max) <= (f16 + a.0.min(b.0)) * 1.01)
}
