//! Changes bytes as a fuzzer does, the same way in every run.

/// A seeded hand.
pub struct Mutator {
    state: u64,
    tokens: Vec<Vec<u8>>,
}

impl Mutator {
    pub fn new(seed: u64, tokens: Vec<Vec<u8>>) -> Self {
        Self { state: seed, tokens }
    }

    /// A number below `end` (SplitMix64).
    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % end.max(1) as u64) as usize
    }

    /// `input` with one to four changes; some put in pieces of `other`.
    pub fn changed(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, other);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len());
        let length = 1 + self.below(24);
        let end = (at + length).min(bytes.len());
        match self.below(8) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
            2 => drop(bytes.drain(at..end)),
            3 => {
                let piece = bytes[at..end].to_vec();
                let place = self.below(bytes.len() + 1);
                drop(bytes.splice(place..place, piece));
            }
            4 => {
                let from = self.below(other.len());
                let piece = other[from..(from + 8 * length).min(other.len())].to_vec();
                drop(bytes.splice(at..end, piece));
            }
            5 => bytes.truncate(bytes.len() - self.below(bytes.len() / 4)),
            _ if !self.tokens.is_empty() => {
                let token = self.below(self.tokens.len());
                let replaced = if self.below(2) == 0 { at } else { end };
                drop(bytes.splice(at..replaced, self.tokens[token].clone()));
            }
            _ => {}
        }
    }
}

/// The words of a libFuzzer dictionary: a quoted one a line, `\\`, `\"` and `\xNN` escaped.
pub fn tokens(dictionary: &str) -> Vec<Vec<u8>> {
    let lines = dictionary.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| unquoted(line).unwrap_or_else(|| panic!("{line:?} is no word"))).collect()
}

fn unquoted(line: &str) -> Option<Vec<u8>> {
    let mut rest = line.strip_prefix('"')?.strip_suffix('"')?.bytes();
    let mut word = Vec::new();
    while let Some(byte) = rest.next() {
        word.push(match byte {
            b'\\' => match rest.next()? {
                b'x' => {
                    let digits = [rest.next()?, rest.next()?];
                    u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
                }
                escaped @ (b'\\' | b'"') => escaped,
                _ => return None,
            },
            plain => plain,
        });
    }
    Some(word)
}

#[test]
fn words_of_a_dictionary_are_read_as_libfuzzer_reads_them() {
    assert_eq!(tokens("# a\n\"a\\x0d\\\\\\\"b\"\n"), [b"a\r\\\"b".to_vec()]);
}
