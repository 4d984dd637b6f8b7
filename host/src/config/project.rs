//! What a project means: its part of the CPU, its memory, and what its plugins may be given.

use std::collections::BTreeMap;

use super::fields::Fields;
use super::limits::{Ceilings, Limits};
use super::raw::Node;
use super::resolved::check_name;

const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;
/// A logstore cannot do with much less.
const LEAST_MEMORY: u64 = 8 * MIB;
/// Thousandths of a core.
const MOST_CPU: u64 = 1_000_000;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its part of the CPU when there is not enough for all, relative to other projects; 1 to 1000.
    pub share: u32,
    /// The most CPU time that it gets, in thousandths of a core, 1 to 1,000,000; none: as much as there is.
    pub cpu: Option<u32>,
    /// Bytes of memory that it may use, 8 MiB to 1 TiB; none: there is no budget.
    pub memory: Option<u64>,
    /// The most that a plugin of it can be given, not more than `memory`.
    pub limits: Limits,
}

impl Default for Project {
    fn default() -> Self {
        Project { share: 1, cpu: None, memory: None, limits: Limits::MOST }
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
    let table = fields.table(node, &["share", "cpu", "memory", "limits"])?;
    let share = fields.integer(table.get("share"), 1, 1..=1000) as u32;
    let cpu = table.get("cpu").and_then(|node| fields.cpu(node, 1..=MOST_CPU)).map(|cpu| cpu as u32);
    let memory = table.get("memory").map(|node| (fields.size(Some(node), TIB, LEAST_MEMORY..=TIB), node.place()));
    let bytes = memory.as_ref().map(|(bytes, _)| *bytes);
    let ceilings = Ceilings::read(table.get("limits"), memory, fields);
    Some((Project { share, cpu, memory: bytes, limits: ceilings.limits.clone() }, ceilings))
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
            ("cpus: 1", "cpus: unknown key\n  hint: did you mean `cpu`?".into()),
        ] {
            let said = parse(&with(keys), "weir.yaml", &|_| None).unwrap_err().to_string();
            assert_eq!(said, format!("weir.yaml:1:18: projects.p.{expected}\n1 error in weir.yaml"), "{keys}");
        }
    }
}
