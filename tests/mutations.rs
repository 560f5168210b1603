//! The wrong variants in `tests/mutations/` still fit the tree, and each names a test that exists. That the tests notice them is shown by
//! `tests/mutations/run`, which takes a build for each.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by a panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The least number of wrong variants.
const LEAST: usize = 25;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every patch by its name.
fn patches() -> BTreeMap<String, String> {
    let entries = fs::read_dir(root().join("tests/mutations")).unwrap().map(|entry| entry.unwrap().path());
    let patches = entries.filter(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())).collect()
}

/// One place that a patch changes.
struct Hunk {
    path: PathBuf,
    before: Vec<String>,
    after: Vec<String>,
}

fn hunks(patch: &str) -> Vec<Hunk> {
    let (mut hunks, mut path): (Vec<Hunk>, _) = (Vec::new(), PathBuf::new());
    for line in patch.lines().skip_while(|line| !line.starts_with("--- ")) {
        if let Some(named) = line.strip_prefix("+++ b/") {
            path = named.into();
        } else if line.starts_with("@@ ") {
            hunks.push(Hunk { path: path.clone(), before: Vec::new(), after: Vec::new() });
        } else if let (Some(hunk), Some((mark, text))) = (hunks.last_mut(), line.split_at_checked(1)) {
            if mark != "+" && !line.starts_with("--- ") {
                hunk.before.push(text.to_owned());
            }
            if mark != "-" {
                hunk.after.push(text.to_owned());
            }
        }
    }
    hunks
}

/// What a patch says of itself in a line that begins with `name`.
fn told<'p>(patch: &'p str, name: &str) -> Option<&'p str> {
    patch.lines().take_while(|line| !line.is_empty()).find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The Rust files below a folder, or the file itself.
fn sources(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => entries.flat_map(|entry| sources(&entry.unwrap().path())).collect(),
        Err(_) => vec![path.to_owned()],
    }
}

/// Whether there is a test that `cargo test` runs by these words, such as `--lib hlc::tests::a_test` or `--test kernel rules::a_test`.
fn exists(test: &str) -> bool {
    let words: Vec<&str> = test.split(' ').collect();
    let (folders, name) = match words.as_slice() {
        ["--lib", name] => (vec![root().join("src")], name),
        ["--test", target, name] => (vec![root().join("tests").join(target), root().join(format!("tests/{target}.rs"))], name),
        _ => return false,
    };
    let (modules, name) = name.rsplit_once("::").unwrap_or(("", name));
    folders.iter().filter(|folder| folder.exists()).any(|folder| {
        sources(folder).into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")).any(|file| {
            let within = file.strip_prefix(folder).unwrap().with_extension("");
            let own: Vec<&str> =
                within.iter().map(|part| part.to_str().unwrap()).filter(|part| !["mod", "lib", "main"].contains(part)).collect();
            modules.starts_with(&own.join("::")) && fs::read_to_string(&file).unwrap().contains(&format!("fn {name}("))
        })
    })
}

#[test]
fn every_wrong_variant_says_what_is_wrong_and_which_test_notices() {
    let patches = patches();
    assert!(patches.len() >= LEAST, "{} wrong variants", patches.len());
    for (name, patch) in patches {
        for part in ["Wrong", "Scenario", "Test"] {
            assert!(told(&patch, part).is_some_and(|told| !told.is_empty()), "{name}.patch has no line '{part}: '");
        }
        let test = told(&patch, "Test").unwrap();
        assert!(exists(test), "{name}.patch: there is no test '{test}'");
    }
}

#[test]
fn every_wrong_variant_fits_the_tree_in_one_place() {
    let mut wrong = Vec::new();
    for (name, patch) in patches() {
        let hunks = hunks(&patch);
        if hunks.iter().all(|hunk| hunk.before == hunk.after) {
            wrong.push(format!("{name}.patch changes nothing"));
        }
        for Hunk { path, before, .. } in hunks {
            let text = fs::read_to_string(root().join(&path)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let places = lines.windows(before.len()).filter(|window| **window == *before).count();
            if places != 1 {
                wrong.push(format!("{name}.patch: these lines stand in {} {places} times:\n{}", path.display(), before.join("\n")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_test_that_does_not_exist_is_noticed() {
    for test in ["--lib hlc::tests::a_clock_that_was_set_back_goes_on_counting", "--test kernel rules::a_run_is_not_continued_from_a_floor"]
    {
        assert!(exists(test) && !exists(&format!("{test}_s")), "{test}");
    }
    assert!(!exists("--lib quorum::tests::a_clock_that_was_set_back_goes_on_counting"));
    assert!(!exists("hlc::tests::a_clock_that_was_set_back_goes_on_counting"));
}
