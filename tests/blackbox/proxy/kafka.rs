//! Kafka's protocol, as far as librdkafka's own cluster lacks what real ones do: it advertises the port of the proxy,
//! asks who is there (SASL), and refuses records for what they are.
//!
//! Few versions of requests are offered, so that each has one form here.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

use super::Fault;
use super::frames::Turn;

// Kinds of requests.
const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;

/// The versions of requests that are offered, from and to: what a producer needs, and to read what it has from.
const OFFERED: [(i16, i16, i16); 7] = [
    (PRODUCE, 7, 7),
    (1, 4, 11),
    (METADATA, 4, 7),
    (SASL_HANDSHAKE, 1, 1),
    (API_VERSIONS, 0, 0),
    // A producer's number.
    (22, 0, 1),
    (SASL_AUTHENTICATE, 0, 0),
];

// Errors.
const UNSUPPORTED_MECHANISM: i16 = 33;
const UNSUPPORTED_VERSION: i16 = 35;
const AUTHENTICATION_FAILED: i16 = 58;
const INVALID_RECORD: i16 = 87;

/// The salt of passwords, and how often they are hashed.
const SALT: &[u8] = b"weir's tests";
const ROUNDS: u32 = 4096;

/// What the proxy makes of a broker.
#[derive(Default)]
pub struct Broker {
    /// Who may produce; without one, all.
    user: Option<User>,
    /// The port that clients are sent to.
    port: AtomicU16,
}

/// Who may produce, and how that is proved.
#[derive(Clone, Copy)]
pub struct User {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: &'static str,
    pub name: &'static str,
    pub password: &'static str,
}

impl Broker {
    /// One that asks who is there.
    pub fn with(user: User) -> Broker {
        Broker { user: Some(user), ..Broker::default() }
    }

    pub(super) fn advertise(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    pub(super) fn meet(self: &Arc<Broker>) -> Conversation {
        let proof = if self.user.is_some() { Proof::Nothing } else { Proof::Given };
        Conversation { broker: self.clone(), asked: Mutex::default(), proof: Mutex::new(proof) }
    }
}

/// A connection.
pub struct Conversation {
    broker: Arc<Broker>,
    /// What was asked, by its number.
    asked: Mutex<HashMap<i32, i16>>,
    proof: Mutex<Proof>,
}

/// How far a client is with its proof.
enum Proof {
    Nothing,
    /// It has been given a nonce: what was said before its last word, and that nonce.
    Asked(String, String),
    Given,
}

impl Conversation {
    /// What is to be done with a request.
    pub fn request(&self, frame: &[u8], fault: &Fault) -> io::Result<Turn> {
        let mut at = Reader(&frame[4..]);
        let (kind, version, number) = (at.i16()?, at.i16()?, at.i32()?);
        let _client = at.text()?;
        let answer = match kind {
            API_VERSIONS => Some(api_versions(version)),
            SASL_HANDSHAKE => Some(self.handshake(at.text()?)),
            SASL_AUTHENTICATE => Some(self.authenticate(at.bytes()?)),
            // As real ones do.
            _ if !matches!(*self.proof.lock().unwrap(), Proof::Given) => {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            PRODUCE => match fault {
                Fault::Poison { text } if memchr::memmem::find(frame, text.as_bytes()).is_some() => Some(refusal(at)?),
                _ => None,
            },
            _ => None,
        };
        match answer {
            Some(body) => Ok(Turn::Ours(framed(number, &body))),
            None => {
                self.asked.lock().unwrap().insert(number, kind);
                Ok(Turn::Theirs { is_request: kind == PRODUCE })
            }
        }
    }

    /// Whether records were produced by what this answers. Ports in it become the one that is advertised.
    pub fn reply(&self, frame: &mut [u8]) -> io::Result<bool> {
        let mut at = Reader(&frame[4..]);
        let kind = self.asked.lock().unwrap().remove(&at.i32()?);
        if kind == Some(METADATA) {
            let _throttled = at.i32()?;
            let mut ports = Vec::new();
            for _ in 0..at.i32()? {
                let (_node, _host) = (at.i32()?, at.text()?);
                ports.push(frame.len() - at.0.len());
                let (_port, _rack) = (at.i32()?, at.text()?);
            }
            let port = i32::from(self.broker.port.load(Ordering::Relaxed)).to_be_bytes();
            ports.into_iter().for_each(|at| frame[at..at + 4].copy_from_slice(&port));
        }
        Ok(kind == Some(PRODUCE))
    }

    fn handshake(&self, mechanism: &str) -> Vec<u8> {
        let known = self.broker.user.map_or("", |user| user.mechanism);
        let error = if mechanism == known { 0 } else { UNSUPPORTED_MECHANISM };
        let mut body = i16::to_be_bytes(error).to_vec();
        body.extend(1_i32.to_be_bytes());
        put_text(&mut body, known);
        body
    }

    /// What a client's word in its proof is answered with.
    fn authenticate(&self, word: &[u8]) -> Vec<u8> {
        let mut proof = self.proof.lock().unwrap();
        let answer = self.broker.user.and_then(|user| user.judge(&mut proof, std::str::from_utf8(word).ok()?));
        let error = if answer.is_some() { 0 } else { AUTHENTICATION_FAILED };
        let mut body = i16::to_be_bytes(error).to_vec();
        // No message.
        body.extend((-1_i16).to_be_bytes());
        let answer = answer.unwrap_or_default();
        body.extend((answer.len() as i32).to_be_bytes());
        body.extend(answer.as_bytes());
        body
    }
}

impl User {
    /// The answer to what a client says, none if it is wrong.
    fn judge(&self, proof: &mut Proof, word: &str) -> Option<String> {
        if self.mechanism == "PLAIN" {
            let is_right = word == format!("\0{}\0{}", self.name, self.password);
            *proof = if is_right { Proof::Given } else { Proof::Nothing };
            return is_right.then(String::new);
        }
        match std::mem::replace(proof, Proof::Nothing) {
            Proof::Nothing => {
                let first = word.strip_prefix("n,,")?;
                let nonce = first.strip_prefix(&format!("n={},r=", self.name))?.to_owned() + "ours";
                let answer = format!("r={nonce},s={},i={ROUNDS}", BASE64.encode(SALT));
                *proof = Proof::Asked(format!("{first},{answer}"), nonce);
                Some(answer)
            }
            Proof::Asked(before, nonce) => {
                let (said, given) = word.rsplit_once(",p=")?;
                let all = format!("{before},{said}");
                let salted = self.salted();
                let client = self.hmac(&salted, b"Client Key");
                let mask = self.hmac(&self.hash(&client), all.as_bytes());
                let expected: Vec<u8> = client.iter().zip(mask).map(|(a, b)| a ^ b).collect();
                if said != format!("c=biws,r={nonce}") || given != BASE64.encode(expected) {
                    return None;
                }
                *proof = Proof::Given;
                let own = self.hmac(&self.hmac(&salted, b"Server Key"), all.as_bytes());
                Some(format!("v={}", BASE64.encode(own)))
            }
            Proof::Given => None,
        }
    }

