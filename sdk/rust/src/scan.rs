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

#[inline(always)]
fn search(
    data: &[u8],
    mut at: usize,
    end: usize,
    in_block: impl Fn(&[u8; BLOCK]) -> u32,
    is: impl Fn(u8) -> bool,
) -> Option<usize> {
    while at < end {
        let Some(block) = data.get(at..at + BLOCK) else {
            return data[at..end].iter().position(|b| is(*b)).map(|i| at + i);
        };
        let hits = in_block(block.try_into().expect("a block has its length"));
        if hits != 0 {
            let found = at + hits.trailing_zeros() as usize;
            return (found < end).then_some(found);
        }
        at += BLOCK;
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
}

pub use simd::{mask, mask2};

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
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_of_several_is_found() {
        assert_eq!(find(b"..................xx", 0, 20, b'x'), Some(18));
        assert_eq!(find2(b"...\\..\"", 0, 7, b'"', b'\\'), Some(3));
    }
}
