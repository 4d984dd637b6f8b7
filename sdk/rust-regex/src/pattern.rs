//! One pattern: its named groups, and what finds them in a line.

#[cfg(feature = "onepass")]
use regex_automata::Anchored;
use regex_automata::Input;
#[cfg(feature = "onepass")]
use regex_automata::dfa::onepass::{self, DFA as OnePass};
use regex_automata::meta;
#[cfg(feature = "onepass")]
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::NonMaxUsize;
use regex_automata::util::syntax;
#[cfg(feature = "onepass")]
use regex_syntax::hir::Look;
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
    /// Its name.
    pub name: String,
}

enum Engine {
    Plan(Plan),
    #[cfg(feature = "onepass")]
    OnePass {
        dfa: Box<OnePass>,
        cache: Box<onepass::Cache>,
        slots: Vec<Option<NonMaxUsize>>,
    },
    General {
        regex: meta::Regex,
        cache: Box<meta::Cache>,
        slots: Vec<Option<NonMaxUsize>>,
    },
}

/// In a slot: the group has no part in the match.
const NOWHERE: usize = usize::MAX;

impl Pattern {
    /// Compiles a pattern; `unicode` says whether classes such as `\w` and `.` mean characters of Unicode rather than
    /// single bytes. The error says what is wrong with it.
    pub fn new(pattern: &str, unicode: bool) -> Result<Self, String> {
        let parsed = parse(pattern, unicode)?;
        let engine = match Plan::new(&parsed) {
            Some(plan) => Engine::Plan(plan),
            None => Engine::general(&parsed)?,
        };
        Pattern::with(pattern, &parsed, engine)
    }

    /// A pattern that matches only where a text begins, if it can be scanned or matched in one pass; none if it cannot.
    /// Where it matches, [`Pattern::new`] would find the same.
    #[cfg(feature = "onepass")]
    pub fn at_start(pattern: &str, unicode: bool) -> Result<Option<Self>, String> {
        let parsed = parse(pattern, unicode)?;
        let anchored = match parsed.kind() {
            HirKind::Concat(parts) if matches!(parts[0].kind(), HirKind::Look(Look::Start)) => parsed.clone(),
            _ => Hir::concat(vec![Hir::look(Look::Start), parsed.clone()]),
        };
        let engine = match Plan::new(&anchored) {
            Some(plan) => Some(Engine::Plan(plan)),
            None => Engine::one_pass(&anchored),
        };
        engine.map(|engine| Pattern::with(pattern, &parsed, engine)).transpose()
    }

    fn with(pattern: &str, parsed: &Hir, engine: Engine) -> Result<Self, String> {
        let mut groups = Vec::new();
        name_groups(parsed, &mut groups);
        if groups.is_empty() {
            return Err(format!("`{pattern}` has no named group, such as `(?<status>\\d+)`"));
        }
        for group in &groups {
            Fields::check(&group.name)?;
        }
        Ok(Pattern { engine, groups, slots: vec![NOWHERE; slots(parsed)] })
    }

    /// Whether it is matched by scanning: much faster than the others.
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
            #[cfg(feature = "onepass")]
            Engine::OnePass { dfa, cache, slots } => {
                let input = Input::new(&data[start..end]).anchored(Anchored::Yes);
                // It gives up only on what its configuration excludes.
                if !matches!(dfa.try_search_slots(cache, &input, slots), Ok(Some(_))) {
                    return false;
                }
                copy(slots, start, &mut self.slots);
                true
            }
            Engine::General { regex, cache, slots } => {
                let input = Input::new(&data[start..end]);
                if regex.search_slots_with(cache, &input, slots).is_none() {
                    return false;
                }
                copy(slots, start, &mut self.slots);
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
    fn general(parsed: &Hir) -> Result<Self, String> {
        let config = meta::Config::new().utf8_empty(false);
        let built = meta::Builder::new().configure(config).build_from_hir(parsed);
        let regex = built.map_err(|e| format!("it is too large: {e}"))?;
        let cache = Box::new(regex.create_cache());
        Ok(Engine::General { regex, cache, slots: vec![None; slots(parsed)] })
    }

    /// None if the pattern cannot be matched in one pass.
    #[cfg(feature = "onepass")]
    fn one_pass(parsed: &Hir) -> Option<Self> {
        const MOST_BYTES: usize = 1 << 20;
        let config = thompson::Config::new().utf8(false).nfa_size_limit(Some(MOST_BYTES));
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(parsed).ok()?;
        let config = onepass::Config::new().size_limit(Some(MOST_BYTES));
        let dfa = onepass::Builder::new().configure(config).build_from_nfa(nfa).ok()?;
        let cache = Box::new(dfa.create_cache());
        Some(Engine::OnePass { dfa: Box::new(dfa), cache, slots: vec![None; slots(parsed)] })
    }
}

fn parse(pattern: &str, unicode: bool) -> Result<Hir, String> {
    let config = syntax::Config::new().unicode(unicode).utf8(false);
    syntax::parse_with(pattern, &config).map_err(|e| e.to_string())
}

/// Two numbers a group; the whole match is one.
fn slots(parsed: &Hir) -> usize {
    2 * parsed.properties().explicit_captures_len() + 2
}

#[inline(always)]
fn copy(slots: &[Option<NonMaxUsize>], start: usize, to: &mut [usize]) {
    for (to, slot) in to.iter_mut().zip(slots) {
        *to = slot.map_or(NOWHERE, |slot| start + slot.get());
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
