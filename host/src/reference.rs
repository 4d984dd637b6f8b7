//! The pages of `docs/reference/`: each is made of the code that it is about, and a test holds it to that.
//!
//! `cli` makes the pages of commands and plugins, `config` that of keys, `admin` that of metrics; `make reference` writes them.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The directory of the whole project.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Holds a page to the text that it should have; with `WEIR_BLESS=1` it gets that text.
pub fn check(page: &str, text: &str) {
    let path = repository().join("docs/reference").join(page);
    if env::var_os("WEIR_BLESS").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, text).unwrap();
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    let different = known.lines().zip(text.lines()).position(|(known, made)| known != made);
    let line = different.unwrap_or_else(|| known.lines().count().min(text.lines().count())) + 1;
    assert!(known == text, "docs/reference/{page}:{line}: the code says something else: `make reference`");
}

/// A row of a table, with nothing in it that ends a cell or is taken for HTML.
pub fn row<const N: usize>(cells: [&str; N]) -> String {
    let cells = cells.map(|cell| {
        let line = cell.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
        // What is in backticks is shown as it is.
        let parts = line.split('`').enumerate();
        let parts: Vec<_> =
            parts.map(|(i, part)| if i % 2 == 0 { part.replace('<', "\\<") } else { part.into() }).collect();
        parts.join("`")
    });
    format!("| {} |\n", cells.join(" | ")).replace("  ", " ")
}

/// The head of a table.
pub fn head<const N: usize>(cells: [&str; N]) -> String {
    format!("{}{}\n", row(cells), "|---".repeat(N) + "|")
}

/// The anchor of a heading, as those who show Markdown make it.
pub fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}
