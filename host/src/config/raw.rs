//! What was typed: YAML as a tree whose nodes know their place.
//!
//! Less than YAML: no anchors and aliases, no tags, keys are plain text, one document. The parser's events are
//! read one by one, without recursion, and what is kept is bounded by the text: hostile input ends in an error.

use std::collections::HashMap;
use std::fmt;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::problem::{Place, Problem, Problems};
use super::scalar::plain;

/// Bytes of a file at most: what a Kubernetes ConfigMap can hold.
pub const MAX_TEXT: usize = 1 << 20;
/// Lists and mappings within each other at most; well below what JSON parsers take of a plugin's settings.
const MAX_DEPTH: usize = 64;
/// Bytes of a key at most: config paths are made of keys, and shown.
const MAX_KEY: usize = 256;
/// Characters of a value that messages show at most.
const MAX_SHOWN: usize = 80;

/// One value and where it stands: at its key, if it has one.
#[derive(Debug)]
pub struct Node {
    pub path: Path,
    pub line: usize,
    pub column: usize,
    pub value: Value,
}

/// What a node is, by YAML's core schema.
#[derive(Debug)]
pub enum Value {
    /// Something that was reported already, and about which nothing more is to be said.
    Invalid,
    Null,
    Bool(bool),
    /// From -2^63 to 2^64-1.
    Integer(i128),
    Float(f64),
    Text(Text),
    List(Vec<Node>),
    /// In the order of the file; each key once.
    Map(Vec<(String, Node)>),
}

/// A string.
#[derive(Debug)]
pub struct Text {
    /// What it says, after substitution.
    pub text: String,
    /// What was typed, if something was substituted. That may be a secret: only this is ever shown.
    pub typed: Option<String>,
}

/// Reads a file's text. The root is invalid if an error left nothing to work with, and null if the file is empty.
pub fn read(text: &str, problems: &mut Problems) -> Node {
    let mut builder = Builder { problems, open: Vec::new(), root: None };
    match builder.read(text) {
        Ok(()) => builder.root.unwrap_or_else(|| Node::root(Value::Null)),
        Err(problem) => {
            problems.error(*problem);
            Node::root(Value::Invalid)
        }
    }
}

impl Node {
    fn root(value: Value) -> Self {
        Node { path: Path::default(), line: 1, column: 1, value }
    }

    /// Where the node stands.
    pub fn place(&self) -> Place {
        Place { path: self.path.to_string(), line: self.line, column: self.column }
    }

    /// Where a key that this mapping lacks should stand.
    pub fn place_of(&self, key: &str) -> Place {
        Place { path: self.path.key(key).to_string(), ..self.place() }
    }

    /// Whether it is a string into which something was substituted.
    pub fn is_substituted(&self) -> bool {
        matches!(&self.value, Value::Text(Text { typed: Some(_), .. }))
    }

    /// Whether it is that word.
    pub fn is_word(&self, word: &str) -> bool {
        matches!(&self.value, Value::Text(text) if text.text == word)
    }

