//! What comes in frames, each with its length before it: where requests begin, and answers.

use std::io;

use super::Fault;
use super::kafka::Conversation;

/// With what a connection of HTTP/2 begins.
pub const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The type of a frame of HTTP/2 that begins a request, or an answer.
const HEADERS: u8 = 1;

/// What a connection speaks.
pub enum Speech {
    /// HTTP/1.1, which has no frames, or what is only bytes here: those that are there are one.
    Unknown,
    Http2,
    Kafka(Conversation),
}

/// What to do with what a client says.
pub enum Turn {
    /// It is answered here.
    Ours(Vec<u8>),
    /// It is the server's to answer. Whether it begins a request with events.
    Theirs { is_request: bool },
}

impl Speech {
    /// Takes the frame at the beginning, if it is whole.
    pub fn take_frame(&self, bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
        let length = match self {
            Speech::Unknown => bytes.len(),
            Speech::Http2 if bytes.starts_with(HTTP2) => HTTP2.len(),
            Speech::Http2 => 9 + usize::from(*bytes.first()?) * 0x1_0000 + u16_at(bytes, 1)?,
            Speech::Kafka(_) => 4 + u16_at(bytes, 0)? * 0x1_0000 + u16_at(bytes, 2)?,
        };
        (length > 0 && bytes.len() >= length).then(|| bytes.drain(..length).collect())
    }

    /// What is to be done with a client's frame.
    pub fn request(&self, frame: &[u8], fault: &Fault) -> io::Result<Turn> {
        match self {
            Speech::Unknown => Ok(Turn::Theirs { is_request: false }),
            Speech::Http2 => Ok(Turn::Theirs { is_request: frame[3] == HEADERS }),
            Speech::Kafka(conversation) => conversation.request(frame, fault),
        }
    }

    /// Whether a server's frame answers a request with events, as what is not known may do. It is changed if need be.
    pub fn reply(&self, frame: &mut [u8]) -> io::Result<bool> {
        match self {
            Speech::Unknown => Ok(true),
            Speech::Http2 => Ok(frame[3] == HEADERS),
            Speech::Kafka(conversation) => conversation.reply(frame),
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().unwrap()).into())
}
