//! From a grok pattern to a regular expression: `%{NAME:field:type}` resolved, and Oniguruma's syntax translated.

use std::fmt::Write;

use weir_plugin::Kind;
use weir_plugin::out::Fields;

use crate::library::Library;

/// How deep patterns may name patterns.
const MOST_NESTED: usize = 64;
/// Bytes of a regular expression, against patterns that name each other many times.
const MOST_BYTES: usize = 256 << 10;

/// A regular expression, whose group `gN` is the field N.
pub struct Expanded {
    pub regex: String,
    /// Name and kind of each field; a name may come several times.
    pub fields: Vec<(String, Kind)>,
}

/// Resolves a pattern; `fast` takes the library's narrower patterns. The error names the pattern that is wrong.
pub fn expand(pattern: &str, library: &Library, fast: bool) -> Result<Expanded, String> {
    let mut expander = Expander { library, fast, open: Vec::new(), regex: String::new(), fields: Vec::new() };
    expander.pattern(pattern)?;
    Ok(Expanded { regex: expander.regex, fields: expander.fields })
}

struct Expander<'a> {
    library: &'a Library,
    fast: bool,
    /// The names of the patterns that are being expanded, the outermost first.
    open: Vec<String>,
    regex: String,
    fields: Vec<(String, Kind)>,
}

