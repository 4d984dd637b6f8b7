//! Finding bytes, sixteen at a time.

/// Bytes that are looked at at once.
pub const BLOCK: usize = 16;

/// Where the first `byte` is in `data[start..end]`, as an index of `data`.
///
/// `data` may go on beyond `end`, and is best given whole: a block is read at once where there is one.
#[inline]
pub fn find(data: &[u8], start: usize, end: usize, byte: u8) -> Option<usize> {
    search(data, start, end, |block| mask(block, byte), |b| b == byte)
}

/// Where the first `a` or `b` is in `data[start..end]`, as an index of `data`.
#[inline]
pub fn find2(data: &[u8], start: usize, end: usize, a: u8, b: u8) -> Option<usize> {
    search(data, start, end, |block| mask2(block, a, b), |byte| byte == a || byte == b)
}

/// Where the first of four bytes is in `data[start..end]`, as an index of `data`.
#[inline]
pub fn find4(data: &[u8], start: usize, end: usize, bytes: [u8; 4]) -> Option<usize> {
    let [a, b, c, d] = bytes;
    search(data, start, end, |block| mask2(block, a, b) | mask2(block, c, d), |byte| bytes.contains(&byte))
}

/// Where the first byte of one of the ranges is in `data[start..end]`, as an index of `data`.
///
/// A range is its lowest and its highest byte.
#[inline]
pub fn find_in<const N: usize>(data: &[u8], start: usize, end: usize, ranges: &[(u8, u8); N]) -> Option<usize> {
    let in_block = |block: &_| ranges.iter().fold(0, |bits, (low, high)| bits | mask_range(block, *low, *high));
    search(data, start, end, in_block, |byte| ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)))
}

/// How many digits there are from `data[start]` on, none of them at or beyond `end`.
#[inline]
pub fn digits(data: &[u8], start: usize, end: usize) -> usize {
    const OTHERS: [(u8, u8); 2] = [(0, b'0' - 1), (b'9' + 1, 255)];
    find_in(data, start, end, &OTHERS).unwrap_or(end.max(start)) - start
}

/// The places of one byte in `data[..end]`, one after the other: for many hits close together.
pub struct Hits<'a> {
    data: &'a [u8],
    byte: u8,
    end: usize,
    /// Where the block begins that `bits` is of; none of them is before the place that was sought.
    block: usize,
    bits: u32,
}

impl<'a> Hits<'a> {
    /// Looks in `data[start..end]`. `data` may go on beyond `end`, and is best given whole.
    #[inline]
    pub fn new(data: &'a [u8], start: usize, end: usize, byte: u8) -> Self {
        let mut hits = Hits { data, byte, end, block: 0, bits: 0 };
        hits.seek(start);
        hits
    }

    /// Goes on from `at`.
    #[inline]
    pub fn seek(&mut self, at: usize) {
        self.block = at;
        self.bits = match self.data.get(at..at + BLOCK) {
            Some(block) => mask(block.try_into().expect("a block has its length"), self.byte),
            None => self.last_block(at),
        };
    }

    #[cold]
    fn last_block(&self, at: usize) -> u32 {
        let mut block = [!self.byte; BLOCK];
        let rest = self.data.get(at..).unwrap_or_default();
        block[..rest.len()].copy_from_slice(rest);
        mask(&block, self.byte)
    }
}

impl Iterator for Hits<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.bits == 0 {
            if self.block + BLOCK >= self.end {
                return None;
            }
            self.seek(self.block + BLOCK);
        }
        let at = self.block + self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        (at < self.end).then_some(at)
    }
}

/// Appends `data[start..end]`, in blocks: a call that copies costs as much as a hundred bytes do, and short texts are many.
///
/// `data` may go on beyond `end`, and is best given whole.
#[inline(always)]
pub fn append(data: &[u8], start: usize, end: usize, out: &mut Vec<u8>) {
    let (mut at, all) = (start, out.len() + end.saturating_sub(start));
    while at < end {
        let Some(block) = data.get(at..at + BLOCK) else {
            out.extend_from_slice(&data[at..end]);
            return;
        };
        out.extend_from_slice(<&[u8; BLOCK]>::try_from(block).expect("a block has its length"));
        at += BLOCK;
    }
    out.truncate(all);
}

