//! `weir plugin inspect`: what is in a plugin.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::push::read_plugin;
use super::settings::describe;
use crate::cli::screen::{Look, Table, coloured, has_colours, on_one_line, print, print_json};
use crate::sandbox::anatomy::Anatomy;

/// Show what is in a plugin: its name, settings, imports and sizes
///
/// Nothing of it is run. Exits with 70 if it is no component.
#[derive(clap::Args)]
pub struct Args {
    /// The plugin
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// All of it as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<()> {
    let bytes = read_plugin(&args.file)?;
    let name = args.file.file_stem().unwrap_or_default().to_string_lossy();
    let anatomy = Anatomy::read(&bytes, &name).with_context(|| args.file.display().to_string())?;
    match args.json {
        true => print_json(&anatomy),
        false => print(&text(&anatomy, has_colours())),
    }
}

fn text(anatomy: &Anatomy, colours: bool) -> String {
    let mut text = String::new();
    let mut tell = |what: &str, value: &str, look| {
        if !value.is_empty() {
            text += &format!("{what:<12}{}\n", coloured(&on_one_line(value), look, colours));
        }
    };
    let plain = Look::Plain;
    tell("name", &anatomy.name, Look::Head);
    tell("version", &anatomy.version, plain);
    tell("what it is", &anatomy.description, plain);
    tell("plugin API", anatomy.api.as_deref().unwrap_or("none: it is no plugin"), plain);
    tell("sha256", &anatomy.sha256, plain);
    tell("size", &sizes(anatomy), plain);
    let names = if anatomy.has_names { "with names, which stacks show" } else { "without names: stacks have numbers" };
    tell("functions", &format!("{}, {names}", anatomy.functions), plain);
    tell("imports", &list(&anatomy.imports), plain);
    tell("exports", &list(&anatomy.exports), plain);
    tell("made by", &anatomy.producers.join(", "), plain);
    match &anatomy.refused {
        Some(why) => tell("an agent", &format!("refuses it: {why}"), Look::Bad),
        None => tell("an agent", "takes it, as far as can be seen without compiling it", Look::Good),
    }
    text += &settings(anatomy, colours);
    text
}

/// Bytes, and of what.
fn sizes(anatomy: &Anatomy) -> String {
    let custom: u64 = anatomy.custom.values().sum();
    let mut largest: Vec<_> = anatomy.custom.iter().collect();
    largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    let named: Vec<_> = largest.iter().take(4).map(|(name, bytes)| format!("{name} {bytes}")).collect();
    let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    let rest = anatomy.size.saturating_sub(anatomy.code + anatomy.data + custom);
    let Anatomy { size, code, data, .. } = anatomy;
    format!("{size} bytes: code {code}, data {data}, custom sections {custom}{named}, others {rest}")
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

fn settings(anatomy: &Anatomy, colours: bool) -> String {
    if anatomy.settings.is_null() {
        return "\nIt does not say which settings it has.\n".to_owned();
    }
    let rows = describe(&anatomy.settings);
    if rows.is_empty() {
        return "\nIt has no settings.\n".to_owned();
    }
    let mut table = Table::new(&["SETTING", "TYPE", "", "WHAT IT IS"]);
    for row in rows {
        let name = format!("{}{}", "  ".repeat(row.depth), row.name);
        let needed = if row.is_required { "required" } else { "" };
        table.row(vec![name.into(), row.kind.into(), needed.into(), row.description.into()]);
    }
    format!("\n{}", table.text(colours))
}