    /// The node in a message: its text in quotes if it has one, or else what it is.
    pub fn shown(&self) -> String {
        match &self.value {
            Value::Invalid | Value::Null => "nothing".into(),
            Value::Bool(value) => value.to_string(),
            Value::Integer(value) => value.to_string(),
            Value::Float(_) => "a number with a point".into(),
            Value::Text(text) => text.shown(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }
}

impl Text {
    /// What was typed, in quotes, cut if it is long.
    pub fn shown(&self) -> String {
        let typed = self.typed.as_ref().unwrap_or(&self.text);
        match typed.char_indices().nth(MAX_SHOWN) {
            Some((end, _)) => format!("\"{}…\"", &typed[..end]),
            None => format!("\"{typed}\""),
        }
    }
}

/// The way from the root to a node. Shares its beginning with other paths, so that all paths of a deep file
/// are no larger than the file.
#[derive(Clone, Default)]
pub struct Path(Option<Rc<(Path, Step)>>);

enum Step {
    Key(String),
    Index(usize),
}

impl Path {
    fn key(&self, key: &str) -> Path {
        Path(Some(Rc::new((self.clone(), Step::Key(key.to_owned())))))
    }

    fn index(&self, index: usize) -> Path {
        Path(Some(Rc::new((self.clone(), Step::Index(index)))))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Some((parent, step)) = self.0.as_deref() else { return Ok(()) };
        write!(f, "{parent}")?;
        let dot = if parent.0.is_some() { "." } else { "" };
        match step {
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) if is_simple(key) => write!(f, "{dot}{key}"),
            Step::Key(key) => write!(f, "{dot}{key:?}"),
        }
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{self}")
    }
}

fn is_simple(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// The tree while it is made.
struct Builder<'p> {
    problems: &'p mut Problems,
    /// Lists and mappings whose end was not seen yet, the innermost last.
    open: Vec<Open>,
    root: Option<Node>,
}

/// A list or mapping that is being read.
struct Open {
    node: Node,
    /// Of a mapping: the key whose value comes next.
    key: Option<Key>,
    /// Of a mapping: the line of each key.
    lines: HashMap<String, usize>,
}

struct Key {
    name: String,
    at: Marker,
    /// It cannot be used, and nor can its value.
    invalid: bool,
}

/// An error after which nothing can be made of the file.
type Fatal = Box<Problem>;

impl Builder<'_> {
    fn read(&mut self, text: &str) -> Result<(), Fatal> {
        check_text(text)?;
        let (line, column) = position(text);
        let end = Marker::new(text.chars().count(), line, column - 1);
        // At the end the parser may count a line too many.
        let in_text = |at: Marker| if at.index() < end.index() { at } else { end };
        for event in Parser::new_from_str(text) {
            let (event, span) = event.map_err(|error| not_yaml(text, in_text(*error.marker()), error.info()))?;
            self.event(event, in_text(span.start))?;
        }
        Ok(())
    }

    fn event(&mut self, event: Event, at: Marker) -> Result<(), Fatal> {
        let is_key = self.open.last().is_some_and(Open::expects_key);
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                return Err(fatal(at, "a second document begins: a config file is one document"));
            }
            Event::Alias(_) | Event::SequenceStart(..) | Event::MappingStart(..) if is_key => {
                return Err(fatal(at, "a key must be plain text"));
            }
            Event::Scalar(text, style, anchor, tag) if is_key => self.key(&text, style, at, anchor > 0, tag.is_some()),
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.node(at, anchor > 0, tag.is_some());
                let value = self.scalar(&text, style, &node);
                self.put(Node { value, ..node });
            }
            Event::Alias(_) => {
                let node = self.node(at, true, false);
                self.put(node);
            }
            Event::SequenceStart(anchor, tag) => {
                let node = self.node(at, anchor > 0, tag.is_some());
                self.begin(Node { value: Value::List(Vec::new()), ..node }, at)?;
            }
            Event::MappingStart(anchor, tag) => {
                let node = self.node(at, anchor > 0, tag.is_some());
                self.begin(Node { value: Value::Map(Vec::new()), ..node }, at)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.put(open.node);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, node: Node, at: Marker) -> Result<(), Fatal> {
        if self.open.len() == MAX_DEPTH {
            return Err(fatal(at, format!("more than {MAX_DEPTH} lists and mappings within each other")));
        }
        self.open.push(Open { node, key: None, lines: HashMap::new() });
        Ok(())
    }

    fn key(&mut self, name: &str, style: ScalarStyle, at: Marker, anchor: bool, tag: bool) {
        let Some(open) = self.open.last_mut() else { return };
        let message = if name.len() > MAX_KEY {
            Some(format!("a key is longer than {MAX_KEY} bytes"))
        } else if name.is_empty() && style == ScalarStyle::Plain {
            Some("a key is missing before the colon".into())
        } else if let Some(line) = open.lines.get(name) {
            Some(format!("the key is already on line {line}"))
        } else {
            open.lines.insert(name.to_owned(), at.line());
            None
        };
        let name = if name.len() > MAX_KEY { "" } else { name };
        let path = if name.is_empty() { open.node.path.clone() } else { open.node.path.key(name) };
        open.key = Some(Key { name: name.to_owned(), at, invalid: message.is_some() });
        if let Some(message) = message {
            self.problems.error(Problem::new(place(&path, at), message));
        }
        self.refuse_extras(&path, at, anchor, tag);
    }

    /// The node that begins here, still without a value.
    fn node(&mut self, at: Marker, anchor: bool, tag: bool) -> Node {
        let (path, at) = match self.open.last() {
            None => (Path::default(), at),
            Some(Open { node, key: Some(key), .. }) => (node.path.key(&key.name), key.at),
            Some(Open { node: Node { path, value: Value::List(items), .. }, .. }) => (path.index(items.len()), at),
            Some(Open { node, .. }) => (node.path.clone(), at),
        };
        self.refuse_extras(&path, at, anchor, tag);
        Node { path, line: at.line(), column: at.col() + 1, value: Value::Invalid }
    }

    /// Puts a finished node where it belongs.
    fn put(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::Map(entries), Some(key)) if !key.invalid => entries.push((key.name, node)),
            (Value::List(items), _) => items.push(node),
            _ => {}
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, node: &Node) -> Value {
        if style != ScalarStyle::Plain {
            return Value::Text(Text { text: text.to_owned(), typed: None });
        }
        plain(text).unwrap_or_else(|| {
            let problem = Problem::new(node.place(), "the integer does not fit in 64 bits");
            self.problems.error(problem.hint("put it in quotes to have it as text"));
            Value::Invalid
        })
    }

    fn refuse_extras(&mut self, path: &Path, at: Marker, anchor: bool, tag: bool) {
        if anchor {
            let problem = Problem::new(place(path, at), "anchors (&) and aliases (*) are not supported");
            self.problems.error(problem.hint("write the value out, or put it in quotes if it is text"));
        }
        if tag {
            let problem = Problem::new(place(path, at), "tags (!) are not supported");
            self.problems.error(problem.hint("leave it out, or put the value in quotes if it is text"));
        }
    }
}

