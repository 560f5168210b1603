//! The repository lints itself: layers point one way, no modules import in a circle, files stay small, every file says what it is about.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::collections::{BTreeMap, BTreeSet};
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
            "newcomer",
            "former",
            "glob",
            "notifications",
            "panics",
        ],
    ),
    (2, &["env", "topology", "listeners", "pace", "skew", "tasks"]),
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

/// Whether a file holds nothing but tests, which may reach anywhere.
fn is_test(path: &Path) -> bool {
    path.file_stem().and_then(|name| name.to_str()).is_some_and(|name| name == "tests" || name.ends_with("_tests"))
}

fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, modules)| modules.contains(&module)).map(|(layer, _)| *layer)
}

/// The code of a file without comments and without its tests, which may reach anywhere.
fn code_of(text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut code = String::new();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code += line;
            code += "\n";
            continue;
        }
        // What is left out ends with its first line, or with a brace that stands as far in.
        let brace = line.replace("#[cfg(test)]", "}");
        let first = lines.find(|line| !line.trim_start().starts_with("#["));
        if first.is_some_and(|first| !first.ends_with([';', ',', '}'])) {
            let end = lines.find(|line| line.trim_end_matches(';') == brace);
            assert!(end.is_some(), "where does this test end? {first:?}");
        }
    }
    code
}

/// The paths in some code that begin with `crate` or `super`, those of a list in braces one by one.
fn paths_in(code: &str) -> Vec<Vec<&str>> {
    let mut paths = Vec::new();
    for (start, _) in ["crate::", "super::"].into_iter().flat_map(|root| code.match_indices(root)) {
        let goes_on = code[..start].ends_with(|letter: char| is_of_name(letter) || letter == ':');
        if !goes_on {
            follow(&code[start..], &[], &mut paths);
        }
    }
    paths
}

/// Follows a path, or a list of some, behind what leads there. Returns what stands behind it.
fn follow<'c>(code: &'c str, before: &[&'c str], paths: &mut Vec<Vec<&'c str>>) -> &'c str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        while !rest.is_empty() && !rest.starts_with('}') {
            rest = follow(rest, before, paths);
            rest = &rest[rest.find([',', '}']).unwrap_or(rest.len())..];
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let (name, rest) = code.split_at(code.find(|letter| !is_of_name(letter)).unwrap_or(code.len()));
    let path = [before, &[name]].concat();
    if let Some(more) = rest.strip_prefix("::") {
        return follow(more, &path, paths);
    }
    paths.push(path);
    rest
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

/// The path of the module that a file of `src` is; empty for the roots.
fn path_of(file: &Path) -> Vec<String> {
    let within = file.strip_prefix("src").unwrap().with_extension("");
    let names = within.iter().map(|name| name.to_str().unwrap().to_owned());
    names.filter(|name| !["mod", "lib", "main"].contains(&name.as_str())).collect()
}

/// The module that a path means which stands in the module `own`: as many of its names as are modules.
fn resolve(own: &[String], path: &[&str], modules: &BTreeSet<Vec<String>>) -> Vec<String> {
    let ups = path.iter().take_while(|name| **name == "super").count();
    let mut module = if ups == 0 { Vec::new() } else { own[..own.len().saturating_sub(ups)].to_vec() };
    for name in &path[ups.max(1)..] {
        module.push((*name).to_owned());
        if !modules.contains(&module) {
            module.pop();
            break;
        }
    }
    module
}

/// Every import between two modules of ours outside tests: from where, to where, and in which file.
fn imports() -> Vec<(Vec<String>, Vec<String>, PathBuf)> {
    let sources = sources("src");
    let modules: BTreeSet<Vec<String>> = sources.keys().map(|file| path_of(file)).collect();
    let mut imports = Vec::new();
    for (file, text) in sources.iter().filter(|(file, _)| !is_test(file)) {
        let own = path_of(file);
        let code = code_of(text);
        imports.extend(paths_in(&code).iter().map(|path| (own.clone(), resolve(&own, path, &modules), file.clone())));
    }
    imports
}

/// Which modules import which, and a file that does.
type Graph = BTreeMap<String, BTreeMap<String, PathBuf>>;

/// Some modules of which each imports the next, and the last the first, which is told once more; `None` where there are none such.
fn circle_in(mut graph: Graph) -> Option<Vec<String>> {
    // Whoever imports nothing stands in no circle, nor does what then imports nothing.
    loop {
        let importing: BTreeSet<String> = graph.keys().cloned().collect();
        graph.values_mut().for_each(|imported| imported.retain(|module, _| importing.contains(module)));
        graph.retain(|_, imported| !imported.is_empty());
        if graph.len() == importing.len() {
            break;
        }
    }
    let mut walk = vec![graph.keys().next()?.clone()];
    loop {
        let next = graph[walk.last()?].keys().next()?.clone();
        if let Some(start) = walk.iter().position(|module| *module == next) {
            walk.push(next);
            return Some(walk.split_off(start));
        }
        walk.push(next);
    }
}

