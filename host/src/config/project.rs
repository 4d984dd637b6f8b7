//! What a project means: its part of the CPU, its memory, what its plugins may be given, and what it may upload.

use std::collections::BTreeMap;

use super::Problem;
use super::fields::Fields;
use super::keys::{PluginKeys, plugin_keys};
use super::limits::{Ceilings, Limits};
use super::raw::Node;
use super::resolved::check_name;
use super::secret::{Secret, token};
use super::units::show_size;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
/// A logstore cannot do with much less.
const LEAST_MEMORY: u64 = 8 * MIB;
/// Of a project that says nothing of its memory: what a plugin may have that says nothing of it either.
const LEAST_PART: u64 = 64 * MIB;
/// Thousandths of a core.
const MOST_CPU: u64 = 1_000_000;
/// Of an uploaded plugin: a Python plugin has 18 MB.
const DEFAULT_UPLOAD: u64 = 32 * MIB;
const LEAST_UPLOAD: u64 = 1 << 10;
const MOST_UPLOAD: u64 = 64 * MIB;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its part of the CPU when there is not enough for all, relative to other projects; 1 to 1000.
    pub share: u32,
    /// The most CPU time that it gets, in thousandths of a core, 1 to 1,000,000; none: as much as there is.
    pub cpu: Option<u32>,
    /// Bytes of memory that it may use, 8 MiB to 1 TiB; none: its part.
    pub memory: Option<u64>,
    /// Bytes that it may use if it does not say, once [`divide_memory`] has divided what there is.
    pub part: Option<u64>,
    /// The most that a plugin of it can be given, not more than `memory`.
    pub limits: Limits,
    /// Who has it may see and change the project over the admin server.
    pub token: Option<Secret>,
    /// What may be uploaded for its logstores.
    pub uploads: Uploads,
    /// Who must have signed what is uploaded.
    pub plugin_keys: PluginKeys,
}

/// What may be uploaded for the logstores of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploads {
    /// Whether anything may.
    pub allow: bool,
    /// Bytes of a plugin; 1 KiB to 64 MiB.
    pub max_size: u64,
    /// Versions that are kept of a logstore's plugin, 1 to 1000.
    pub max_versions: usize,
}

impl Default for Uploads {
    fn default() -> Self {
        Uploads { allow: true, max_size: DEFAULT_UPLOAD, max_versions: 20 }
    }
}

impl Default for Project {
    fn default() -> Self {
        Project {
            share: 1,
            cpu: None,
            memory: None,
            part: None,
            limits: Limits::MOST,
            token: None,
            uploads: Uploads::default(),
            plugin_keys: PluginKeys::default(),
        }
    }
}

impl Project {
    /// Bytes of memory that it may use; none: as many as there are.
    pub fn budget(&self) -> Option<u64> {
        self.memory.or(self.part)
    }
}

/// The projects that are declared, by name, with the places of their ceilings.
pub fn projects(node: Option<&Node>, fields: &mut Fields) -> BTreeMap<String, (Project, Ceilings)> {
    let entries = node.and_then(|node| fields.entries(node)).unwrap_or_default();
    let mut projects = BTreeMap::new();
    for (name, node) in entries {
        check_name(name, node, fields);
        projects.insert(name.clone(), project(node, fields).unwrap_or_default());
    }
    projects
}

fn project(node: &Node, fields: &mut Fields) -> Option<(Project, Ceilings)> {
    let keys = ["share", "cpu", "memory", "limits", "token", "token_file", "uploads", "plugin_keys"];
    let table = fields.table(node, &keys)?;
    let share = fields.integer(table.get("share"), 1, 1..=1000) as u32;
    let cpu = table.get("cpu").and_then(|node| fields.cpu(node, 1..=MOST_CPU)).map(|cpu| cpu as u32);
    let memory = table.get("memory").map(|node| (memory(node, fields), node.place()));
    let bytes = memory.as_ref().map(|(bytes, _)| *bytes);
    let ceilings = Ceilings::read(table.get("limits"), memory, fields);
    let token = token(&table, fields);
    let uploads = table.get("uploads").and_then(|node| uploads(node, fields)).unwrap_or_default();
    let plugin_keys = plugin_keys(table.get("plugin_keys"), fields);
    let limits = ceilings.limits.clone();
    Some((Project { share, cpu, memory: bytes, part: None, limits, token, uploads, plugin_keys }, ceilings))
}