impl Open {
    fn expects_key(&self) -> bool {
        self.key.is_none() && matches!(self.node.value, Value::Map(_))
    }
}

/// Refuses what is too large, and the characters that YAML forbids: the parser takes some for the end.
fn check_text(text: &str) -> Result<(), Fatal> {
    if text.len() > MAX_TEXT {
        let message = format!("the file is larger than {} KiB", MAX_TEXT >> 10);
        return Err(Box::new(Problem::new(Place::default(), message)));
    }
    let is_bad = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let Some((index, bad)) = text.char_indices().find(|(_, c)| is_bad(*c)) else { return Ok(()) };
    let (line, column) = position(&text[..index]);
    let place = Place { path: String::new(), line, column };
    let problem = Problem::new(place, format!("not valid YAML: the control character {}", bad.escape_default()));
    Err(Box::new(problem.hint("in double quotes it can be written with a backslash")))
}

fn not_yaml(text: &str, at: Marker, info: &str) -> Fatal {
    let problem = Problem::new(place(&Path::default(), at), format!("not valid YAML: {info}"));
    let line = text.lines().nth(at.line() - 1).unwrap_or_default();
    let is_tab = line.trim_start_matches(' ').starts_with('\t');
    Box::new(if is_tab { problem.hint("indent with spaces, not with tabs") } else { problem })
}

/// The line and the column that follow this beginning of a text.
pub fn position(before: &str) -> (usize, usize) {
    let line_start = before.rfind(['\n', '\r']).map_or(0, |i| i + 1);
    let breaks = before.replace("\r\n", "\n").matches(['\n', '\r']).count();
    (breaks + 1, before[line_start..].chars().count() + 1)
}

fn place(path: &Path, at: Marker) -> Place {
    Place { path: path.to_string(), line: at.line(), column: at.col() + 1 }
}

