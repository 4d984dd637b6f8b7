//! What a container's manifest says by variables: weir's own names, and those that manifests of Logtail have.
//!
//! A variable that is empty counts as not set. Weir's own name wins.

use crate::event::Tags;

/// Tags that may be named. Each event is written with all of them.
const MOST_TAGS: usize = 32;
/// Bytes of a tag's name.
const LONGEST_NAME: usize = 64;
/// Bytes of a tag's value.
const LONGEST_VALUE: usize = 1024;

/// Tags that every file has.
const OF_FILES: [&str; 2] = ["path", "host"];
/// How the Log Service's own tags begin.
const RESERVED: &str = "__";

/// Gives the value of a variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable of the contract.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Weir's own name.
    pub name: &'static str,
    /// The name in manifests of Logtail.
    pub alias: &'static str,
}

/// The configuration's path.
pub const CONFIG: Variable = Variable { name: "WEIR_CONFIG", alias: "ALIYUN_LOGTAIL_CONFIG" };
/// The account that the agent belongs to: a name, by which nothing is granted.
pub const USER_ID: Variable = Variable { name: "WEIR_USER_ID", alias: "ALIYUN_LOGTAIL_USER_ID" };
/// The groups that the agent belongs to.
pub const MACHINE_GROUP: Variable = Variable { name: "WEIR_MACHINE_GROUP", alias: "ALIYUN_LOGTAIL_USER_DEFINED_ID" };
/// The variables that become tags.
pub const ENV_TAGS: Variable = Variable { name: "WEIR_ENV_TAGS", alias: "ALIYUN_LOG_ENV_TAGS" };

const ALL: [&Variable; 4] = [&CONFIG, &USER_ID, &MACHINE_GROUP, &ENV_TAGS];

impl Variable {
    /// Its value, and the name that has it.
    pub fn of(&self, env: Lookup) -> Option<(String, &'static str)> {
        [self.name, self.alias].into_iter().find_map(|name| Some((filled(name, env)?, name)))
    }
}

/// The variables of this process.
pub fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A variable's value; one of the contract also by its other name.
pub fn lookup(name: &str, env: Lookup) -> Option<String> {
    let variable = ALL.into_iter().find(|variable| variable.name == name);
    variable.and_then(|variable| Some(variable.of(env)?.0)).or_else(|| env(name))
}

/// Variables that are set by both names to different values, in words.
pub fn contradictions(env: Lookup) -> Vec<String> {
    let contradicts = |variable: &&Variable| {
        let values = [variable.name, variable.alias].map(|name| filled(name, env));
        matches!(values, [Some(own), Some(other)] if own != other)
    };
    let words = |Variable { name, alias }: &Variable| format!("{name} and {alias} are different; {name} is used");
    ALL.into_iter().filter(contradicts).map(words).collect()
}