/// Bytes of memory.
pub(super) fn memory(node: &Node, fields: &mut Fields) -> u64 {
    fields.size(Some(node), TIB, LEAST_MEMORY..=TIB)
}

/// Gives each of the projects that say nothing of their memory the same part of what the others leave of `total` bytes,
/// and as much as one plugin may have. Gives the sum of all.
pub fn divide_memory<'a>(total: u64, projects: impl IntoIterator<Item = &'a mut Project>) -> u64 {
    let (given, open): (Vec<_>, Vec<_>) = projects.into_iter().partition(|project| project.memory.is_some());
    let given = given.iter().filter_map(|project| project.memory).fold(0, u64::saturating_add);
    let count = open.len() as u64;
    let part = (total.saturating_sub(given) / count.max(1)).max(LEAST_PART);
    open.into_iter().for_each(|project| project.part = Some(part));
    given.saturating_add(part * count)
}

/// A warning if projects may use more than the total together.
pub(super) fn warn_of_memory<'a>(
    total: &Node,
    bytes: u64,
    projects: impl IntoIterator<Item = &'a Project>,
    fields: &mut Fields,
) {
    let mut projects: Vec<_> = projects.into_iter().cloned().collect();
    let sum = divide_memory(bytes, &mut projects);
    if sum > bytes {
        let message = format!("projects may use {} together, more than these {}", show_size(sum), show_size(bytes));
        let hint = format!("one that has no memory of its own gets {} at least", show_size(LEAST_PART));
        fields.problems.warning(Problem::new(total.place(), message).hint(hint));
    }
}

