//! Names of functions in a core module, as people write them.
//!
//! They are what stacks and profiles show, so they stay in a plugin. A compiler's own way to write them is twice as long.

use anyhow::Result;
use wasm_encoder::{Module, NameMap, NameSection, RawSection};
use wasmparser::{KnownCustom, Name, NameSectionReader, Parser, Payload};

/// The module with its functions' names made readable; other names, such as those of variables, are left out.
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
            other => {
                if let Some((id, range)) = other.as_section() {
                    out.section(&RawSection { id, data: &module[range.start as usize..range.end as usize] });
                }
            }
        }
    }
    Ok(out.finish())
}

fn functions(names: NameSectionReader) -> Result<NameSection> {
    let mut functions = NameMap::new();
    for subsection in names {
        if let Name::Function(map) = subsection? {
            for naming in map {
                let naming = naming?;
                functions.append(naming.index, &format!("{:#}", rustc_demangle::demangle(naming.name)));
            }
        }
    }
    let mut section = NameSection::new();
    section.functions(&functions);
    Ok(section)
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
    fn names_are_readable_and_the_rest_stays() {
        let plain = module("weir_plugin::guest::Runner<P>::new");
        let mangled = module("_ZN11weir_plugin5guest15Runner$LT$P$GT$3new17h8d546e624d556c1cE");
        assert_eq!(readable(&mangled).unwrap(), plain);
        assert_eq!(readable(&plain).unwrap(), plain);
    }
}
