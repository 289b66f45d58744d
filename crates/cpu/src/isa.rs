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
    /// x86-64 with AMX for 8-bit integers, AVX-512 VNNI and all that [`Isa::Avx512`] needs.
    Amx,
    /// 64-bit ARM.
    Neon,
}

impl Isa {
    /// All, slowest first.
    pub const ALL: [Isa; 5] = [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Amx, Isa::Neon];

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
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => has_avx512_vnni() && has_amx_int8(),
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
            Isa::Amx => "amx",
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
        if matches!(self, Isa::Avx512 | Isa::Amx) && self.supported() && has_avx512_vnni() {
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

/// Whether AMD made this CPU: of its vectors of integers, products and sums have ports of their own.
#[cfg(target_arch = "x86_64")]
pub fn is_amd() -> bool {
    static FOUND: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| {
        #[allow(unused_unsafe)] // safe since some version of the compiler
        // SAFETY: every x86-64 CPU has the instruction and leaf 0.
        let leaf = unsafe { std::arch::x86_64::__cpuid(0) };
        [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
    })
}

/// Whether tiles of 8-bit integers are there and the system lets this process use them (asked once).
#[cfg(target_arch = "x86_64")]
pub fn has_amx_int8() -> bool {
    static FOUND: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *FOUND.get_or_init(|| amx_tiles_and_int8() && amx_permission())
}

/// CPUID leaf 7: bits 24 and 25 of EDX; the system saves both parts of the state (XCR0 bits 17 and 18).
#[cfg(target_arch = "x86_64")]
fn amx_tiles_and_int8() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
    #[target_feature(enable = "xsave")]
    fn saved() -> u64 {
        // SAFETY: OSXSAVE was found before.
        unsafe { _xgetbv(0) }
    }
    #[allow(unused_unsafe)] // safe since some version of the compiler
    // SAFETY: every x86-64 CPU has the instruction, its leaves are bounded by leaf 0.
    unsafe {
        let has_leaf = __cpuid(0).eax >= 7;
        let osxsave = __cpuid(1).ecx >> 27 & 1 == 1;
        has_leaf && osxsave && __cpuid_count(7, 0).edx >> 24 & 3 == 3 && saved() >> 17 & 3 == 3
    }
}

/// Asks Linux for the tiles' state (`arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`), for all threads of the process.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn amx_permission() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XFEATURE_XTILEDATA: u64 = 18;
    let mut result = ARCH_PRCTL;
    // SAFETY: the system call reads its two arguments alone; it clobbers what is named.
    unsafe {
        std::arch::asm!("syscall", inout("rax") result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XFEATURE_XTILEDATA,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result == 0
}

#[cfg(all(target_arch = "x86_64", not(target_os = "linux")))]
fn amx_permission() -> bool {
    false
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