fn uploads(node: &Node, fields: &mut Fields) -> Option<Uploads> {
    let table = fields.table(node, &["allow", "max_size", "max_versions"])?;
    let default = Uploads::default();
    Some(Uploads {
        allow: fields.boolean(table.get("allow"), default.allow),
        max_size: fields.size(table.get("max_size"), default.max_size, LEAST_UPLOAD..=MOST_UPLOAD),
        max_versions: fields.integer(table.get("max_versions"), default.max_versions as u64, 1..=1000) as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn with(project: &str) -> String {
        format!(
            "projects: {{ p: {{ {project} }} }}
logstores: [{{ name: p/a, files: {{ root: /x }}, sink: s }}]
sinks: {{ s: {{ type: blackhole }} }}
"
        )
    }

    fn loaded(project: &str) -> Project {
        parse(&with(project), "weir.yaml", &|_| None).unwrap().config.projects["p"].clone()
    }

    #[test]
    fn parts_of_the_cpu_and_memory() {
        assert_eq!(loaded(""), Project::default());
        let cpu = |text: &str| loaded(&format!("cpu: {text}")).cpu;
        let texts = ["1m", "500m", "2", "1.5", "'1.5'", "0.1", "1000", ""];
        let thousandths = [Some(1), Some(500), Some(2000), Some(1500), Some(1500), Some(100), Some(1_000_000), None];
        assert_eq!(texts.map(cpu), thousandths);
        let memory = |text: &str| loaded(&format!("memory: {text}")).memory;
        assert_eq!(["8MiB", "1TiB", ""].map(memory), [Some(8 << 20), Some(1 << 40), None]);
    }

    #[test]
    fn what_some_projects_leave_is_divided_among_the_others() {
        let divided = |total, memory: &[Option<u64>]| {
            let project = |memory: &Option<u64>| Project { memory: memory.map(|mib| mib * MIB), ..Project::default() };
            let mut projects: Vec<_> = memory.iter().map(project).collect();
            let sum = divide_memory(total * MIB, &mut projects);
            let budgets = projects.iter().map(|project| project.budget().unwrap() / MIB).collect::<Vec<_>>();
            (budgets, sum / MIB)
        };
        assert_eq!(divided(240, &[None, Some(40), None]), (vec![100, 40, 100], 240));
        assert_eq!(divided(240, &[Some(40), Some(90)]), (vec![40, 90], 130));
        assert_eq!(divided(100, &[Some(40), Some(90), None]), (vec![40, 90, 64], 194));
        assert_eq!(divided(100, &[None; 20]), (vec![64; 20], 1280));
        let most = u64::MAX / MIB;
        assert_eq!(divided(100, &[Some(most), Some(90), None]), (vec![most, 90, 64], most));
    }

    #[test]
    fn uploads_and_tokens() {
        let uploads = |text: &str| loaded(&format!("uploads: {text}")).uploads;
        assert_eq!(uploads("{}"), Uploads { allow: true, max_size: 32 << 20, max_versions: 20 });
        let least = Uploads { allow: false, max_size: 1 << 10, max_versions: 1 };
        assert_eq!(uploads("{ allow: false, max_size: 1KiB, max_versions: 1 }"), least);
        let most = Uploads { allow: true, max_size: 64 << 20, max_versions: 1000 };
        assert_eq!(uploads("{ max_size: 64MiB, max_versions: 1000 }"), most);
        let token = |text: &str| loaded(text).token;
        assert_eq!(token("token: 0123456789abcdef"), Some(Secret::Value("0123456789abcdef".into())));
        assert_eq!(token("token_file: /t"), Some(Secret::File("/t".into())));
    }

    #[test]
    fn two_projects_do_not_have_the_same_token() {
        let token = "token: 0123456789abcdef";
        let text =
            with(token).replace("projects: { p:", &format!("admin: {{ {token} }}\nprojects: {{ q: {{ {token} }}, p:"));
        let said = parse(&text, "weir.yaml", &|_| None).unwrap_err().to_string();
        let expected = "weir.yaml:2:13: projects.q.token: is the token of admin too: each needs one of its own
weir.yaml:2:45: projects.p.token: is the token of admin too: each needs one of its own
2 errors in weir.yaml";
        assert_eq!(said, expected);
    }

    #[test]
    fn projects_that_are_wrong() {
        let cores = "cpu: must be cores from 1m to 1000, not";
        let hint = "\n  hint: write 500m for half a core, 2 or 1.5";
        let memory = "memory: must be a size from 8MiB to 1TiB, not";
        for (keys, expected) in [
            ("cpu: 0", format!("{cores} 0")),
            ("cpu: 1001", format!("{cores} 1001")),
            ("cpu: 0m", format!("{cores} \"0m\"")),
            ("cpu: -1", format!("{cores} -1{hint}")),
            ("cpu: 0.0001", format!("{cores} a number with a point{hint}")),
            ("cpu: .inf", format!("{cores} a number with a point{hint}")),
            ("cpu: half", format!("{cores} \"half\"{hint}")),
            ("cpu: [1]", format!("{cores} a list{hint}")),
            ("memory: 7MiB", format!("{memory} \"7MiB\"")),
            ("memory: 2TiB", format!("{memory} \"2TiB\"")),
            ("share: 0", "share: must be an integer from 1 to 1000, not 0".into()),
            ("limits: 5", "limits: must be a mapping, not 5".into()),
            ("uploads: no", "uploads: must be a mapping, not \"no\"".into()),
            ("uploads: true", "uploads: must be a mapping, not true".into()),
            ("token: 0123456789 abcdef", "token: must be of visible ASCII characters, without spaces".into()),
            ("cpus: 1", "cpus: unknown key\n  hint: did you mean `cpu`?".into()),
        ] {
            let said = parse(&with(keys), "weir.yaml", &|_| None).unwrap_err().to_string();
            assert_eq!(said, format!("weir.yaml:1:18: projects.p.{expected}\n1 error in weir.yaml"), "{keys}");
        }
    }
}
