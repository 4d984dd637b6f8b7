//! The pages of commands and of plugins.

use std::fs;

use clap::Command;

use super::plugin::settings::describe;
use crate::reference::{check, head, repository, row};
use crate::sandbox::admission::{Metadata, admit_file};

/// Columns of the help.
const WIDTH: usize = 100;

const COMMANDS: &str = "# Commands

What `weir help` says of each command, as `make reference` wrote it down. In the order of use they are on the pages
[operating](../operating.md) and [plugins](../plugins.md).
";

const PLUGINS: &str = "# Plugins and their settings

What the plugins that come with weir say of themselves, as `make reference` wrote it down; `weir plugin inspect` says it of
any plugin. Each one's README has examples, and what is there if a setting is not given.
";

#[test]
fn the_reference_of_commands() {
    let mut root = plain(super::command());
    root.build();
    let mut page = COMMANDS.to_owned();
    add(&mut root, &mut page);
    check("commands.md", &page);
}

/// Without what is of this terminal and this environment.
fn plain(command: Command) -> Command {
    command.term_width(WIDTH).mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(plain)
}

fn add(command: &mut Command, page: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let help = command.render_long_help().to_string();
    let help: Vec<_> = help.lines().map(str::trim_end).collect();
    *page += &format!("\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end());
    for command in
        command.get_subcommands_mut().filter(|command| !command.is_hide_set() && command.get_name() != "help")
    {
        add(command, page);
    }
}

#[test]
fn the_reference_of_plugins() {
    let root = repository();
    let crates = fs::read_dir(root.join("plugins")).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = crates.filter(|path| path.join("Cargo.toml").exists()).collect();
    names.sort();
    let mut page = PLUGINS.to_owned();
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let built = root.join(format!("target/plugins/{name}.wasm"));
        let admitted = admit_file(&built).unwrap_or_else(|error| panic!("{error:#}: `make plugins` first"));
        page += &plugin(name, &admitted.metadata);
    }
    check("plugins.md", &page);
}

fn plugin(name: &str, metadata: &Metadata) -> String {
    let about = metadata.description.trim_end_matches('.');
    let mut text = format!("\n## `{name}`\n\n{about}. [README](../../plugins/{name}/README.md)\n\n");
    let rows = describe(&metadata.settings);
    if rows.is_empty() {
        return text + "It has no settings.\n";
    }
    text += &head(["setting", "what it may be", "", "meaning"]);
    // The settings that this one is in.
    let mut outer: Vec<String> = Vec::new();
    for setting in rows {
        outer.truncate(setting.depth);
        let place = format!("{}{}", outer.concat(), setting.name);
        let needed = if setting.is_required { "required" } else { "" };
        text += &match setting.name.starts_with('"') {
            // A word that the setting above may be.
            true => row(["", &words(&setting.name), "", &setting.description]),
            false => row([&format!("`{place}`"), &words(&setting.kind), needed, &setting.description]),
        };
        outer.push(format!("{}{}", setting.name, inside(&setting.kind)));
    }
    text
}

/// How the place of what is in a setting goes on.
fn inside(kind: &str) -> &'static str {
    match kind {
        kind if kind.starts_with("list of") => "[].",
        kind if kind.starts_with("object of") => ".NAME.",
        _ => ".",
    }
}

/// The words of a choice as what is typed.
fn words(kind: &str) -> String {
    kind.replace('"', "`")
}