#[test]
fn layers_point_one_way() {
    let mut wrong = BTreeSet::new();
    for (from, to, file) in imports() {
        // What stands in the roots is no module: macros, and lists of modules.
        let (Some(module), Some(name)) = (from.first(), to.first()) else { continue };
        let (Some(own), Some(other)) = (layer_of(module), layer_of(name)) else {
            wrong.insert(format!("{}: the module '{module}' or '{name}' stands in no layer of tests/tidy.rs", file.display()));
            continue;
        };
        let meant = other == own && (module == name || own <= 1 || WITHIN_LAYER.contains(&(module.as_str(), name.as_str())));
        if other >= own && !meant {
            wrong.insert(format!("{}: layer {own} imports '{}' of layer {other}", file.display(), to.join("::")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

/// A folder counts as one module among its neighbours, and is looked into by itself. Between it and what it holds imports may go both ways: it names
/// its parts, and they may take what they share from it.
#[test]
fn no_modules_import_each_other_in_a_circle() {
    let mut graph = Graph::new();
    for (from, to, file) in imports() {
        let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
        if let (Some(_), Some(_)) = (from.get(shared), to.get(shared)) {
            graph.entry(from[..=shared].join("::")).or_default().insert(to[..=shared].join("::"), file);
        }
    }
    if let Some(circle) = circle_in(graph.clone()) {
        let steps = circle.windows(2).map(|pair| format!("{} imports {} in {}", pair[0], pair[1], graph[&pair[0]][&pair[1]].display()));
        panic!("a circle: {}", steps.collect::<Vec<_>>().join(", "));
    }
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

/// Whoever throws the handle of a task away can't end it: see `src/tasks.rs`. What the program itself listens to ends with the process, and the
/// simulated network with the simulation.
#[test]
fn every_task_has_an_owner() {
    let is_ours = |path: &Path| !is_test(path) && !path.starts_with("src/sim") && !path.starts_with("src/cli");
    let mut lost = Vec::new();
    for (path, text) in sources("src").into_iter().filter(|(path, _)| is_ours(path)) {
        let spawned = code_of(&text).lines().filter(|line| line.trim_start().starts_with("tokio::spawn(")).count();
        lost.extend((0..spawned).map(|_| path.display().to_string()));
    }
    assert!(lost.is_empty(), "a task without an owner in {}", lost.join(", "));
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
fn imports_are_seen_however_they_are_written() {
    assert_eq!(
        paths_in("use crate::{config, node::{\n    Node as Peer, tasks::*,\n}, pace};"),
        [vec!["crate", "config"], vec!["crate", "node", "Node"], vec!["crate", "node", "tasks", ""], vec!["crate", "pace"]]
    );
    let code = "fn f(x: crate::crdt::dot::Dot) -> super::super::types::Key { supercrate::f() }";
    assert_eq!(paths_in(code), [vec!["crate", "crdt", "dot", "Dot"], vec!["super", "super", "types", "Key"]]);
    let modules = ["a", "a::b", "a::c", "d"].map(|path| path.split("::").map(str::to_owned).collect::<Vec<_>>());
    let resolved = |path: &[&str]| resolve(&modules[1], path, &modules.clone().into()).join("::");
    assert_eq!(
        (resolved(&["super", "c", "f"]), resolved(&["super", "super", "d"]), resolved(&["crate", "a", "x"])),
        ("a::c".into(), "d".into(), "a".into())
    );
    assert_eq!(path_of(Path::new("src/crdt/list/mod.rs")), ["crdt", "list"]);
    assert!(path_of(Path::new("src/lib.rs")).is_empty());
}

#[test]
fn tests_are_no_code_and_what_follows_them_is() {
    let text = "mod a;\n#[cfg(test)]\nmod b;\nmod c;\n// no\n#[cfg(test)]\n#[path = \"x\"]\nmod d {\n    fn f() {\n    }\n}\nmod e;\n";
    assert_eq!(code_of(text), "mod a;\nmod c;\nmod e;\n");
}

#[test]
fn a_circle_is_found_where_there_is_one() {
    let graph = |imports: &[(&str, &str)]| {
        let mut graph = Graph::new();
        for (from, to) in imports {
            graph.entry((*from).to_owned()).or_default().insert((*to).to_owned(), PathBuf::new());
        }
        graph
    };
    assert_eq!(circle_in(graph(&[("a", "b"), ("a", "c"), ("b", "c")])), None);
    let circle = circle_in(graph(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b"), ("c", "e")]));
    assert_eq!(circle.unwrap(), ["b", "c", "d", "b"]);
}
