//! A block of headers as HPACK writes it (RFC 7541, section 6): its fields one after the other, only so far that a value
//! of `:authority` can be found and its length told. No table is kept: clients name that field by its number (those in Go)
//! or spell it (those on gRPC's core).

/// `:authority` in the table that everybody has; there its value is empty.
const AUTHORITY: usize = 1;
/// Its name spelled out, and in HPACK's code.
const SPELLED: [&[u8]; 2] = [b":authority", b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f"];
/// What stands in for a letter of a name that nobody asks for.
const LETTER: u8 = b'x';
/// `:authority` with one letter, for once: nobody remembers it.
const ONCE: [u8; 3] = [AUTHORITY as u8, 1, LETTER];
/// How many letters of HPACK's alphabet have codes of how many bits; the code is canonical, so that is all of it.
const CODES: [u32; 31] = {
    let mut codes = [0; 31];
    let known = [
        (5, 10),
        (6, 26),
        (7, 32),
        (8, 6),
        (10, 5),
        (11, 3),
        (12, 2),
        (13, 6),
        (14, 2),
        (15, 3),
        (19, 3),
        (20, 8),
        (21, 13),
        (22, 26),
        (23, 29),
        (24, 12),
        (25, 4),
        (26, 15),
        (27, 19),
        (28, 29),
        (30, 4),
    ];
    let mut at = 0;
    while at < known.len() {
        codes[known[at].0] = known[at].1;
        at += 1;
    }
    codes
};

/// The block with another authority. What is not understood stays, from there to the end.
pub(super) fn renamed(block: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::with_capacity(block.len() + 32), block);
    while let Some((field, after)) = Field::read(rest) {
        field.write(&mut out);
        rest = after;
    }
    out.extend(rest);
    out
}

enum Field<'a> {
    Other(&'a [u8]),
    /// The authority of the common table.
    Empty,
    /// What comes before its value, and how many letters that has.
    Authority(&'a [u8], usize),
}

impl<'a> Field<'a> {
    fn read(block: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (prefix, literal) = match *block.first()? {
            0x80.. => (7, false),
            0x40.. => (6, true),
            0x20.. => (5, false),
            _ => (4, true),
        };
        let mut reader = Reader { block, at: 0 };
        let name = reader.number(prefix)?;
        if !literal {
            let (field, after) = block.split_at(reader.at);
            let empty = prefix == 7 && name == AUTHORITY;
            return Some((if empty { Self::Empty } else { Self::Other(field) }, after));
        }
        let found = if name == 0 { SPELLED.contains(&reader.string()?) } else { name == AUTHORITY };
        let begin = reader.at;
        let letters = reader.letters()?;
        let (field, after) = block.split_at(reader.at);
        let found = found && letters > 0;
        Some((if found { Self::Authority(&field[..begin], letters) } else { Self::Other(field) }, after))
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Other(field) => out.extend(*field),
            Self::Empty => out.extend(ONCE),
            Self::Authority(name, letters) => {
                out.extend(*name);
                write_length(*letters, out);
                out.resize(out.len() + letters, LETTER);
            }
        }
    }
}

struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.block.get(self.at)?;
        self.at += 1;
        Some(*byte)
    }

    /// A number whose first byte has `prefix` bits of it (section 5.1).
    fn number(&mut self, prefix: u32) -> Option<usize> {
        let full = (1 << prefix) - 1;
        let mut number = usize::from(self.byte()?) & full;
        if number < full {
            return Some(number);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// How many letters the string here has; it is passed by.
    fn letters(&mut self) -> Option<usize> {
        let coded = *self.block.get(self.at)? >= 0x80;
        let string = self.string()?;
        Some(if coded { coded_letters(string) } else { string.len() })
    }

    /// The bytes of the string here.
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.number(7)?;
        let string = self.block.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(string)
    }
}

/// How many codes there are in these bytes; the bits after the last one are less than a code.
fn coded_letters(string: &[u8]) -> usize {
    let (mut letters, mut code, mut first, mut bits) = (0, 0_u32, 0_u32, 0_usize);
    for byte in string {
        for shift in (0..8).rev() {
            // The first code of each length follows on the last of the length before.
            first = (first + CODES[bits]) << 1;
            bits += 1;
            code = code << 1 | u32::from(byte >> shift & 1);
            if code - first < CODES[bits] {
                (code, first, bits) = (0, 0, 0);
                letters += 1;
            }
        }
    }
    letters
}

fn write_length(length: usize, out: &mut Vec<u8>) {
    if length < 0x7f {
        return out.push(u8::try_from(length).unwrap_or_default());
    }
    out.push(0x7f);
    let mut left = length - 0x7f;
    while left >= 0x80 {
        out.push(u8::try_from(left & 0x7f).unwrap_or_default() | 0x80);
        left >>= 7;
    }
    out.push(u8::try_from(left).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coded_letters_are_counted() {
        // Examples of RFC 7541, appendix C.4 and C.6.
        let coded = |hex: &str| {
            let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
            coded_letters(&bytes.collect::<Vec<_>>())
        };
        assert_eq!(coded("f1e3c2e5f23a6ba0ab90f4ff"), "www.example.com".len());
        assert_eq!(coded("a8eb10649cbf"), "no-cache".len());
        assert_eq!(
            coded("d07abe941054d444a8200595040b8166e082a62d1bff"),
            "Mon, 21 Oct 2013 20:13:21 GMT".len()
        );
        assert_eq!(coded("9d29ad171863c78f0b97c8e9ae82ae43d3"), "https://www.example.com".len());
        assert_eq!(coded(""), 0);
        // No code is longer than 30 bits, whatever comes.
        assert_eq!(coded(&"ff".repeat(60)), 16);
    }

    #[test]
    fn only_the_authority_changes() {
        let path = b"\x83\x86\x44\x04/s/m\x41\x06/run/s\x5f\x01c\x40\x01a\x01b\x3f\xe1\x1f\x10\x01c\x01d";
        let other = b"\x83\x86\x44\x04/s/m\x41\x06xxxxxx\x5f\x01c\x40\x01a\x01b\x3f\xe1\x1f\x10\x01c\x01d";
        assert_eq!(renamed(path), other);
        assert_eq!(
            renamed(b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x83"),
            b"\x41\x0fxxxxxxxxxxxxxxx\x83"
        );
        assert_eq!(renamed(b"\x40\x0a:authority\x04a%2F\x83"), b"\x40\x0a:authority\x04xxxx\x83");
        let coded = b"\x10\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f";
        assert_eq!(renamed(&[&coded[..], b"\x02/a"].concat()), [&coded[..], b"\x02xx"].concat());
        assert_eq!(renamed(b"\x81\x83"), b"\x01\x01x\x83");
        assert_eq!(renamed(b"\x41\x00"), b"\x41\x00");
    }

    #[test]
    fn a_long_name_keeps_its_length() {
        for length in [126, 127, 128, 254, 255, 300, 16_000] {
            let mut block = vec![0x41];
            write_length(length, &mut block);
            block.resize(block.len() + length, b'/');
            let after = renamed(&block);
            assert_eq!(after.len(), block.len());
            assert_eq!(Reader { block: &after, at: 1 }.letters(), Some(length));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_are_too_odd(block: Vec<u8>) {
            renamed(&block);
        }
    }
}
