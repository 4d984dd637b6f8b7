//! The documentation: its links lead somewhere, in the book too, which has every page once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::repository;

/// What the book is made of, beside the plugins' READMEs: what `make book` copies.
const COPIED: [&str; 5] = ["docs", "wit", "deploy", "README.md", "LICENSE"];

/// All pages, but for the book's table of contents.
fn pages() -> Vec<PathBuf> {
    let of = |dir: &str| fs::read_dir(repository().join(dir)).unwrap().map(|entry| entry.unwrap().path());
    let readmes = of("plugins").map(|plugin| plugin.join("README.md"));
    let all = of("docs").chain(of("docs/reference")).chain(readmes).chain([repository().join("README.md")]);
    let is_page = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md") && path.exists();
    all.filter(|path| is_page(path) && !path.ends_with("docs/SUMMARY.md")).collect()
}

/// A page's place in the project.
fn name(page: &Path) -> String {
    page.strip_prefix(repository()).unwrap().to_str().unwrap().to_owned()
}

/// The lines of a page that are not code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// Where a page's links lead, as they are written.
fn links(page: &str) -> Vec<&str> {
    let of_line = |line| str::split(line, "](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    prose(page).flat_map(of_line).collect()
}

/// The anchors of a page's headings, as those who show Markdown make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut counts = BTreeMap::new();
    let headings = prose(page).filter_map(|line| line.strip_prefix('#').map(|rest| rest.trim_start_matches('#')));
    let anchor = |heading: &str| {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
        let count = counts.entry(slug.clone()).and_modify(|count| *count += 1).or_insert(0);
        if *count == 0 { slug } else { format!("{slug}-{count}") }
    };
    headings.map(anchor).collect()
}

/// The links of a page that lead nowhere, with a reason each.
fn broken(path: &Path) -> Vec<String> {
    let page = fs::read_to_string(path).unwrap();
    let is_relative = |target: &&str| !target.contains("://") && !target.starts_with("mailto:");
    let why = |target: &str| {
        let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
        let to = if file.is_empty() { path.to_owned() } else { path.parent().unwrap().join(file) };
        if !to.exists() {
            return Some("there is no such file");
        }
        let has = |anchor| anchors(&fs::read_to_string(&to).unwrap()).contains(anchor);
        anchor.filter(|anchor| !has(*anchor)).map(|_| "there is no such heading")
    };
    let tell = |target: &str| Some(format!("{}: {target}: {}", path.display(), why(target)?));
    links(&page).into_iter().filter(is_relative).filter_map(tell).collect()
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    assert!(pages.len() > 10, "{pages:?}");
    let broken: Vec<_> = pages.iter().flat_map(|path| broken(path)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_book_has_every_page_once() {
    let contents = fs::read_to_string(repository().join("docs/SUMMARY.md")).unwrap();
    let named = links(&contents).into_iter().map(|link| match link.strip_prefix("../") {
        Some(beside) => beside.to_owned(),
        None => format!("docs/{link}"),
    });
    let mut named: Vec<_> = named.collect();
    named.sort();
    let mut there: Vec<_> = pages().iter().map(|page| name(page)).collect();
    there.sort();
    assert_eq!(named, there, "left: docs/SUMMARY.md; right: what is there");
}

#[test]
fn what_pages_link_is_in_the_book() {
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    assert!(makefile.contains(&format!("@cp -r {} ", COPIED.join(" "))), "it copies something else than {COPIED:?}");
    let root = repository().canonicalize().unwrap();
    let is_in_book = |target: &Path| {
        let Ok(place) = target.strip_prefix(&root) else { return false };
        let is_readme = place.starts_with("plugins") && place.ends_with("README.md");
        target.is_file() && (is_readme || COPIED.iter().any(|copied| place.starts_with(copied)))
    };
    let mut outside = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let target = page.parent().unwrap().join(link.split('#').next().unwrap());
            let target = target.canonicalize().unwrap_or(target);
            if !is_in_book(&target) {
                outside.push(format!("{}: {link}", name(&page)));
            }
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
}

#[test]
fn what_is_broken_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let page = "# A `b` c!\n\n## Same\n\n## Same\n\n[1](#a-b-c) [2](#same-1) [3](#same-2)\n```\n[4](no.md)\n```\n\
                [5](no.md) [6](page.md#same) [7](page.md#no) [8](https://there.example/#no)\n";
    let path = dir.path().join("page.md");
    fs::write(&path, page).unwrap();
    let expected =
        ["#same-2: there is no such heading", "no.md: there is no such file", "page.md#no: there is no such heading"];
    assert_eq!(broken(&path), expected.map(|what| format!("{}: {what}", path.display())));
}
