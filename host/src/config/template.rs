//! Names of logstores, and paths made of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a name is, in the words of a message.
pub(super) const NAME_RULE: &str = "1 to 63 of a-z, 0-9, `_`, `.` and `-`, of which the first is a letter or a digit";

/// Whether this may name a project, a logstore, a sink or a plugin: `[a-z0-9][a-z0-9_.-]{0,62}`. A name is
/// harmless as a part of a path.
pub fn is_name(text: &str) -> bool {
    let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| is_letter(b) || matches!(b, b'_' | b'.' | b'-'))
        && is_letter(text.as_bytes()[0])
}

/// A logstore and whose it is: `shop/nginx-access`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogstoreName {
    /// The project's name, before the slash.
    pub project: String,
    /// The name within the project, after the slash.
    pub logstore: String,
}

/// Text that is no name of a logstore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `project/logstore`, each {NAME_RULE}")]
pub struct BadLogstoreName;

impl FromStr for LogstoreName {
    type Err = BadLogstoreName;

    fn from_str(text: &str) -> Result<Self, BadLogstoreName> {
        match text.split_once('/') {
            Some((project, logstore)) if is_name(project) && is_name(logstore) => {
                Ok(LogstoreName { project: project.to_owned(), logstore: logstore.to_owned() })
            }
            _ => Err(BadLogstoreName),
        }
    }
}

impl fmt::Display for LogstoreName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.logstore)
    }
}

/// Text with `{project}` and `{logstore}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Project,
    Logstore,
    Date,
    Hour,
}

/// An hour of UTC: so many since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtcHour(i64);

impl UtcHour {
    /// The one that a time in Unix seconds is in.
    pub fn of(seconds: i64) -> Self {
        UtcHour(seconds.div_euclid(3600))
    }

    /// The one that it is.
    pub fn now() -> Self {
        UtcHour::of(jiff::Timestamp::now().as_second())
    }

    /// `2006-01-02` and `15`.
    fn date_and_hour(self) -> (String, String) {
        let text = jiff::Timestamp::from_second(self.0.saturating_mul(3600)).unwrap_or_default().to_string();
        let (date, time) = text.split_once('T').unwrap_or((&text, ""));
        (date.to_owned(), time.get(..2).unwrap_or("00").to_owned())
    }
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        Template::parse_with(text, |name| match name {
            "project" => Some(Part::Project),
            "logstore" => Some(Part::Logstore),
            _ => None,
        })
    }

    fn parse_with(text: &str, placeholder: impl Fn(&str) -> Option<Part>) -> Result<Self, BadTemplate> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, after) = rest.split_at(brace);
            let inside = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            let (name, after) = inside.ok_or(BadTemplate::Unbalanced)?;
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(placeholder(name).ok_or_else(|| BadTemplate::Unknown(name.to_owned()))?);
            rest = after;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        Ok(Template(parts))
    }

    /// The text for that logstore.
    pub fn render(&self, name: &LogstoreName) -> String {
        self.render_with(name, &("", ""))
    }

    fn render_with(&self, name: &LogstoreName, (date, hour): &(&str, &str)) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text,
            Part::Project => &*name.project,
            Part::Logstore => &*name.logstore,
            Part::Date => date,
            Part::Hour => hour,
        });
        parts.collect()
    }

    /// Whether it is the same text for all.
    pub fn is_fixed(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// What comes before the first placeholder.
    pub fn fixed(&self) -> &str {
        match self.0.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }
}

/// A path with `{project}`, `{logstore}`, `{date}` and `{hour}` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathTemplate {
    /// What the rest is relative to, unless it is absolute.
    base: PathBuf,
    path: Template,
}

/// Text that is no template of a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTemplate {
    /// Braces around something else than a placeholder.
    #[error("unknown placeholder `{{{0}}}`")]
    Unknown(String),
    /// A brace without its partner.
    #[error("a brace without its partner")]
    Unbalanced,
    /// A component `..`.
    #[error("must not have `..` in it")]
    Parent,
    /// Empty, or a directory.
    #[error("must name a file")]
    NoFile,
}