/// The names in a list with these separators.
pub fn names(list: &str, separators: &[char]) -> Vec<String> {
    list.split(separators).map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The tags that all events have by [`ENV_TAGS`], and the variables that are named there and not set.
///
/// An error says all that is wrong with them.
pub fn tags(env: Lookup) -> Result<(Tags, Vec<String>), Vec<String>> {
    let Some((list, by)) = ENV_TAGS.of(env) else { return Ok(Default::default()) };
    let (mut tags, mut unset, mut problems) = (Tags::new(), Vec::new(), Vec::new());
    let mut named = names(&list, &['|', ',']);
    named.sort();
    named.dedup();
    if named.len() > MOST_TAGS {
        return Err(vec![format!("{by}: names {} variables, and {MOST_TAGS} may be tags", named.len())]);
    }
    for name in named {
        match (check_name(&name), filled(&name, env)) {
            (Err(problem), _) => problems.push(format!("{by}: {name:?} {problem}")),
            (Ok(()), None) => unset.push(name),
            (Ok(()), Some(value)) if value.len() > LONGEST_VALUE => {
                problems
                    .push(format!("{name}: a tag has {LONGEST_VALUE} bytes at most, and its value {}", value.len()));
            }
            (Ok(()), Some(value)) => tags.push((name, value)),
        }
    }
    if problems.is_empty() { Ok((tags, unset)) } else { Err(problems) }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_known = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if OF_FILES.contains(&name) {
        return Err("cannot be a tag: every file has one of that name".to_owned());
    }
    if name.starts_with(RESERVED) {
        return Err(format!("cannot be a tag: names that begin with {RESERVED} are the Log Service's own"));
    }
    match name.len() <= LONGEST_NAME && name.bytes().all(is_known) {
        true => Ok(()),
        false => Err(format!("cannot be a tag: a name is 1 to {LONGEST_NAME} of a-z, A-Z, 0-9, `_`, `.` and `-`")),
    }
}

/// What to do about a path that came by [`CONFIG`]'s other name, and is no configuration of weir.
pub fn config_hint() -> String {
    let Variable { name, alias } = CONFIG;
    format!(
        "the path comes from {alias}, which in images of Logtail names a file of Logtail's: mount weir's configuration \
         there, or set {name}, which wins, to where it is"
    )
}

fn filled(name: &str, env: Lookup) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env<'a>(set: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn the_own_name_wins_and_empty_is_not_set() {
        let of = |set: &[_]| MACHINE_GROUP.of(&env(set));
        let (own, alias) = ("WEIR_MACHINE_GROUP", "ALIYUN_LOGTAIL_USER_DEFINED_ID");
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(own, "a")]), Some(("a".to_owned(), own)));
        assert_eq!(of(&[(alias, "b")]), Some(("b".to_owned(), alias)));
        assert_eq!(of(&[(own, "a"), (alias, "b")]), Some(("a".to_owned(), own)));
        assert_eq!(of(&[(own, ""), (alias, "b")]), Some(("b".to_owned(), alias)));
        assert_eq!(lookup("WEIR_USER_ID", &env(&[("ALIYUN_LOGTAIL_USER_ID", "1")])), Some("1".to_owned()));
        assert_eq!(lookup("EMPTY", &env(&[("EMPTY", "")])), Some(String::new()));
        assert_eq!(lookup("NONE", &env(&[])), None);
    }

    #[test]
    fn contradictions_are_told_without_the_values() {
        let set = [
            ("WEIR_CONFIG", "/a"),
            ("ALIYUN_LOGTAIL_CONFIG", "/b"),
            ("WEIR_USER_ID", "1"),
            ("ALIYUN_LOGTAIL_USER_ID", "1"),
            ("WEIR_ENV_TAGS", ""),
            ("ALIYUN_LOG_ENV_TAGS", "x"),
        ];
        let expected = ["WEIR_CONFIG and ALIYUN_LOGTAIL_CONFIG are different; WEIR_CONFIG is used"];
        assert_eq!(contradictions(&env(&set)), expected);
    }

    #[test]
    fn named_variables_become_tags() {
        let set = [
            ("WEIR_ENV_TAGS", "_pod_name_| _pod_ip_,_none_|,|_pod_name_,_empty_,"),
            ("_pod_name_", "web-0"),
            ("_pod_ip_", "10.0.0.1"),
            ("_empty_", ""),
            ("other", "x"),
        ];
        let (tags, unset) = super::tags(&env(&set)).unwrap();
        let expected = [("_pod_ip_", "10.0.0.1"), ("_pod_name_", "web-0")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(tags, expected);
        assert_eq!(unset, ["_empty_", "_none_"]);
        assert_eq!(super::tags(&env(&[])), Ok(Default::default()));
    }

    #[test]
    fn names_and_values_are_bounded() {
        let (long, value) = ("n".repeat(65), "v".repeat(1025));
        let list = format!("path|host|__topic__|{long}|a b|é|fine|large");
        let set = [("ALIYUN_LOG_ENV_TAGS", &*list), ("fine", "x"), ("large", &value)];
        let of_files = "cannot be a tag: every file has one of that name";
        let rule = "cannot be a tag: a name is 1 to 64 of a-z, A-Z, 0-9, `_`, `.` and `-`";
        let by = "ALIYUN_LOG_ENV_TAGS";
        let expected = [
            format!("{by}: \"__topic__\" cannot be a tag: names that begin with __ are the Log Service's own"),
            format!("{by}: \"a b\" {rule}"),
            format!("{by}: \"host\" {of_files}"),
            "large: a tag has 1024 bytes at most, and its value 1025".to_owned(),
            format!("{by}: \"{long}\" {rule}"),
            format!("{by}: \"path\" {of_files}"),
            format!("{by}: \"é\" {rule}"),
        ];
        assert_eq!(super::tags(&env(&set)), Err(expected.to_vec()));
        let many: Vec<_> = (0..33).map(|n| format!("n{n}")).collect();
        let said = super::tags(&env(&[("WEIR_ENV_TAGS", &many.join("|"))]));
        assert_eq!(said, Err(vec!["WEIR_ENV_TAGS: names 33 variables, and 32 may be tags".to_owned()]));
        let said = super::tags(&env(&[("WEIR_ENV_TAGS", &many[1..].join("|"))])).unwrap();
        assert_eq!((said.0.len(), said.1.len()), (0, 32));
    }
}
