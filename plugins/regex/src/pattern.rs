//! One pattern: its named groups, and what finds them in a line.

use regex_automata::meta;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
use regex_syntax::hir::{Hir, HirKind};
use weir_plugin::out::Fields;

use crate::plan::Plan;

/// A pattern whose named groups are fields.
pub struct Pattern {
    engine: Engine,
    groups: Vec<Group>,
    /// Where each group begins and ends, two numbers a group.
    slots: Vec<usize>,
}

/// A named group.
pub struct Group {
    /// Its number; the whole match is number 0.
    index: usize,
    pub name: String,
}

enum Engine {
    Plan(Plan),
    General { regex: meta::Regex, cache: Box<meta::Cache>, slots: Vec<Option<NonMaxUsize>> },
}

/// In a slot: the group has no part in the match.
const NOWHERE: usize = usize::MAX;

impl Pattern {
    /// Compiles a pattern. The error says what is wrong with it.
    pub fn new(pattern: &str, unicode: bool) -> Result<Self, String> {
        let config = syntax::Config::new().unicode(unicode).utf8(false);
        let parsed = syntax::parse_with(pattern, &config).map_err(|e| e.to_string())?;
        let mut groups = Vec::new();
        name_groups(&parsed, &mut groups);
        if groups.is_empty() {
            return Err(format!("`{pattern}` has no named group, such as `(?<status>\\d+)`"));
        }
        for group in &groups {
            Fields::check(&group.name)?;
        }
        let count = 2 * parsed.properties().explicit_captures_len() + 2;
        let engine = match Plan::new(&parsed) {
            Some(plan) => Engine::Plan(plan),
            None => Engine::general(&parsed, count)?,
        };
        Ok(Pattern { engine, groups, slots: vec![NOWHERE; count] })
    }

    /// Whether it is matched by scanning.
    #[cfg(test)]
    pub fn is_scanned(&self) -> bool {
        matches!(self.engine, Engine::Plan(_))
    }

    /// The named groups, in the order in which they begin.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether `data[start..end]` matches; if so, [`Pattern::span`] says where the groups are.
    #[inline]
    pub fn matches(&mut self, data: &[u8], start: usize, end: usize) -> bool {
        match &mut self.engine {
            Engine::Plan(plan) => plan.matches(data, start, end, &mut self.slots),
            Engine::General { regex, cache, slots } => {
                let input = regex_automata::Input::new(&data[start..end]);
                if regex.search_slots_with(cache, &input, slots).is_none() {
                    return false;
                }
                for (to, slot) in self.slots.iter_mut().zip(slots) {
                    *to = slot.map_or(NOWHERE, |slot| start + slot.get());
                }
                true
            }
        }
    }

    /// Where a group is, if it has a part in the match.
    #[inline]
    pub fn span(&self, group: &Group) -> Option<(usize, usize)> {
        let (start, end) = (self.slots[group.index * 2], self.slots[group.index * 2 + 1]);
        (start != NOWHERE && end != NOWHERE).then_some((start, end))
    }
}

impl Engine {
    fn general(parsed: &Hir, slots: usize) -> Result<Self, String> {
        let config = meta::Config::new().utf8_empty(false);
        let built = meta::Builder::new().configure(config).build_from_hir(parsed);
        let regex = built.map_err(|e| format!("it is too large: {e}"))?;
        let cache = Box::new(regex.create_cache());
        Ok(Engine::General { regex, cache, slots: vec![None; slots] })
    }
}

fn name_groups(part: &Hir, groups: &mut Vec<Group>) {
    match part.kind() {
        HirKind::Capture(group) => {
            if let Some(name) = &group.name {
                groups.push(Group { index: group.index as usize, name: name.to_string() });
            }
            name_groups(&group.sub, groups);
        }
        HirKind::Repetition(repetition) => name_groups(&repetition.sub, groups),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().for_each(|p| name_groups(p, groups)),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => {}
    }
}
