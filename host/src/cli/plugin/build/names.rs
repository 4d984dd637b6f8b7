//! Names of functions in a core module, as people write them.
//!
//! They are what stacks and profiles show, so they stay in a plugin. A compiler's own way to write them is twice as long,
//! and the paths of types inside of them are half of what is left.

use anyhow::Result;
use wasm_encoder::{Module, NameMap, NameSection, RawSection};
use wasmparser::{KnownCustom, Name, NameSectionReader, Parser, Payload};

/// Sections that nobody reads in a plugin: what is said of it is beside the module, in the component.
const UNREAD: [&str; 2] = ["weir:plugin", "target_features"];

/// The module with its functions' names made readable; other names, such as those of variables, are left out, and so are
/// sections that nobody reads.
pub fn readable(module: &[u8]) -> Result<Vec<u8>> {
    let mut out = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        match &payload {
            Payload::CustomSection(section) if section.name() == "name" => {
                if let KnownCustom::Name(names) = section.as_known() {
                    out.section(&functions(names)?);
                }
            }
            Payload::CustomSection(section) if UNREAD.contains(&section.name()) => {}
            other => {
                if let Some((id, range)) = other.as_section() {
                    out.section(&RawSection { id, data: &module[range.start as usize..range.end as usize] });
                }
            }
        }
    }
    Ok(out.finish())
}

/// The component without the names of its instances and types, which only tools for components show.
pub fn without_its_parts(component: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(component.len());
    let mut kept = 0;
    let mut depth = 0;
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::CustomSection(section) if depth == 0 && section.name() == "component-name" => {
                let range = section.range();
                // Before it are one byte that says what it is, and its length.
                let length = (range.end - range.start) as u32;
                let begin = range.start as usize - 1 - (32 - (length | 1).leading_zeros()).div_ceil(7) as usize;
                out.extend_from_slice(&component[kept..begin]);
                kept = range.end as usize;
            }
            _ => {}
        }
    }
    out.extend_from_slice(&component[kept..]);
    Ok(out)
}

fn functions(names: NameSectionReader) -> Result<NameSection> {
    let mut functions = NameMap::new();
    for subsection in names {
        if let Name::Function(map) = subsection? {
            for naming in map {
                let naming = naming?;
                let name = format!("{:#}", rustc_demangle::demangle(naming.name));
                functions.append(naming.index, &short(&without_placeholders(&name)));
            }
        }
    }
    let mut section = NameSection::new();
    section.functions(&functions);
    Ok(section)
}

/// The name without parameters that stand for any type: `Vec<T,A>::push` is `Vec::push`.
fn without_placeholders(name: &str) -> String {
    let is_placeholder =
        |text: &str| matches!(text.trim().as_bytes(), [b'A'..=b'Z' | b'_'] | [b'A'..=b'Z', b'0'..=b'9']);
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(open) = rest.find('<') {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        rest = match from[1..].split_once('>') {
            Some((list, behind)) if !before.is_empty() && list.split(',').all(is_placeholder) => {
                out.truncate(out.trim_end_matches(':').len());
                behind
            }
            _ => {
                out.push('<');
                &from[1..]
            }
        };
    }
    out + rest
}

/// The name with each type inside of `<` and `>` without its path. What a function belongs to keeps it:
/// `<shop::Parser as weir_plugin::plugin::Plugin>::new` is `<shop::Parser as Plugin>::new`.
fn short(name: &str) -> String {
    let is_of_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '$');
    let mut out = String::with_capacity(name.len());
    let (mut rest, mut depth) = (name, 0_u32);
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| !is_of_path(c)).unwrap_or(rest.len());
        if end == 0 {
            depth = match first {
                '<' => depth + 1,
                // Not that of an arrow.
                '>' if !out.ends_with('-') => depth.saturating_sub(1),
                _ => depth,
            };
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (path, behind) = rest.split_at(end);
        let is_owner = depth == 0 || out == "<";
        let keeps = is_owner || path.starts_with("::");
        // A path that goes on behind, as in `keys::<impl …>`, ends in `::`.
        let body = path.strip_suffix("::").unwrap_or(path);
        out.push_str(if keeps { path } else { &path[body.rfind("::").map_or(0, |at| at + 2)..] });
        rest = behind;
    }
    out
}

