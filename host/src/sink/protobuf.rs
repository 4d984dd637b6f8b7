//! Protobuf's wire format, as far as sinks write it by hand.

use super::Buffer;

/// Bytes that are copied at once where that is faster than to count them.
const BLOCK: usize = 32;

/// The tag of a field with a number.
pub const fn varint_tag(field: u8) -> u8 {
    field << 3
}

/// The tag of a field with bytes, text or a message.
pub const fn bytes_tag(field: u8) -> u8 {
    field << 3 | 2
}

/// The tag of a field with four bytes.
pub const fn fixed32_tag(field: u8) -> u8 {
    field << 3 | 5
}

/// The tag of a field with eight bytes.
pub const fn fixed64_tag(field: u8) -> u8 {
    field << 3 | 1
}

/// Appends a field with bytes, text or a message.
pub fn put_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    put_head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends what stands before the bytes of such a field.
pub fn put_head(out: &mut Vec<u8>, field: u8, len: usize) {
    out.push(bytes_tag(field));
    put_varint(out, len as u64);
}

/// Appends a number of 1 to 10 bytes.
pub fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Bytes of a field with so many bytes, and what stands before them.
#[inline]
pub fn bytes_len(len: usize) -> usize {
    1 + varint_len(len) + len
}

/// Bytes of a number.
#[inline]
pub fn varint_len(number: usize) -> usize {
    match number {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => (number.ilog2() as usize) / 7 + 1,
    }
}

/// Something short that is written again and again.
pub struct Stamp {
    len: usize,
    /// It, if it is short, and then anything.
    short: [u8; BLOCK],
    whole: Vec<u8>,
}

impl Stamp {
    /// Of these bytes.
    pub fn new(whole: Vec<u8>) -> Self {
        let mut short = [0; BLOCK];
        let len = whole.len();
        short[..len.min(BLOCK)].copy_from_slice(&whole[..len.min(BLOCK)]);
        Stamp { len, short, whole }
    }

    /// Bytes that it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// It.
    pub fn as_slice(&self) -> &[u8] {
        &self.whole
    }
}

/// Writes to a buffer in which room was made before, so that small things need not ask for it.
pub struct Writer {
    room: Vec<u8>,
    len: usize,
}

impl Writer {
    /// Room for a field beside its name and value: tags, lengths, and what is copied beyond an end.
    pub const PER_FIELD: usize = 24 + 2 * BLOCK;

    /// Goes on with a buffer.
    pub fn new(buffer: &mut Buffer) -> Self {
        Writer { room: std::mem::take(&mut buffer.room), len: std::mem::take(&mut buffer.len) }
    }

    /// The buffer with all that was written.
    pub fn finish(self) -> Buffer {
        Buffer { room: self.room, len: self.len }
    }

    /// Bytes that were written.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Makes room for so many bytes.
    #[inline]
    pub fn reserve(&mut self, bytes: usize) {
        let needed = self.len + bytes + Self::PER_FIELD;
        if self.room.len() < needed {
            self.grow(needed);
        }
    }

    #[cold]
    fn grow(&mut self, needed: usize) {
        let len = needed.max(self.room.capacity()).max(self.room.len() * 2);
        self.room.resize(len, 0);
    }