fn fatal(at: Marker, message: impl Into<String>) -> Fatal {
    Box::new(Problem::new(place(&Path::default(), at), message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each leaf as `path@line:column=value`.
    fn leaves(text: &str) -> Vec<String> {
        fn walk(node: &Node, out: &mut Vec<String>) {
            match &node.value {
                Value::List(items) => items.iter().for_each(|item| walk(item, out)),
                Value::Map(entries) => entries.iter().for_each(|(_, value)| walk(value, out)),
                _ => out.push(format!("{}@{}:{}={}", node.path, node.line, node.column, node.shown())),
            }
        }
        let mut problems = Problems::default();
        let root = read(text, &mut problems);
        problems.finish("f", Some(())).unwrap();
        let mut out = Vec::new();
        walk(&root, &mut out);
        out
    }

    fn errors(text: &str) -> String {
        let mut problems = Problems::default();
        read(text, &mut problems);
        problems.finish("f", Some(())).unwrap_err().to_string()
    }

    #[test]
    fn nodes_know_their_place() {
        let text = "a:\n  - x\n  - {b: 1, \"c d\": 2}\n  -\ne-f:\n  g:\n  ä: é\n  h: |\n    text\n";
        let leaves = leaves(text);
        let expected = [
            "a[0]@2:5=\"x\"",
            "a[1].b@3:6=1",
            "a[1].\"c d\"@3:12=2",
            "a[2]@4:4=nothing",
            "e-f.g@6:3=nothing",
            "e-f.\"ä\"@7:3=\"é\"",
            "e-f.h@8:3=\"text\n\"",
        ];
        assert_eq!(leaves, expected);
    }

    #[test]
    fn what_is_not_supported_is_an_error_with_its_place() {
        let text = "a: &x 1\nb: *x\na: 3\nc: {d: !t 1, d: 18446744073709551616}\n: 5\n";
        let shown = "f:1:1: a: anchors (&) and aliases (*) are not supported\n\
                     \x20 hint: write the value out, or put it in quotes if it is text\n\
                     f:2:1: b: anchors (&) and aliases (*) are not supported\n\
                     \x20 hint: write the value out, or put it in quotes if it is text\n\
                     f:3:1: a: the key is already on line 1\n\
                     f:4:5: c.d: tags (!) are not supported\n\
                     \x20 hint: leave it out, or put the value in quotes if it is text\n\
                     f:4:14: c.d: the key is already on line 4\n\
                     f:4:14: c.d: the integer does not fit in 64 bits\n\
                     \x20 hint: put it in quotes to have it as text\n\
                     f:5:1: a key is missing before the colon\n\
                     7 errors in f";
        assert_eq!(errors(text), shown);
    }

    #[test]
    fn hostile_texts_end_in_one_error() {
        let laughs = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
        assert_eq!(errors(laughs).lines().last(), Some("6 errors in f"));
        let long = "k".repeat(300);
        let cases = [
            ("- ".repeat(100_000), "f:1:129: more than 64 lists and mappings within each other"),
            ("[".repeat(500_000), "f:1:256: not valid YAML: recursion limit exceeded"),
            ("[".repeat(65) + &"]".repeat(65), "f:1:65: more than 64 lists and mappings within each other"),
            ("? ".repeat(100_000), "f:1:3: a key must be plain text"),
            ("x".repeat(MAX_TEXT + 1), "f: the file is larger than 1024 KiB"),
            ("a: 1\n---\nb: 2\n".into(), "f:2:1: a second document begins: a config file is one document"),
            ("[a]: 1\n".into(), "f:1:1: a key must be plain text"),
            (format!("\"{long}\": 1"), "f:1:1: a key is longer than 256 bytes"),
            ("a: 1\nb: [\n".into(), "f:3:1: not valid YAML: while parsing a node, did not find expected node content"),
            ("a: 1\nb: x\0y\n".into(), "f:2:5: not valid YAML: the control character \\u{0}"),
        ];
        for (text, message) in cases {
            let errors = errors(&text);
            assert_eq!(errors.lines().next(), Some(message));
            assert_eq!(errors.lines().last(), Some("1 error in f"));
        }
    }
}