/// Whether two slices have the same bytes: without a call, eight at a time.
#[inline]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let words = a.chunks_exact(8).zip(b.chunks_exact(8));
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("a word has eight bytes"));
    let differ = words.fold(0, |bits, (a, b)| bits | (word(a) ^ word(b)));
    let tail = a.len() & !7;
    differ == 0 && a[tail..].iter().zip(&b[tail..]).all(|(a, b)| a == b)
}

/// A few bytes to look for at a place, compared as one word.
#[derive(Clone, Debug, Default)]
pub struct Literal {
    bytes: Vec<u8>,
    /// The first eight of them, in the order of memory, and a one for each bit that counts.
    word: u64,
    mask: u64,
}

impl Literal {
    /// Any bytes, also none.
    pub fn new(bytes: &[u8]) -> Self {
        let mut word = [0; 8];
        let short = bytes.len().min(8);
        word[..short].copy_from_slice(&bytes[..short]);
        let mask = if short == 8 { u64::MAX } else { (1 << (8 * short)) - 1 };
        Literal { bytes: bytes.to_vec(), word: u64::from_le_bytes(word), mask }
    }

    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `data[at..end]` begins with the bytes. `data` may go on beyond `end`.
    #[inline]
    pub fn is_at(&self, data: &[u8], at: usize, end: usize) -> bool {
        if at + self.bytes.len() > end {
            return false;
        }
        match data.get(at..at + 8) {
            Some(word) if self.bytes.len() <= 8 => {
                let word = u64::from_le_bytes(word.try_into().expect("a word has eight bytes"));
                word & self.mask == self.word
            }
            _ => data[at..at + self.bytes.len()] == self.bytes[..],
        }
    }
}