    /// Writes a byte, for which there is room.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.room[self.len] = byte;
        self.len += 1;
    }

    /// Writes a number, for which there is room.
    #[inline]
    pub fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    /// Writes what stands before the bytes of a field, for which there is room.
    #[inline]
    pub fn head(&mut self, field: u8, len: usize) {
        self.byte(bytes_tag(field));
        self.varint(len as u64);
    }

    /// Writes bytes, for which there is room.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.room[self.len..][..bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Writes a stamp, for which there is room.
    #[inline(always)]
    pub fn stamp(&mut self, stamp: &Stamp) {
        if stamp.len <= BLOCK {
            self.room[self.len..][..BLOCK].copy_from_slice(&stamp.short);
            self.len += stamp.len;
        } else {
            self.bytes(&stamp.whole);
        }
    }

    /// Writes a stamp with others in the place of its second and its last byte, for which there is room. False, and
    /// nothing is written, if the stamp is not short.
    #[inline(always)]
    pub fn filled(&mut self, stamp: &Stamp, second: u8, last: u8) -> bool {
        if !(2..=BLOCK).contains(&stamp.len) {
            return false;
        }
        let room = &mut self.room[self.len..][..BLOCK];
        room.copy_from_slice(&stamp.short);
        room[1] = second;
        room[stamp.len - 1] = last;
        self.len += stamp.len;
        true
    }

    /// Writes `all[start..end]`, for which there is room.
    #[inline(always)]
    pub fn part(&mut self, all: &[u8], start: usize, end: usize) {
        let len = end - start;
        if len <= BLOCK
            && let Some(block) = all.get(start..start + BLOCK)
        {
            self.room[self.len..][..BLOCK].copy_from_slice(block);
            self.len += len;
        } else {
            self.bytes(&all[start..end]);
        }
    }

    /// Begins a message, of which nothing is known but that it is often between 128 bytes and 16 KiB long.
    #[inline]
    pub fn begin(&mut self, field: u8) -> usize {
        self.byte(bytes_tag(field));
        self.len += 2;
        self.len
    }

    /// Ends the message that was begun there: writes its length.
    #[inline]
    pub fn end(&mut self, begun: usize) {
        let len = self.len - begun;
        if (0x80..0x4000).contains(&len) {
            self.room[begun - 2] = len as u8 | 0x80;
            self.room[begun - 1] = (len >> 7) as u8;
        } else {
            self.end_elsewhere(begun, len);
        }
    }

    /// The same where its length takes more or less room than was left for it.
    #[inline(never)]
    fn end_elsewhere(&mut self, begun: usize, len: usize) {
        self.reserve(8);
        let at = begun - 2 + varint_len(len);
        self.room.copy_within(begun..self.len, at);
        self.len = begun - 2;
        self.varint(len as u64);
        self.len += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_all_sizes_are_what_a_reader_expects() {
        for len in [0, 1, 127, 128, 129, 16_383, 16_384, 16_385, 2_097_151, 2_097_152, 3_000_000] {
            let bytes = vec![b'x'; len];
            let mut expected = Vec::new();
            put_bytes(&mut expected, 1, &bytes);
            assert_eq!(expected.len(), 1 + varint_len(len) + len);
            let mut buffer = Buffer::from("before");
            let mut writer = Writer::new(&mut buffer);
            writer.reserve(len + 3);
            let begun = writer.begin(1);
            writer.bytes(&bytes);
            writer.end(begun);
            let read = prost::encoding::decode_varint(&mut &writer.room[7..]).unwrap();
            assert_eq!(read, len as u64);
            let buffer = writer.finish();
            assert_eq!(&buffer.as_slice()[..6], b"before");
            assert!(buffer.as_slice()[6..] == expected, "{len}");
        }
    }

    #[test]
    fn a_stamp_is_filled_if_it_is_short() {
        for (len, expected) in
            [(1, None), (2, Some(vec![7, 9])), (32, Some([vec![7, 8], vec![7; 29], vec![9]].concat())), (33, None)]
        {
            let mut writer = Writer::new(&mut Buffer::default());
            writer.reserve(0);
            let is_written = writer.filled(&Stamp::new(vec![7; len]), 8, 9);
            assert_eq!(is_written.then(|| writer.finish().as_slice().to_vec()), expected, "{len}");
        }
    }

    #[test]
    fn parts_and_stamps_of_all_lengths_are_copied() {
        let all: Vec<u8> = (0..200).collect();
        for start in [0, 1, 150, 199, 200] {
            for end in start..=200 {
                let mut writer = Writer::new(&mut Buffer::default());
                writer.reserve(500);
                writer.part(&all, start, end);
                writer.stamp(&Stamp::new(all[start..end].to_vec()));
                assert_eq!(writer.finish().as_slice(), [&all[start..end], &all[start..end]].concat());
            }
        }
    }
}