impl Expander<'_> {
    fn pattern(&mut self, pattern: &str) -> Result<(), String> {
        let mut rest = pattern;
        let mut after_repetition = false;
        while let Some(c) = rest.chars().next() {
            if self.regex.len() > MOST_BYTES {
                return Err(self.error(&format!("more than {} KiB, with all patterns that it names", MOST_BYTES >> 10)));
            }
            let before = rest;
            let is_repeated = std::mem::take(&mut after_repetition);
            rest = match c {
                '%' if rest.starts_with("%{") => self.reference(&rest[2..])?,
                '\\' => self.escape(&rest[1..])?,
                '[' => self.class(rest)?,
                '(' => self.group(&rest[1..])?,
                // A possessive repetition takes what a greedy one takes, and gives nothing back.
                '+' if is_repeated => &rest[1..],
                '*' | '+' | '?' => {
                    after_repetition = !is_repeated;
                    self.regex.push(c);
                    &rest[1..]
                }
                c => {
                    self.regex.push(c);
                    &rest[c.len_utf8()..]
                }
            };
            debug_assert!(rest.len() < before.len());
        }
        Ok(())
    }

    /// What stands behind `%{`, up to and with `}`; returns the rest.
    fn reference<'r>(&mut self, rest: &'r str) -> Result<&'r str, String> {
        let (inside, after) =
            rest.split_once('}').ok_or_else(|| self.error(&format!("`%{{{rest}` has no closing brace")))?;
        let (name, field) = match inside.split_once(':') {
            Some((name, field)) => (name, Some(field)),
            None => (inside, None),
        };
        let Some(pattern) = self.library.get(name, self.fast).map(str::to_owned) else {
            return Err(self.error(&format!("there is no pattern `{name}`: add it to definitions, or see the README")));
        };
        if self.open.iter().any(|open| open == name) {
            return Err(self.error(&format!("`{name}` names itself")));
        }
        if self.open.len() == MOST_NESTED {
            return Err(self.error(&format!("more than {MOST_NESTED} patterns one in the other")));
        }
        match field {
            Some(field) => self.open_group(field)?,
            None => self.regex.push_str("(?:"),
        }
        self.open.push(name.to_owned());
        self.pattern(&pattern)?;
        self.open.pop();
        self.regex.push(')');
        Ok(after)
    }

    /// Begins the group of a field: `name`, `name:int`, `[a][b]`, `plain|ecs:int`.
    fn open_group(&mut self, field: &str) -> Result<(), String> {
        let (names, kind) = match field.split_once(':') {
            None => (field, Kind::Text),
            Some((names, kind)) => (names, self.kind(kind)?),
        };
        let name = match names.split_once('|') {
            Some((_, ecs)) if self.library.ecs => ecs,
            Some((plain, _)) => plain,
            None => names,
        };
        let name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(path) => path.replace("][", "."),
            None => name.to_owned(),
        };
        Fields::check(&name).map_err(|e| self.error(&e))?;
        // Writing to a string does not fail.
        let _ = write!(self.regex, "(?P<g{}>", self.fields.len());
        self.fields.push((name, kind));
        Ok(())
    }

    fn kind(&self, name: &str) -> Result<Kind, String> {
        Ok(match name {
            "int" | "integer" | "long" => Kind::Integer,
            "float" | "double" => Kind::Float,
            "bool" | "boolean" => Kind::Boolean,
            "json" => Kind::Json,
            "string" | "text" => Kind::Text,
            other => {
                return Err(self.error(&format!("`{other}` is not a type: use int, float, boolean, json or string")));
            }
        })
    }

    /// What stands behind a backslash.
    fn escape<'r>(&mut self, rest: &'r str) -> Result<&'r str, String> {
        let Some(c) = rest.chars().next() else { return Err(self.error("it ends in a backslash")) };
        match c {
            'h' => self.regex.push_str("[0-9A-Fa-f]"),
            'H' => self.regex.push_str("[^0-9A-Fa-f]"),
            'Z' => self.regex.push_str(r"\z"),
            'R' => self.regex.push_str(r"(?:\r\n|[\n\x0b\f\r])"),
            'e' => self.regex.push_str(r"\x1b"),
            // Rust's word boundaries; here the characters themselves.
            '<' | '>' => self.regex.push(c),
            'G' | 'K' | 'X' => return Err(self.unsupported(&format!(r"`\{c}`"))),
            'k' | 'g' => return Err(self.unsupported(&format!(r"the back-reference `\{c}`"))),
            '1'..='9' => return Err(self.unsupported(&format!(r"the back-reference `\{c}`"))),
            c => {
                self.regex.push('\\');
                self.regex.push(c);
            }
        }
        Ok(&rest[c.len_utf8()..])
    }

    /// A class in brackets, as it is but for `\h`.
    fn class<'r>(&mut self, text: &'r str) -> Result<&'r str, String> {
        let mut depth = 0;
        let mut escaped = false;
        let mut first = false;
        for (i, c) in text.char_indices() {
            let is_first = std::mem::take(&mut first);
            if escaped {
                escaped = false;
                match c {
                    'h' => self.regex.push_str("0-9A-Fa-f"),
                    '<' | '>' => self.regex.push(c),
                    c => {
                        self.regex.push('\\');
                        self.regex.push(c);
                    }
                }
                continue;
            }
            match c {
                '\\' => {
                    escaped = true;
                    continue;
                }
                '[' => (depth, first) = (depth + 1, true),
                '^' if is_first => first = true,
                // The first one stands for itself.
                ']' if is_first => {}
                ']' => depth -= 1,
                _ => {}
            }
            self.regex.push(c);
            if depth == 0 {
                return Ok(&text[i + 1..]);
            }
        }
        Err(self.error("a class has no closing bracket"))
    }

    /// What stands behind an opening parenthesis, up to where the group's own pattern begins.
    fn group<'r>(&mut self, rest: &'r str) -> Result<&'r str, String> {
        let Some(special) = rest.strip_prefix('?') else {
            // Only named groups are fields.
            self.regex.push_str("(?:");
            return Ok(rest);
        };
        for (sign, feature) in [
            ("=", "look-ahead `(?=`"),
            ("!", "negative look-ahead `(?!`"),
            ("<=", "look-behind `(?<=`"),
            ("<!", "negative look-behind `(?<!`"),
            ("~", "the absence operator `(?~`"),
            ("(", "the condition `(?(`"),
        ] {
            if special.starts_with(sign) {
                return Err(self.unsupported(feature));
            }
        }
        if let Some(comment) = special.strip_prefix('#') {
            let end = comment.find(')').ok_or_else(|| self.error("a comment has no end"))?;
            return Ok(&comment[end + 1..]);
        }
        // What an atomic group takes, a plain one takes first, too; it may give it back.
        if let Some(inner) = special.strip_prefix('>') {
            self.regex.push_str("(?:");
            return Ok(inner);
        }
        for (opening, closing) in [("<", '>'), ("P<", '>'), ("'", '\'')] {
            if let Some(named) = special.strip_prefix(opening) {
                let (name, inner) = named.split_once(closing).ok_or_else(|| self.error("a group's name has no end"))?;
                self.open_group(name)?;
                return Ok(inner);
            }
        }
        let end = special.find([':', ')']).ok_or_else(|| self.error("a group has no end"))?;
        let (flags, inner) = special.split_at(end);
        if flags.contains('s') {
            let hint = "the flag `(?s)` is Oniguruma's `(?m)`: write that, and `.` is a line's end, too";
            return Err(self.error(hint));
        }
        if !flags.bytes().all(|flag| b"imx-".contains(&flag)) {
            return Err(self.unsupported(&format!("`(?{flags}`")));
        }
        // Oniguruma's m is about the point, Rust's s.
        let _ = write!(self.regex, "(?{}{}", flags.replace('m', "s"), &inner[..1]);
        Ok(&inner[1..])
    }

    fn unsupported(&self, feature: &str) -> String {
        self.error(&format!("{feature} is not supported: the engine takes linear time, and does without it"))
    }

    /// The message with the pattern that it is about.
    fn error(&self, message: &str) -> String {
        match self.open.last() {
            Some(name) => format!("pattern {name}: {message}"),
            None => message.to_owned(),
        }
    }
}