    /// The password as SCRAM uses it.
    fn salted(&self) -> Vec<u8> {
        let mut last = self.hmac(self.password.as_bytes(), &[SALT, &[0, 0, 0, 1]].concat());
        let mut salted = last.clone();
        for _ in 1..ROUNDS {
            last = self.hmac(self.password.as_bytes(), &last);
            salted.iter_mut().zip(&last).for_each(|(a, b)| *a ^= b);
        }
        salted
    }

    fn hash(&self, bytes: &[u8]) -> Vec<u8> {
        match self.mechanism {
            "SCRAM-SHA-256" => Sha256::digest(bytes).to_vec(),
            _ => Sha512::digest(bytes).to_vec(),
        }
    }

    fn hmac(&self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        fn by<M: Mac + KeyInit>(key: &[u8], bytes: &[u8]) -> Vec<u8> {
            let mut mac = <M as KeyInit>::new_from_slice(key).unwrap();
            mac.update(bytes);
            mac.finalize().into_bytes().to_vec()
        }
        match self.mechanism {
            "SCRAM-SHA-256" => by::<Hmac<Sha256>>(key, bytes),
            _ => by::<Hmac<Sha512>>(key, bytes),
        }
    }
}

/// What is offered, in the oldest form: who asks in another is told so.
fn api_versions(version: i16) -> Vec<u8> {
    let error = if version == 0 { 0 } else { UNSUPPORTED_VERSION };
    let mut body = i16::to_be_bytes(error).to_vec();
    body.extend((OFFERED.len() as i32).to_be_bytes());
    for (kind, from, to) in OFFERED {
        [kind, from, to].iter().for_each(|number| body.extend(number.to_be_bytes()));
    }
    body
}

/// That all records of a request to produce are refused.
fn refusal(mut at: Reader) -> io::Result<Vec<u8>> {
    let (_transaction, _acks, _timeout) = (at.text()?, at.i16()?, at.i32()?);
    let mut body = Vec::new();
    let topics = at.i32()?;
    body.extend(topics.to_be_bytes());
    for _ in 0..topics {
        put_text(&mut body, at.text()?);
        let partitions = at.i32()?;
        body.extend(partitions.to_be_bytes());
        for _ in 0..partitions {
            let (partition, _records) = (at.i32()?, at.bytes()?);
            body.extend(partition.to_be_bytes());
            body.extend(INVALID_RECORD.to_be_bytes());
            // Its offset, its time, and where the log begins: not known.
            body.extend([0xff; 24]);
        }
    }
    // Not throttled.
    body.extend(0_i32.to_be_bytes());
    Ok(body)
}

fn framed(number: i32, body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32 + 4).to_be_bytes()[..], &number.to_be_bytes(), body].concat()
}

fn put_text(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as i16).to_be_bytes());
    body.extend(text.as_bytes());
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(io::ErrorKind::InvalidData)?;
        self.0 = rest;
        Ok(taken)
    }

    fn i16(&mut self) -> io::Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into().unwrap()))
    }

    fn i32(&mut self) -> io::Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into().unwrap()))
    }

    /// Nothing is the same as an empty one.
    fn text(&mut self) -> io::Result<&'a str> {
        let length = self.i16()?.max(0) as usize;
        std::str::from_utf8(self.take(length)?).map_err(io::Error::other)
    }

    fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let length = self.i32()?.max(0) as usize;
        self.take(length)
    }
}
