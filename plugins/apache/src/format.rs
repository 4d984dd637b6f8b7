//! Reading a `LogFormat`.

use weir_plugin::moment::Zone;
use weir_plugin::template::{Role, Value, cut};

use crate::directive::Directive;

const COMMON: &str = r#"%h %l %u %t "%r" %>s %b"#;
const COMBINED: &str = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#;
const VHOST_COMBINED: &str = r#"%v:%p %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i""#;

/// A format: what a line begins with, and then values.
pub struct Format {
    pub prefix: Vec<u8>,
    pub values: Vec<Value>,
}

impl Format {
    /// Reads a format, or one that Apache's configuration knows by name.
    pub fn parse(format: &str, split_request: bool, zone: Zone) -> Result<Format, String> {
        let text = match format {
            "common" => COMMON,
            "combined" => COMBINED,
            "vhost_combined" => VHOST_COMBINED,
            own => own,
        };
        let mut parsed = Format { prefix: Vec::new(), values: Vec::new() };
        let mut rest = text;
        while let Some(special) = rest.find(['%', '\\']) {
            let (before, from) = cut(rest, special);
            parsed.literal(before);
            rest = match from.as_bytes() {
                [b'%', b'%', ..] => parsed.literal_for("%", from, 2),
                [b'\\', b'n', ..] => parsed.literal_for("\n", from, 2),
                [b'\\', b't', ..] => parsed.literal_for("\t", from, 2),
                [b'\\', b'"', ..] => parsed.literal_for("\"", from, 2),
                [b'\\', b'\\', ..] => parsed.literal_for("\\", from, 2),
                [b'\\', ..] => parsed.literal_for("\\", from, 1),
                _ => parsed.directive(Directive::parse(from, zone)?, split_request)?,
            };
        }
        parsed.literal(rest);
        if parsed.values.is_empty() {
            let known = "`common`, `combined`, `vhost_combined` or `error`";
            return Err(format!("format: `{format}` has no directive such as %h, and it is not {known}"));
        }
        for value in &mut parsed.values {
            value.quoted &= value.until.starts_with(b"\"");
        }
        Ok(parsed)
    }

    /// Adds a directive, and gives what follows it.
    fn directive<'t>(
        &mut self,
        (directive, rest): (Directive, &'t str),
        split_request: bool,
    ) -> Result<&'t str, String> {
        if let Some(last) = self.values.last()
            && last.until.is_empty()
            && !directive.brackets
        {
            return Err(format!("format: {} and {} have nothing between them", last.shown, directive.shown));
        }
        if let Some(other) = self.values.iter().find(|value| value.name == directive.name) {
            let Directive { shown, name, .. } = directive;
            return Err(format!("format: {} and {shown} would both be the field `{name}`", other.shown));
        }
        let role = match directive.role {
            Role::Request if !split_request => Role::Plain,
            role => role,
        };
        if directive.brackets {
            self.literal("[");
        }
        let before = self.values.last().map_or(&self.prefix, |last| &last.until);
        // Whether a quote follows as well is known at the end.
        let quoted = before.ends_with(b"\"");
        let (name, shown, kind) = (directive.name, directive.shown, directive.kind);
        self.values.push(Value { name, shown, kind, role, until: Vec::new(), quoted });
        if directive.brackets {
            self.literal("]");
        }
        Ok(rest)
    }

    /// Adds a literal for so many bytes that the text begins with, and gives what follows.
    fn literal_for<'t>(&mut self, literal: &str, text: &'t str, len: usize) -> &'t str {
        self.literal(literal);
        cut(text, len).1
    }

    fn literal(&mut self, text: &str) {
        let before = self.values.last_mut().map_or(&mut self.prefix, |last| &mut last.until);
        before.extend_from_slice(text.as_bytes());
    }
}