#[inline(always)]
fn search(
    data: &[u8],
    mut at: usize,
    end: usize,
    in_block: impl Fn(&[u8; BLOCK]) -> u32,
    is: impl Fn(u8) -> bool,
) -> Option<usize> {
    // Most values are short: the first block by itself, and then two at a time.
    if let Some(block) = data.get(at..at + BLOCK) {
        let hits = in_block(block.try_into().expect("a block has its length"));
        if hits != 0 {
            let found = at + hits.trailing_zeros() as usize;
            return (found < end).then_some(found);
        }
        at += BLOCK;
    }
    while at < end {
        let Some(blocks) = data.get(at..at + 2 * BLOCK) else {
            return data[at..end].iter().position(|b| is(*b)).map(|i| at + i);
        };
        let (low, high) = blocks.split_at(BLOCK);
        let half = |block: &[u8]| in_block(block.try_into().expect("a block has its length"));
        let hits = half(low) | half(high) << BLOCK;
        if hits != 0 {
            let found = at + hits.trailing_zeros() as usize;
            return (found < end).then_some(found);
        }
        at += 2 * BLOCK;
    }
    None
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd {
    use super::BLOCK;
    use std::arch::wasm32::*;

    #[inline(always)]
    #[allow(unsafe_code)]
    fn load(block: &[u8; BLOCK]) -> v128 {
        // SAFETY: the array has the sixteen bytes that are read; the load needs no alignment.
        unsafe { v128_load(block.as_ptr().cast()) }
    }

    /// A bit for each byte of the block that is `byte`.
    #[inline(always)]
    pub fn mask(block: &[u8; BLOCK], byte: u8) -> u32 {
        i8x16_bitmask(i8x16_eq(load(block), i8x16_splat(byte as i8))) as u32
    }

    /// A bit for each byte of the block that is `a` or `b`.
    #[inline(always)]
    pub fn mask2(block: &[u8; BLOCK], a: u8, b: u8) -> u32 {
        let block = load(block);
        let hits = v128_or(i8x16_eq(block, i8x16_splat(a as i8)), i8x16_eq(block, i8x16_splat(b as i8)));
        i8x16_bitmask(hits) as u32
    }

    /// A bit for each byte of the block that is in `low..=high`.
    #[inline(always)]
    pub fn mask_range(block: &[u8; BLOCK], low: u8, high: u8) -> u32 {
        let above = u8x16_sub(load(block), u8x16_splat(low));
        u8x16_bitmask(u8x16_le(above, u8x16_splat(high.wrapping_sub(low)))) as u32
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod simd {
    use super::BLOCK;

    /// A bit for each byte of the block that is `byte`.
    #[inline(always)]
    pub fn mask(block: &[u8; BLOCK], byte: u8) -> u32 {
        (0..BLOCK).fold(0, |bits, i| bits | (((block[i] == byte) as u32) << i))
    }

    /// A bit for each byte of the block that is `a` or `b`.
    #[inline(always)]
    pub fn mask2(block: &[u8; BLOCK], a: u8, b: u8) -> u32 {
        mask(block, a) | mask(block, b)
    }

    /// A bit for each byte of the block that is in `low..=high`.
    #[inline(always)]
    pub fn mask_range(block: &[u8; BLOCK], low: u8, high: u8) -> u32 {
        let width = high.wrapping_sub(low);
        (0..BLOCK).fold(0, |bits, i| bits | (((block[i].wrapping_sub(low) <= width) as u32) << i))
    }
}

pub use simd::{mask, mask_range, mask2};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_found_wherever_it_is_and_not_beyond_the_end() {
        for length in 0..50 {
            for place in 0..length {
                let mut data = vec![b'.'; length];
                data[place] = b'x';
                for start in 0..=length {
                    for end in start..=length {
                        let expected = (start <= place && place < end).then_some(place);
                        assert_eq!(find(&data, start, end, b'x'), expected);
                        assert_eq!(find2(&data, start, end, b'y', b'x'), expected);
                        assert_eq!(find4(&data, start, end, *b"abyx"), expected);
                        assert_eq!(find_in(&data, start, end, &[(0, 0), (b'w', b'x')]), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_appended_is_what_is_there_and_nothing_else() {
        let data: Vec<u8> = (0..60).collect();
        for start in 0..=data.len() {
            for end in start..=data.len() {
                let mut out = b"before".to_vec();
                append(&data, start, end, &mut out);
                assert_eq!(out, [b"before", &data[start..end]].concat());
            }
        }
    }

    #[test]
    fn digits_are_counted_up_to_the_end() {
        for length in 0..40 {
            for behind in ["", "x", "x123456789012345678901234567890", "/", ":"] {
                let data = format!(".{}{behind}", "7".repeat(length));
                for end in 1..=data.len() {
                    assert_eq!(digits(data.as_bytes(), 1, end), length.min(end - 1), "{data} {end}");
                }
            }
        }
    }

    #[test]
    fn hits_come_in_order_and_from_where_they_are_sought() {
        let data = b",a,,bcdefghijklmnopqrstuvw,x,0123456789,,";
        let all: Vec<_> = (0..data.len()).filter(|i| data[*i] == b',').collect();
        for start in 0..=data.len() {
            for end in start..=data.len() {
                let expected: Vec<_> = all.iter().copied().filter(|i| (start..end).contains(i)).collect();
                assert_eq!(Hits::new(data, start, end, b',').collect::<Vec<_>>(), expected, "{start}..{end}");
            }
            let mut hits = Hits::new(data, 0, data.len(), b',');
            hits.next();
            hits.seek(start);
            assert!(hits.eq(all.iter().copied().filter(|i| *i >= start)));
        }
    }

    #[test]
    fn literals_and_equality() {
        for length in 0..20 {
            let bytes: Vec<u8> = (0..length).collect();
            let literal = Literal::new(&bytes);
            for behind in [0, 1, 20] {
                let mut data = vec![0xee; 3];
                data.extend_from_slice(&bytes);
                let end = data.len();
                data.extend(vec![0xee; behind]);
                assert!(literal.is_at(&data, 3, end) && !literal.is_at(&data, 4, end));
                assert!(!literal.is_at(&data, 3, end - 1));
                for wrong in 3..end {
                    let mut data = data.clone();
                    data[wrong] ^= 1;
                    assert!(!literal.is_at(&data, 3, end));
                    assert!(!equal(&data[3..end], &bytes) && equal(&data[3..end], &data.clone()[3..end]));
                }
            }
            assert!(equal(&bytes, &bytes.clone()) && !equal(&bytes, &[&bytes[..], &[0]].concat()));
        }
    }

    #[test]
    fn the_first_of_several_is_found() {
        assert_eq!(find(b"..................xx", 0, 20, b'x'), Some(18));
        assert_eq!(find2(b"...\\..\"", 0, 7, b'"', b'\\'), Some(3));
    }
}
