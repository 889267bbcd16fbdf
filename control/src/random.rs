//! Random identifiers: object UIDs, the ends of generated names, tokens. From the TLS library's generator, which
//! reads the kernel's.

use rustls::crypto::ring;

/// Letters and digits that form no words, as Kubernetes uses for generated names.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The generator fails only before the kernel's pool is initialised; `getrandom` blocks until it is.
    let _ = ring::default_provider().secure_random.fill(&mut bytes);
    bytes
}

/// A version 4 UUID.
pub(crate) fn uid() -> String {
    let mut bytes: [u8; 16] = bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// `length` (at most 32) characters for the end of a name.
pub(crate) fn suffix(length: usize) -> String {
    let bytes: [u8; 32] = bytes();
    bytes.iter().take(length).map(|byte| ALPHABET[usize::from(*byte) % ALPHABET.len()] as char).collect()
}

/// 256 bits in hexadecimal.
pub(crate) fn token() -> String {
    hex(&bytes::<32>())
}

/// A number below `bound`, which is at least 1.
pub(crate) fn below(bound: u64) -> u64 {
    u64::from_le_bytes(bytes()) % bound.max(1)
}

/// One of several, whichever; nothing of none.
pub(crate) fn one_of<T>(mut several: Vec<T>) -> Option<T> {
    let chosen = usize::try_from(below(several.len() as u64)).unwrap_or(0);
    (chosen < several.len()).then(|| several.swap_remove(chosen))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_their_shape_and_differ() {
        let (one, other) = (uid(), uid());
        assert_eq!((one.len(), one.as_bytes()[14]), (36, b'4'));
        assert_ne!(one, other);
        assert_eq!(suffix(5).len(), 5);
        assert_ne!(token(), token());
    }
}
