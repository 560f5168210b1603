//! The repository lints itself: layers point one way, files stay small, every file says what it is about.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines.
const MAX_LINES: usize = 500;

/// The layer of each top module. A module imports only from layers below its own; only the pure parts may build on each other.
const LAYERS: [(u8, &[&str]); 8] = [
    (0, &["types", "config"]),
    (
        1,
        &[
            "hlc",
            "held",
            "crdt",
            "ring",
            "merkle",
            "quorum",
            "detector",
            "absences",
            "members",
            "former",
            "glob",
            "notifications",
            "panics",
        ],
    ),
    (2, &["env", "topology", "listeners", "pace"]),
    (3, &["replica", "exchange"]),
    (4, &["coordinator", "anti_entropy", "handoff", "membership", "pubsub"]),
    (5, &["node"]),
    (6, &["server", "backend", "sim"]),
    (7, &["embed", "cli"]),
];

/// Imports within one layer that are meant, beside those among the pure parts.
const WITHIN_LAYER: [(&str, &str); 1] = [("cli", "embed")];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the project, with its text.
fn sources(folder: &str) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.insert(path.strip_prefix(root()).unwrap().to_owned(), text);
            }
        }
    }
    found
}

fn all_sources() -> BTreeMap<PathBuf, String> {
    ["src", "tests", "examples", "benches", "fuzz"].into_iter().flat_map(sources).collect()
}

/// The top module that a file of `src` belongs to.
fn module_of(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").ok()?.components().next()?;
    let name = Path::new(first.as_os_str()).file_stem()?.to_str()?.to_owned();
    (name != "lib" && name != "main").then_some(name)
}

/// Whether a file holds nothing but tests, which may reach anywhere.
fn is_test(path: &Path) -> bool {
    path.file_stem().and_then(|name| name.to_str()).is_some_and(|name| name == "tests" || name.ends_with("_tests"))
}

fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|(layer, _)| *layer)
}

/// The code of a file without comments and without its tests, which may reach anywhere.
fn code_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| line.trim() != "#[cfg(test)]").filter(|line| !line.trim_start().starts_with("//"))
}

/// The top modules that a line names by `crate::…`; a list in braces is taken apart.
fn named_in(line: &str) -> Vec<String> {
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let mut names = Vec::new();
    for rest in line.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            Some(list) => {
                let list = list.split('}').next().unwrap_or_default();
                names.extend(list.split(',').map(|item| item.trim().chars().take_while(|letter| is_name(*letter)).collect()));
            }
            None => names.push(rest.chars().take_while(|letter| is_name(*letter)).collect()),
        }
    }
    names.retain(|name: &String| !name.is_empty());
    names
}

#[test]
fn layers_point_one_way() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let Some(module) = module_of(&path).filter(|_| !is_test(&path)) else { continue };
        let Some(own) = layer_of(&module) else {
            wrong.push(format!("{}: the module '{module}' stands in no layer of tests/tidy.rs", path.display()));
            continue;
        };
        for line in code_of(&text) {
            for name in named_in(line).into_iter().filter(|name| *name != module) {
                // What is not a module of ours is a macro or an item at the root.
                let Some(other) = layer_of(&name) else { continue };
                let meant = other == own && (own <= 1 || WITHIN_LAYER.contains(&(module.as_str(), name.as_str())));
                if other >= own && !meant {
                    wrong.push(format!("{}: layer {own} imports '{name}' of layer {other}: {}", path.display(), line.trim()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_is_long() {
    let long: Vec<String> = all_sources()
        .iter()
        .filter(|(_, text)| text.lines().count() > MAX_LINES)
        .map(|(path, text)| format!("{}: {} lines, at most {MAX_LINES}", path.display(), text.lines().count()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn every_file_says_what_it_is_about() {
    let silent: Vec<String> =
        all_sources().iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path.display().to_string()).collect();
    assert!(silent.is_empty(), "no `//!` at the head of: {}", silent.join(", "));
}

#[test]
fn nothing_is_left_for_later() {
    let marks = ["TO", "FIX", "XX", "HA"].map(|start| start.to_owned()).into_iter().zip(["DO", "ME", "X", "CK"]);
    let marks: Vec<String> = marks.map(|(start, end)| start + end).collect();
    let unfinished = [format!("{}!(", "todo"), format!("{}!(", "unimplemented"), format!("(to be {})", "written")];
    let mut left = Vec::new();
    for (path, text) in all_sources() {
        for (number, line) in text.lines().enumerate() {
            let has_mark = line.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| marks.iter().any(|mark| mark == word));
            if has_mark || unfinished.iter().any(|mark| line.contains(mark.as_str())) {
                left.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert!(left.is_empty(), "{}", left.join("\n"));
}

#[test]
fn the_readme_names_only_files_that_exist() {
    for document in ["README.md", "ARCHITECTURE.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let quoted = text.split('`').skip(1).step_by(2);
        let paths = quoted.filter(|word| {
            let is_path = ["src/", "tests/", "examples/", "fuzz/", ".ci/"].iter().any(|start| word.starts_with(start));
            is_path && !word.contains([' ', '*', '…', '{'])
        });
        for path in paths {
            assert!(root().join(path).exists(), "{document} names {path}, which does not exist");
        }
    }
}

#[test]
fn imports_in_braces_are_seen() {
    assert_eq!(named_in("use crate::{config, node::Node};"), ["config", "node"]);
    assert_eq!(named_in("fn f(x: crate::crdt::dot::Dot) -> crate::types::Key {"), ["crdt", "types"]);
    assert_eq!(module_of(Path::new("src/crdt/dot.rs")).as_deref(), Some("crdt"));
    assert_eq!(module_of(Path::new("src/lib.rs")), None);
}
