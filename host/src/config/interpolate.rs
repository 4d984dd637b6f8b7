//! `${NAME}` in strings: what comes from the environment.
//!
//! | typed | means |
//! |---|---|
//! | `${NAME}` | the variable; an error if it is not set |
//! | `${NAME:-default}` | the variable, or the default if it is not set or empty |
//! | `${NAME:?message}` | the variable, or an error with that message if it is not set or empty |
//! | `$$` | one `$` |
//!
//! Any other `$` is itself. What was put in is not looked at again. Keys are left alone.

use super::problem::{Problem, Problems};
use super::raw::{Node, Value};

/// Bytes that all substituted strings of a file have at most: a short text can name a long variable many times.
const MAX_SUBSTITUTED: usize = 4 << 20;

/// Substitutes in every string below the node. A string with an error becomes invalid.
pub fn interpolate(root: &mut Node, env: &dyn Fn(&str) -> Option<String>, problems: &mut Problems) {
    Interpolation { env, left: MAX_SUBSTITUTED, exhausted: false, problems }.node(root);
}

struct Interpolation<'a> {
    env: &'a dyn Fn(&str) -> Option<String>,
    /// Bytes that may still be made.
    left: usize,
    /// More was asked for, and that was reported.
    exhausted: bool,
    problems: &'a mut Problems,
}

impl Interpolation<'_> {
    fn node(&mut self, node: &mut Node) {
        match &mut node.value {
            Value::List(items) => items.iter_mut().for_each(|item| self.node(item)),
            Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| self.node(value)),
            Value::Text(_) if self.exhausted => node.value = Value::Invalid,
            Value::Text(text) if text.text.contains('$') => match self.expand(&text.text) {
                Ok(expanded) if expanded == text.text => {}
                Ok(expanded) => text.typed = Some(std::mem::replace(&mut text.text, expanded)),
                Err(faults) => {
                    for Fault { message, hint } in faults {
                        self.problems.error(Problem { place: node.place(), message, hint });
                    }
                    node.value = Value::Invalid;
                }
            },
            _ => {}
        }
    }

    fn expand(&mut self, text: &str) -> Result<String, Vec<Fault>> {
        let (mut out, mut faults, mut rest) = (String::new(), Vec::new(), text);
        while let Some(dollar) = rest.find('$') {
            out.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let Some((inside, after)) = after.split_once('}') else {
                    faults.push(Fault::new("`${` without `}`").hint("write `$$` for a `$`"));
                    return Err(faults);
                };
                match self.lookup(inside) {
                    Ok(value) => out.push_str(&value),
                    Err(fault) => faults.push(fault),
                }
                if out.len() > self.left {
                    self.exhausted = true;
                    return Err(vec![Fault::new(format!("more than {} MiB by substitution", MAX_SUBSTITUTED >> 20))]);
                }
                rest = after;
            } else {
                out.push('$');
            }
        }
        out.push_str(rest);
        self.left = self.left.saturating_sub(out.len());
        if faults.is_empty() { Ok(out) } else { Err(faults) }
    }

    /// The value for what stands between the braces.
    fn lookup(&self, inside: &str) -> Result<String, Fault> {
        let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
        let (name, rest) = inside.split_at(end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || inside.contains("${") {
            return Err(Fault::bad(inside));
        }
        let value = (self.env)(name);
        let filled = || value.clone().filter(|value| !value.is_empty());
        if let Some(default) = rest.strip_prefix(":-") {
            Ok(filled().unwrap_or_else(|| default.to_owned()))
        } else if let Some(message) = rest.strip_prefix(":?") {
            let message = if message.is_empty() { "it is not set or empty" } else { message };
            filled().ok_or_else(|| Fault::new(format!("environment variable {name}: {message}")))
        } else if rest.is_empty() {
            value.ok_or_else(|| {
                let hint = format!("set it, or write `${{{name}:-default}}`");
                Fault::new(format!("environment variable {name} is not set")).hint(hint)
            })
        } else {
            Err(Fault::bad(inside))
        }
    }
}

/// One error in a string.
struct Fault {
    message: String,
    hint: Option<String>,
}

