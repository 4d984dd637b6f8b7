//! Reading an nginx `log_format`.

use weir_plugin::template::cut;

const COMBINED: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#;
const MAIN: &str = r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for""#;

/// A format: what a line begins with, and then variables, each with what stands behind it.
#[derive(Debug, PartialEq, Eq)]
pub struct Format {
    /// What stands before the first variable.
    pub prefix: Vec<u8>,
    /// The variables, in order.
    pub steps: Vec<Step>,
}

/// One variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name, without `$`.
    pub variable: String,
    /// What stands behind it.
    pub until: Vec<u8>,
    /// Whether it stands between quotes.
    pub quoted: bool,
}

impl Format {
    /// Reads a format, or one that nginx knows by name.
    pub fn parse(format: &str) -> Result<Format, String> {
        let text = match format {
            "combined" => COMBINED,
            "main" => MAIN,
            own => own,
        };
        let mut parsed = Format { prefix: Vec::new(), steps: Vec::<Step>::new() };
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            let (before, from) = cut(rest, dollar);
            parsed.literal(before);
            let (variable, after) = variable(from)?;
            if let Some(last) = parsed.steps.last()
                && last.until.is_empty()
            {
                return Err(format!("format: ${} and ${variable} have nothing between them", last.variable));
            }
            if parsed.steps.iter().any(|step| step.variable == variable) {
                return Err(format!("format: ${variable} stands in it twice"));
            }
            let quoted = before.ends_with('"') && after.starts_with('"');
            parsed.steps.push(Step { variable: variable.to_owned(), until: Vec::new(), quoted });
            rest = after;
        }
        parsed.literal(rest);
        if parsed.steps.is_empty() {
            return Err(format!(
                "format: `{format}` has no variable such as $status, and it is not `combined` or `main`"
            ));
        }
        Ok(parsed)
    }

    fn literal(&mut self, text: &str) {
        match self.steps.last_mut() {
            Some(step) => step.until.extend_from_slice(text.as_bytes()),
            None => self.prefix.extend_from_slice(text.as_bytes()),
        }
    }
}

/// `$name` or `${name}` at the start of the text, and what follows.
fn variable(text: &str) -> Result<(&str, &str), String> {
    let name = |text: &str| text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (variable, rest) = match text.strip_prefix("${") {
        Some(braced) => {
            let (variable, rest) = cut(braced, name(braced));
            (variable, rest.strip_prefix('}').ok_or_else(|| format!("format: `${{{variable}` has no `}}`"))?)
        }
        None => {
            let text = text.strip_prefix('$').unwrap_or(text);
            cut(text, name(text))
        }
    };
    match variable {
        "" => Err("format: `$` without a variable's name".to_owned()),
        variable => Ok((variable, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_variables_and_what_stands_between() {
        let format = Format::parse(r#"<$a> "${b}c" $d"#).unwrap();
        assert_eq!(format.prefix, b"<");
        let steps: Vec<_> = format
            .steps
            .iter()
            .map(|s| (s.variable.as_str(), std::str::from_utf8(&s.until).unwrap(), s.quoted))
            .collect();
        assert_eq!(steps, [("a", "> \"", false), ("b", "c\" ", false), ("d", "", false)]);
        assert_eq!(Format::parse("main").unwrap().steps.iter().filter(|s| s.quoted).count(), 4);
    }

    #[test]
    fn formats_that_cannot_be_are_refused_in_words() {
        for (format, error) in [
            ("", "format: `` has no variable such as $status, and it is not `combined` or `main`"),
            ("mian", "format: `mian` has no variable such as $status, and it is not `combined` or `main`"),
            ("$a$b", "format: $a and $b have nothing between them"),
            ("$a $a", "format: $a stands in it twice"),
            ("$ a", "format: `$` without a variable's name"),
            ("${a", "format: `${a` has no `}`"),
        ] {
            assert_eq!(Format::parse(format).unwrap_err(), error);
        }
    }
}
