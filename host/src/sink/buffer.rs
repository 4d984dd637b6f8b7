//! The memory of payloads.

use bytes::Bytes;

/// Bytes that an encoder appends to, and then more room that has been written to before.
///
/// A `Vec` by itself would have to be filled with zeros again for each payload.
#[derive(Debug, Default)]
pub struct Buffer {
    pub(super) room: Vec<u8>,
    pub(super) len: usize,
}

impl Buffer {
    /// What was appended.
    pub fn as_slice(&self) -> &[u8] {
        &self.room[..self.len]
    }

    /// Bytes that were appended.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that it has.
    pub fn capacity(&self) -> usize {
        self.room.capacity()
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what was appended.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl From<&str> for Buffer {
    fn from(text: &str) -> Self {
        Buffer { room: text.into(), len: text.len() }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Buffer { len: bytes.len(), room: bytes }
    }
}

impl From<Buffer> for Vec<u8> {
    fn from(mut buffer: Buffer) -> Self {
        buffer.room.truncate(buffer.len);
        buffer.room
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Vec::from(buffer).into()
    }
}

impl Buffer {
    /// Appends bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if self.room.len() < end {
            self.room.truncate(self.len);
            self.room.extend_from_slice(bytes);
        } else {
            self.room[self.len..end].copy_from_slice(bytes);
        }
        self.len = end;
    }

    /// Appends what `write` appends to the room.
    pub fn extend_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.room.truncate(self.len);
        write(&mut self.room);
        self.len = self.room.len();
    }
}