impl Fault {
    fn new(message: impl Into<String>) -> Self {
        Fault { message: message.into(), hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Fault { hint: Some(hint.into()), ..self }
    }

    fn bad(inside: &str) -> Self {
        let shown: String = inside.chars().take(40).collect();
        Fault::new(format!("`${{{shown}}}` is not a substitution"))
            .hint("write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`, and `$$` for a `$`")
    }
}

#[cfg(test)]
mod tests {
    use super::super::raw;
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("value".into()),
            "_B1" => Some("${A}$$: {x".into()),
            "EMPTY" => Some(String::new()),
            "LONG" => Some("x".repeat(1 << 16)),
            _ => None,
        }
    }

    fn run(yaml: &str) -> Result<Node, String> {
        let mut problems = Problems::default();
        let mut root = raw::read(yaml, &mut problems);
        interpolate(&mut root, &env, &mut problems);
        problems.finish("f", Some(root)).map(|(root, _)| root).map_err(|errors| errors.to_string())
    }

    fn expanded(text: &str) -> String {
        match run(&format!("'{text}'")).unwrap().value {
            Value::Text(text) => text.text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn variables_and_defaults_are_put_in_once() {
        let cases = [
            ("${A}", "value"),
            ("a ${A} b${A}", "a value bvalue"),
            ("${_B1}", "${A}$$: {x"),
            ("[${EMPTY}]", "[]"),
            ("${NONE:-a:-b c$}", "a:-b c$"),
            ("${EMPTY:-default}", "default"),
            ("${NONE:-}", ""),
            ("${A:-b}${A:?no}", "valuevalue"),
            ("$${A} $$$$", "${A} $$"),
            ("^a$|$1$ $A", "^a$|$1$ $A"),
        ];
        for (text, expected) in cases {
            assert_eq!(expanded(text), expected, "{text}");
        }
    }

    #[test]
    fn keys_and_other_scalars_are_left_alone() {
        let root = run("${A}: ${A}\nb: [1, $]\n").unwrap();
        let Value::Map(entries) = &root.value else { panic!() };
        assert_eq!(entries[0].0, "${A}");
        assert_eq!(entries[0].1.shown(), "\"${A}\"");
    }

    #[test]
    fn each_error_has_the_place_of_its_string() {
        let text = "a:\n  - x\n  - b: \"${NONE} ${ALSO_NONE}\"\nc: {d: '${EMPTY:?must be given}', e: '${EMPTY:?}'}\n\
                    f: ['${A', '${}', '${1A}', '${A-b}', '${A:-${A}}', '${A B}']\n";
        let hint = "  hint: write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`, and `$$` for a `$`";
        let shown = format!(
            "f:3:5: a[1].b: environment variable NONE is not set\n  hint: set it, or write `${{NONE:-default}}`\n\
             f:3:5: a[1].b: environment variable ALSO_NONE is not set\n\
             \x20 hint: set it, or write `${{ALSO_NONE:-default}}`\n\
             f:4:5: c.d: environment variable EMPTY: must be given\n\
             f:4:35: c.e: environment variable EMPTY: it is not set or empty\n\
             f:5:5: f[0]: `${{` without `}}`\n  hint: write `$$` for a `$`\n\
             f:5:12: f[1]: `${{}}` is not a substitution\n{hint}\n\
             f:5:19: f[2]: `${{1A}}` is not a substitution\n{hint}\n\
             f:5:28: f[3]: `${{A-b}}` is not a substitution\n{hint}\n\
             f:5:38: f[4]: `${{A:-${{A}}` is not a substitution\n{hint}\n\
             f:5:52: f[5]: `${{A B}}` is not a substitution\n{hint}\n\
             10 errors in f"
        );
        assert_eq!(run(text).unwrap_err(), shown);
    }

    #[test]
    fn the_total_is_bounded() {
        let text = format!("a: [{}]", "'${LONG}${LONG}', ".repeat(50));
        assert_eq!(run(&text).unwrap_err(), "f:1:581: a[32]: more than 4 MiB by substitution\n1 error in f");
    }
}
