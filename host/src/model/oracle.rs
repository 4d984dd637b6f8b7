//! What must come out.

use std::collections::{HashMap, HashSet};
use std::fmt;

use super::count_tokens;
use crate::source::identity::{FileId, Position, Seen};

/// What is written, each once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token {
    pub log: usize,
    pub number: u64,
    pub part: u8,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "<{}.{}.{}>", self.log, self.number, self.part)
    }
}

impl Token {
    /// All that are in a text.
    pub fn all(text: &str) -> impl Iterator<Item = Token> {
        text.split('<').skip(1).map(|rest| {
            let mut parts = rest.split('>').next().unwrap().split('.').map(|part| part.parse::<u64>().unwrap());
            let mut next = || parts.next().unwrap();
            Token { log: next() as usize, number: next(), part: next() as u8 }
        })
    }
}

/// One content of a file: another one begins when it is truncated.
#[derive(Clone, Default)]
struct Content {
    bytes: Vec<u8>,
    /// With the offset where each ends.
    tokens: Vec<(Token, u64)>,
    /// Whether it is in no file any more.
    is_gone: bool,
}

#[derive(Default)]
struct File {
    id: Option<FileId>,
    /// The last is the one that it has now.
    contents: Vec<Content>,
    name: Option<String>,
}

/// All that was written, where, and what has happened to it.
#[derive(Default)]
pub struct Oracle {
    files: HashMap<usize, File>,
    /// Tokens that need not come out: nobody could have read them.
    may_miss: HashSet<Token>,
    /// How often more than once a token may come out.
    may_repeat: HashMap<Token, u32>,
    /// Bytes of tokens that are not written yet.
    added: Vec<(usize, Token, usize)>,
}

impl Oracle {
    pub fn created(&mut self, file: usize, id: FileId, name: &str) {
        self.forget_name(name);
        let contents = vec![Content::default()];
        self.files.insert(file, File { id: Some(id), contents, name: Some(name.to_owned()) });
    }

    fn forget_name(&mut self, name: &str) {
        for file in self.files.values_mut().filter(|file| file.name.as_deref() == Some(name)) {
            file.name = None;
        }
    }

    /// A token that ends at that byte of what is written next.
    pub fn add(&mut self, file: usize, token: Token, end: usize) {
        self.added.push((file, token, end));
    }

    /// Bytes are written, with the tokens that were added. `is_lost`: nobody will look for them.
    pub fn written(&mut self, file: usize, bytes: &[u8], is_lost: bool) {
        let content = self.files.get_mut(&file).unwrap().contents.last_mut().unwrap();
        let base = content.bytes.len() as u64;
        for (_, token, end) in self.added.drain(..) {
            content.tokens.push((token, base + end as u64));
            if is_lost {
                self.may_miss.insert(token);
            }
        }
        content.bytes.extend_from_slice(bytes);
    }

    pub fn renamed(&mut self, from: &str, to: &str) {
        self.forget_name(to);
        let file = self.files.values_mut().find(|file| file.name.as_deref() == Some(from)).unwrap();
        file.name = Some(to.to_owned());
    }

    pub fn name_of(&self, file: usize) -> Option<String> {
        self.files[&file].name.clone()
    }

    pub fn copy(&mut self, from: usize, to: usize) -> Vec<u8> {
        let content = self.files[&from].contents.last().unwrap().clone();
        let bytes = content.bytes.clone();
        *self.files.get_mut(&to).unwrap().contents.last_mut().unwrap() = content;
        bytes
    }

    /// What the file had is in another one.
    pub fn truncated(&mut self, file: usize) {
        let file = self.files.get_mut(&file).unwrap();
        file.contents.last_mut().unwrap().is_gone = true;
        file.contents.push(Content::default());
    }

    /// The agent has never seen the file, and will not find it.
    pub fn may_miss(&mut self, file: usize) {
        let content = self.files[&file].contents.last().unwrap();
        self.may_miss.extend(content.tokens.iter().map(|(token, _)| *token));
    }