#[cfg(test)]
mod tests {
    use wasm_encoder::{CodeSection, CustomSection, Function, FunctionSection, TypeSection};

    use super::*;

    fn module(name: &str) -> Vec<u8> {
        let (mut types, mut functions, mut code) = (TypeSection::new(), FunctionSection::new(), CodeSection::new());
        types.ty().function([], []);
        functions.function(0);
        let mut body = Function::new([]);
        body.instructions().end();
        code.function(&body);
        let (mut names, mut map) = (NameSection::new(), NameMap::new());
        map.append(0, name);
        names.functions(&map);
        let custom = CustomSection { name: "other".into(), data: b"kept".into() };
        let mut module = Module::new();
        module.section(&types).section(&functions).section(&code).section(&custom).section(&names);
        module.finish()
    }

    #[test]
    fn types_inside_of_a_name_lose_their_paths() {
        for (name, expected) in [
            ("shop::parse", "shop::parse"),
            ("shop::parse::{{closure}}", "shop::parse::{{closure}}"),
            ("<shop::Parser as weir_plugin::plugin::Plugin>::new", "<shop::Parser as Plugin>::new"),
            (
                "core::ptr::drop_in_place<alloc::vec::Vec<(alloc::string::String,shop::A)>>",
                "core::ptr::drop_in_place<Vec<(String,A)>>",
            ),
            ("<fn(a::B) -> c::D as e::F>::g", "<fn(B) -> D as F>::g"),
            ("<a::b::<impl c::D for e::F>::g as h::I>::j", "<a::b::<impl D for F>::g as I>::j"),
            ("weir:plugin/processor@0.1.0#process", "weir:plugin/processor@0.1.0#process"),
            ("<", "<"),
            (">>a::b", ">>a::b"),
            ("é<ü::ö>", "é<ö>"),
        ] {
            assert_eq!(short(name), expected);
        }
    }

    #[test]
    fn what_stands_for_any_type_is_left_out() {
        for (name, expected) in [
            ("alloc::vec::Vec<T,A1>::push", "alloc::vec::Vec::push"),
            ("alloc::raw_vec::RawVecInner<_>::grow::<A, B>", "alloc::raw_vec::RawVecInner::grow"),
            ("<a::Map<I,F> as b::Iterator<T>>::next", "<a::Map as b::Iterator>::next"),
            ("<T as core::any::Any>::type_id", "<T as core::any::Any>::type_id"),
            ("a::b<U8>::c<T,u8>", "a::b::c<T,u8>"),
            ("<T>::f", "<T>::f"),
            ("a::f<", "a::f<"),
        ] {
            assert_eq!(without_placeholders(name), expected);
        }
    }

    #[test]
    fn a_component_loses_the_names_of_its_parts_and_nothing_else() {
        use wasm_encoder::{Component, ModuleSection};
        let custom =
            |name: &'static str, bytes: usize| CustomSection { name: name.into(), data: vec![7; bytes].into() };
        for bytes in [0, 1, 100, 200, 20_000] {
            let make = |names: bool| {
                let mut component = Component::new();
                component.section(&custom("before", 3));
                component.section(&ModuleSection(&{
                    let mut inner = Module::new();
                    inner.section(&custom("component-name", 5));
                    inner
                }));
                if names {
                    component.section(&custom("component-name", bytes));
                }
                component.section(&custom("behind", 4));
                component.finish()
            };
            assert_eq!(without_its_parts(&make(true)).unwrap(), make(false), "{bytes}");
        }
    }

    #[test]
    fn names_are_readable_and_the_rest_stays() {
        let plain = module("weir_plugin::guest::Runner::new");
        let mangled = module("_ZN11weir_plugin5guest15Runner$LT$P$GT$3new17h8d546e624d556c1cE");
        assert_eq!(readable(&mangled).unwrap(), plain);
        assert_eq!(readable(&plain).unwrap(), plain);
    }
}
