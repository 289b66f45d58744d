//! Instruction sets: which exist, which this machine has, and how one is forced. Every set computes the same bits;
//! the choice is about speed alone.
use std::{fmt, str::FromStr};

/// An instruction set that kernels are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain code, on every machine.
    Scalar,
    /// x86-64 with AVX2, FMA, F16C and BMI.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and DQ, and all that [`Isa::Avx2`] needs.
    Avx512,
    /// 64-bit ARM.
    Neon,
}

impl Isa {
    /// All, slowest first.
    pub const ALL: [Isa; 4] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Neon];

    /// The fastest that this machine has.
    pub fn detect() -> Isa {
        Isa::ALL.into_iter().rev().find(|i| i.supported()).unwrap_or(Isa::Scalar)
    }

    /// Whether this machine (and operating system) can run it.
    pub fn supported(self) -> bool {
        match self {
            Isa::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx2() && avx512(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            _ => false,
        }
    }

    /// Its name on the command line and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Neon => "neon",
        }
    }

    /// Extensions found beside what the set requires, for logs: kernels may use them, results do not change.
    pub fn extras(self) -> Vec<&'static str> {
        #[allow(unused_mut)]
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        if self == Isa::Avx2 && self.supported() && has_avx_vnni() {
            found.push("avxvnni");
        }
        #[cfg(target_arch = "x86_64")]
        if self == Isa::Avx512 && self.supported() && has_avx512_vnni() {
            found.push("avx512vnni");
        }
        found
    }
}

#[cfg(target_arch = "x86_64")]
fn avx2() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx2") && has!("fma") && has!("f16c") && has!("bmi1") && has!("bmi2")
}

#[cfg(target_arch = "x86_64")]
fn avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq")
}

/// Whether the 512-bit integer dot product instructions are there.
#[cfg(target_arch = "x86_64")]
pub fn has_avx512_vnni() -> bool {
    avx512() && std::arch::is_x86_feature_detected!("avx512vnni")
}

/// Whether the 256-bit integer dot product instructions are there (VEX encoding).
#[cfg(target_arch = "x86_64")]
pub fn has_avx_vnni() -> bool {
    avx2() && std::arch::is_x86_feature_detected!("avxvnni")
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = Error;

    fn from_str(s: &str) -> Result<Isa, Error> {
        Isa::ALL.into_iter().find(|i| i.name() == s).ok_or_else(|| Error::UnknownIsa(s.to_string()))
    }
}

/// Why a backend cannot be made as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No instruction set has this name.
    UnknownIsa(String),
    /// This machine lacks it.
    UnsupportedIsa(Isa),
    /// A number of threads that makes no sense (0, or beyond [`crate::MAX_THREADS`]).
    Threads(usize),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let have = || Isa::ALL.into_iter().filter(|i| i.supported()).map(Isa::name).collect::<Vec<_>>().join(", ");
        match self {
            Error::UnknownIsa(name) => write!(f, "instruction set `{name}`: expected one of {}", have()),
            Error::UnsupportedIsa(isa) => write!(f, "instruction set `{isa}`: this machine has {}", have()),
            Error::Threads(n) => write!(f, "threads: expected 1 to {}, got {n}", crate::MAX_THREADS),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_round_and_detection_is_supported() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
        assert!("sse".parse::<Isa>().is_err());
        assert!(Isa::detect().supported());
        assert!(Isa::Scalar.supported());
    }
}