    /// A file has no name any more. `is_kept`: the agent has it open, or all of it is in another file.
    pub fn removed(&mut self, name: &str, is_kept: bool) {
        let file = self.files.values_mut().find(|file| file.name.as_deref() == Some(name)).unwrap();
        file.name = None;
        let content = file.contents.last_mut().unwrap();
        content.is_gone = true;
        if !is_kept {
            let tokens: Vec<Token> = content.tokens.iter().map(|(token, _)| *token).collect();
            self.may_miss.extend(tokens);
        }
    }

    /// The agent ended: what it held is lost, and what was not settled comes again.
    pub fn agent_ended(
        &mut self,
        events: &[String],
        rows: &HashMap<FileId, Position>,
        is_found: impl Fn(&str) -> bool,
    ) {
        let delivered = count_tokens(events);
        let mut settled = HashSet::new();
        for file in self.files.values() {
            let Some(row) = file.id.and_then(|id| rows.get(&id)) else { continue };
            for content in &file.contents {
                if has(content, row) {
                    let before = content.tokens.iter().filter(|(_, end)| *end <= row.place.offset);
                    settled.extend(before.map(|(token, _)| *token));
                }
            }
        }
        for token in delivered.keys().filter(|token| !settled.contains(token)) {
            *self.may_repeat.entry(*token).or_default() += 1;
        }
        // What is in a file that will be found again must come out.
        let mut found = HashSet::new();
        for file in self.files.values() {
            let has_row = file.id.is_some_and(|id| rows.contains_key(&id));
            let content = file.contents.last().unwrap();
            if file.name.as_deref().is_some_and(|name| is_found(name) || has_row) && !content.is_gone {
                found.extend(content.tokens.iter().map(|(token, _)| *token));
            }
        }
        let written = self.files.values().flat_map(|file| &file.contents).flat_map(|content| &content.tokens);
        let lost = written.map(|(token, _)| *token).filter(|token| !found.contains(token));
        self.may_miss.extend(lost.collect::<Vec<_>>());
    }

    /// Where a token is, for people.
    fn places(&self, token: Token) -> String {
        let mut places = Vec::new();
        for (number, file) in &self.files {
            for (life, content) in file.contents.iter().enumerate() {
                if let Some((_, end)) = content.tokens.iter().find(|(other, _)| *other == token) {
                    let name = file.name.as_deref().unwrap_or("no name");
                    places.push(format!("file {number} ({name}), content {life}, up to byte {end}"));
                }
            }
        }
        places.join("; ")
    }

    /// Whether what came out is what had to.
    pub fn check(&self, events: &[String]) -> Result<(), String> {
        let counts = count_tokens(events);
        for content in self.files.values().flat_map(|file| &file.contents) {
            for (token, _) in &content.tokens {
                let count = counts.get(token).copied().unwrap_or(0);
                let most = 1 + self.may_repeat.get(token).copied().unwrap_or(0);
                if count == 0 && !self.may_miss.contains(token) {
                    return Err(format!("{token} is missing; it is in {}", self.places(*token)));
                }
                if count > most {
                    let places = self.places(*token);
                    return Err(format!("{token} came {count} times, and may {most} times; it is in {places}"));
                }
            }
        }
        let mut first = HashMap::new();
        for (at, event) in events.iter().enumerate() {
            Token::all(event).enumerate().for_each(|(i, token)| _ = first.entry(token).or_insert((at, i)));
        }
        for content in self.files.values().flat_map(|file| &file.contents) {
            let came: Vec<_> =
                content.tokens.iter().filter_map(|(token, _)| Some((*first.get(token)?, *token))).collect();
            if let Some(pair) = came.windows(2).find(|pair| pair[0].0 > pair[1].0) {
                return Err(format!("{} came after {}", pair[0].1, pair[1].1));
            }
        }
        Ok(())
    }
}

/// Whether a row is of that content.
fn has(content: &Content, row: &Position) -> bool {
    let read = |into: &mut [u8], at: u64| {
        let bytes = content.bytes.get(at as usize..).and_then(|rest| rest.get(..into.len()));
        bytes.map(|bytes| into.copy_from_slice(bytes)).is_some()
    };
    row.looked() <= content.bytes.len() as u64
        && Seen::before(row.looked(), read).is_some_and(|seen| seen.stamp() == row.stamp)
}
