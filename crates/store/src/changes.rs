//! Changes of a sound document, byte by byte, for the tests of what reads others' lists.

/// What breaks readers: put in at random places.
const PIECES: [&[u8]; 12] =
    [b"..", b"/", b"\\\\", b"\\u0000", b"\"", b"{", b"]", b"-1", b"1e999", b"null", b"\xff", b"18446744073709551616"];
/// How many changed documents there are.
const COUNT: usize = 50_000;

/// The same documents at every run, each with one to three changes of `sound`.
pub(crate) fn of(sound: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 1u64;
    let mut next = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    (0..COUNT).map(move |_| {
        let mut bytes = sound.to_vec();
        for _ in 0..1 + next(3) {
            let at = next(bytes.len());
            match next(3) {
                0 => bytes[at] = next(256) as u8,
                1 => drop(bytes.splice(at..at, PIECES[next(PIECES.len())].iter().copied())),
                _ => drop(bytes.drain(at..(at + 1 + next(9)).min(bytes.len()))),
            }
        }
        bytes
    })
}
