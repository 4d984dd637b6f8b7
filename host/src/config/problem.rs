//! What is wrong with a config file, and where.

use std::fmt;

/// Problems of one kind that are kept: a file that is wrong all over must not fill memory with messages.
const MAX_KEPT: usize = 1000;

/// Where in a config file something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The config path: `logstores[0].files.root`; empty for the whole file.
    pub path: String,
    /// Counted from 1; 0 if there is none, as for a file that cannot be read.
    pub line: usize,
    /// In characters, counted from 1; 0 if there is none.
    pub column: usize,
}

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is.
    pub place: Place,
    /// What is wrong, to be read after the config path: `must be a list, not "a"`.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Problem { place, message: message.into(), hint: None }
    }

    /// The same with a hint.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The problem as users see it, without a newline at the end: `weir.yaml:12:7: sinks.a.type: is required`
    /// and, if there is a hint, a second line. Control characters are escaped.
    pub fn in_file(&self, file: &str) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            write!(f, "{}", Printable(file))?;
            if self.place.line > 0 {
                write!(f, ":{}:{}", self.place.line, self.place.column)?;
            }
            if !self.place.path.is_empty() {
                write!(f, ": {}", Printable(&self.place.path))?;
            }
            write!(f, ": {}", Printable(&self.message))?;
            self.hint.iter().try_for_each(|hint| write!(f, "\n  hint: {}", Printable(hint)))
        })
    }
}

/// Every error of a config file, in the order of their lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: String,
    problems: Vec<Problem>,
    /// How many there are, of which `problems` may be the first.
    total: usize,
    /// What to do about all of them.
    hint: Option<String>,
}

impl ConfigErrors {
    /// Errors that were found in the file of that name, in any order.
    pub fn new(file: impl Into<String>, mut problems: Vec<Problem>) -> Self {
        sort(&mut problems);
        ConfigErrors { file: file.into(), total: problems.len(), problems, hint: None }
    }

    /// The same with a hint that is about the file as a whole.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The errors, in the order of their lines. Only the first thousand of a file are kept.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{}", problem.in_file(&self.file))?;
        }
        let (total, s) = (self.total, if self.total == 1 { "" } else { "s" });
        write!(f, "{total} error{s} in {}", Printable(&self.file))?;
        if self.problems.len() < total {
            write!(f, ", {} of them shown", self.problems.len())?;
        }
        self.hint.iter().try_for_each(|hint| write!(f, "\nhint: {}", Printable(hint)))
    }
}

/// What was found so far.
#[derive(Default)]
pub(super) struct Problems {
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    /// Errors in all, with those that were not kept.
    total: usize,
}

impl Problems {
    pub fn error(&mut self, problem: Problem) {
        self.total += 1;
        if self.errors.len() < MAX_KEPT {
            self.errors.push(problem);
        }
    }

    pub fn warning(&mut self, problem: Problem) {
        if self.warnings.len() < MAX_KEPT {
            self.warnings.push(problem);
        }
    }

    /// What was made of the file, with the warnings in the order of their lines; or the errors, if there is any.
    pub fn finish<T>(mut self, file: &str, made: Option<T>) -> Result<(T, Vec<Problem>), ConfigErrors> {
        match made.filter(|_| self.total == 0) {
            Some(made) => {
                sort(&mut self.warnings);
                Ok((made, self.warnings))
            }
            None => Err(ConfigErrors { total: self.total, ..ConfigErrors::new(file, self.errors) }),
        }
    }
}

fn sort(problems: &mut [Problem]) {
    problems.sort_by_key(|problem| (problem.place.line, problem.place.column));
}

/// Text from a file, harmless to a terminal and on one line.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str, line: usize, column: usize) -> Place {
        Place { path: path.into(), line, column }
    }

    #[test]
    fn errors_are_shown_in_the_order_of_their_lines() {
        let errors = ConfigErrors::new(
            "weir.yaml",
            vec![
                Problem::new(at("sinks.a", 9, 3), "is bad\u{1b}[31m\nindeed"),
                Problem::new(at("logstores[0].plugins[0]", 4, 9), "no plugin `ngin`").hint("did you mean `nginx`?"),
                Problem::new(Place::default(), "cannot be read"),
            ],
        );
        let shown = "weir.yaml: cannot be read\n\
                     weir.yaml:4:9: logstores[0].plugins[0]: no plugin `ngin`\n  hint: did you mean `nginx`?\n\
                     weir.yaml:9:3: sinks.a: is bad\\u{1b}[31m\\nindeed\n\
                     3 errors in weir.yaml";
        assert_eq!(errors.to_string(), shown);
    }

    #[test]
    fn a_flood_of_errors_is_counted_and_cut() {
        let mut problems = Problems::default();
        (1..=1500).for_each(|line| problems.error(Problem::new(at("a", line, 1), "is bad")));
        let errors = problems.finish("weir.yaml", Some(())).unwrap_err();
        assert_eq!(errors.problems().len(), 1000);
        assert_eq!(errors.to_string().lines().last(), Some("1500 errors in weir.yaml, 1000 of them shown"));
    }
}