impl PathTemplate {
    /// Reads a template. A relative one is relative to `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, BadTemplate> {
        if text.split('/').any(|component| component == "..") {
            return Err(BadTemplate::Parent);
        }
        if matches!(text.rsplit('/').next(), None | Some("" | ".")) {
            return Err(BadTemplate::NoFile);
        }
        let path = Template::parse_with(text.trim_start_matches("./"), |name| match name {
            "project" => Some(Part::Project),
            "logstore" => Some(Part::Logstore),
            "date" => Some(Part::Date),
            "hour" => Some(Part::Hour),
            _ => None,
        })?;
        Ok(PathTemplate { base: base.to_owned(), path })
    }

    /// The directory that the paths of all logstores are below.
    pub fn directory(&self) -> PathBuf {
        let fixed = self.path.fixed();
        self.base.join(fixed.rfind('/').map_or("", |slash| &fixed[..=slash])).components().collect()
    }

    /// The path for that logstore in that hour. Absolute if the base is.
    pub fn render(&self, name: &LogstoreName, hour: UtcHour) -> PathBuf {
        if !self.is_dated() {
            return self.base.join(self.path.render(name));
        }
        let (date, hour) = hour.date_and_hour();
        self.base.join(self.path.render_with(name, &(&date, &hour)))
    }

    /// Whether it changes with time.
    pub fn is_dated(&self) -> bool {
        self.path.0.iter().any(|part| matches!(part, Part::Date | Part::Hour))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let name: LogstoreName = "shop/nginx-access".parse().unwrap();
        assert_eq!(
            (&*name.project, &*name.logstore, &*name.to_string()),
            ("shop", "nginx-access", "shop/nginx-access")
        );
        assert!(is_name("0") && is_name("a_b.c-d") && is_name(&"x".repeat(63)));
        for text in
            ["", "a", "a/", "/a", "a/b/c", "A/b", "a/.b", "a/..", "-a/b", "a b/c", "ä/b", &format!("a/{:064}", 0)]
        {
            assert_eq!(text.parse::<LogstoreName>(), Err(BadLogstoreName), "{text}");
        }
    }

    #[test]
    fn templates_render() {
        let name: LogstoreName = "shop/nginx".parse().unwrap();
        let cases = [
            ("out/{project}/{logstore}.ndjson", "/etc/{x}/out/shop/nginx.ndjson", "/etc/{x}/out"),
            ("/var/out.ndjson", "/var/out.ndjson", "/var"),
            ("/{logstore}", "/nginx", "/"),
            ("{logstore}", "/etc/{x}/nginx", "/etc/{x}"),
            ("./a..b/c-{project}{project}-{logstore}.gz", "/etc/{x}/a..b/c-shopshop-nginx.gz", "/etc/{x}/a..b"),
        ];
        for (text, path, directory) in cases {
            let template = PathTemplate::parse(text, Path::new("/etc/{x}")).unwrap();
            assert_eq!(template.render(&name, UtcHour::of(0)).to_str(), Some(path));
            assert_eq!(template.directory().to_str(), Some(directory));
        }
    }

    #[test]
    fn a_path_may_have_the_date_and_hour_in_it() {
        let name: LogstoreName = "shop/nginx".parse().unwrap();
        let template = PathTemplate::parse("/out/{project}/{date}/{hour}-{logstore}", Path::new("/")).unwrap();
        for (seconds, path) in [
            (0, "/out/shop/1970-01-01/00-nginx"),
            (3599, "/out/shop/1970-01-01/00-nginx"),
            (1_136_214_245, "/out/shop/2006-01-02/15-nginx"),
            (-1, "/out/shop/1969-12-31/23-nginx"),
        ] {
            assert_eq!(template.render(&name, UtcHour::of(seconds)).to_str(), Some(path));
        }
        assert!(template.is_dated());
        assert_eq!(Template::parse("{date}"), Err(BadTemplate::Unknown("date".into())));
    }

    #[test]
    fn bad_templates() {
        let unknown = |name: &str| BadTemplate::Unknown(name.into());
        let cases = [
            ("out/{tenant}.log", unknown("tenant")),
            ("{}", unknown("")),
            ("{{project}}", unknown("{project")),
            ("{project", BadTemplate::Unbalanced),
            ("project}", BadTemplate::Unbalanced),
            ("a/../b", BadTemplate::Parent),
            ("..", BadTemplate::Parent),
            ("", BadTemplate::NoFile),
            ("out/", BadTemplate::NoFile),
            ("out/.", BadTemplate::NoFile),
        ];
        for (text, error) in cases {
            assert_eq!(PathTemplate::parse(text, Path::new("/")), Err(error), "{text}");
        }
    }
}
