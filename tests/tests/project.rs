//! What the project's documents say of its code, held against the code.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The most lines that anyone reads at a sitting.
const ARCHITECTURE_LINES: usize = 150;

/// Dependencies that only these packages may name, tests aside.
const KEEPERS: [(&str, &[&str]); 14] = [
    ("tract-core", &["split-runtime"]),
    ("tract-nnef", &["split-runtime"]),
    ("wasm-bindgen", &["wasm-client"]),
    ("js-sys", &["wasm-client"]),
    ("web-sys", &["wasm-client"]),
    ("serde-wasm-bindgen", &["wasm-client"]),
    ("warp", &["edge-worker"]),
    ("hyper", &["edge-worker"]),
    ("tokio", &["edge-worker", "split-tests"]),
    ("gemm", &["split-train"]),
    ("prost", &["trainer"]),
    ("pytorch-reader", &["trainer"]),
    ("postcard", &["split-core"]),
    ("constriction", &["split-core"]),
];

/// Which of the project's own packages each may build on, tests aside.
const DIRECTION: [(&str, &[&str]); 10] = [
    ("split-core", &[]),
    ("split-graph", &["split-core"]),
    ("split-kernels", &["split-core", "split-graph"]),
    ("split-runtime", &["split-core", "split-graph", "split-kernels"]),
    ("split-train", &["split-core", "split-graph"]),
    ("wasm-client", &["split-core", "split-runtime"]),
    ("edge-worker", &["split-core", "split-runtime"]),
    (
        "trainer",
        &["split-core", "split-graph", "split-runtime", "split-train"],
    ),
    ("split-tests", &["split-core", "split-graph", "split-runtime"]),
    ("xtask", &[]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|it| panic!("{}: {it}", path.display()))
}

/// Packages and what each of them depends on when it is not tested.
fn packages() -> Vec<(String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |it: &Value| it["name"].as_str().unwrap().to_owned();
    let dependencies = |package: &Value| {
        let all = package["dependencies"].as_array().unwrap();
        all.iter().filter(|it| it["kind"] != "dev").map(name).collect()
    };
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().map(|it| (name(it), dependencies(it))).collect()
}

/// Files below a folder of the project whose names end like this, without those that are built or downloaded.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let skipped = ["target", "node_modules", "dist", "runs", ".git"];
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !skipped.contains(&name.as_str()) {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// Everything between backticks on the lines of a document.
fn quoted(document: &str) -> impl Iterator<Item = &str> {
    document.lines().flat_map(|it| it.split('`').skip(1).step_by(2))
}

#[test]
fn only_its_keeper_names_a_dependency() {
    let packages = packages();
    for (dependency, keepers) in KEEPERS {
        let named = packages.iter().filter(|it| it.1.contains(dependency));
        let by: BTreeSet<&str> = named.map(|it| it.0.as_str()).collect();
        assert_eq!(by, keepers.iter().copied().collect(), "{dependency}");
    }
}

#[test]
fn crates_build_on_each_other_in_one_direction_only() {
    let own: BTreeSet<&str> = DIRECTION.iter().map(|it| it.0).collect();
    for (package, dependencies) in packages() {
        let Some((_, allowed)) = DIRECTION.iter().find(|it| it.0 == package) else {
            panic!("{package} has no place in the direction of dependencies")
        };
        let used = dependencies.iter().map(String::as_str).filter(|it| own.contains(it));
        assert!(
            used.clone().all(|it| allowed.contains(&it)),
            "{package}: {:?}",
            used.collect::<Vec<_>>()
        );
    }
}

/// A word with two underscores is the name of a test, a word with a slash a path.
#[test]
fn the_architecture_names_tests_and_paths_that_exist() {
    let document = read(&root().join("ARCHITECTURE.md"));
    assert!(document.lines().count() <= ARCHITECTURE_LINES);
    let sources: String = files(&root(), ".rs").iter().map(|it| read(it)).collect();
    let is_name = |it: &&str| it.chars().all(|it| it.is_ascii_alphanumeric() || it == '_');
    let tests: Vec<&str> = quoted(&document)
        .filter(is_name)
        .filter(|it| it.matches('_').count() >= 2)
        .collect();
    assert!(tests.len() > 20, "{tests:?}");
    for test in tests {
        assert!(sources.contains(&format!("fn {test}(")), "{test} is no test");
    }
    let specs: String = files(&root().join("tests/browser"), ".spec.ts")
        .iter()
        .map(|it| read(it))
        .collect();
    let titles: Vec<&str> = quoted(&document)
        .filter_map(|it| it.strip_prefix("browser: "))
        .collect();
    assert!(titles.len() > 5, "{titles:?}");
    for title in titles {
        assert!(specs.contains(&format!("'{title}'")), "'{title}' is no test");
    }
    let is_path = |it: &&str| it.contains('/') && !it.contains([' ', '<']) && !it.starts_with('/');
    for path in quoted(&document).filter(is_path) {
        assert!(root().join(path).exists(), "{path} is not there");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let broken: Vec<String> = files(&root(), ".md").iter().flat_map(|it| broken_links(it)).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Links of a document to files or headings that do not exist.
fn broken_links(document: &Path) -> Vec<String> {
    let text = read(document);
    let targets = text.split("](").skip(1).filter_map(|it| it.split(')').next());
    let broken = targets.filter(|it| !it.contains("://") && !leads_somewhere(document, it));
    broken.map(|it| format!("{}: {it}", document.display())).collect()
}

fn leads_somewhere(document: &Path, target: &str) -> bool {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let at = match path {
        "" => document.to_owned(),
        path => document.with_file_name(path),
    };
    at.exists() && (heading.is_empty() || headings(&read(&at)).contains(heading))
}

/// The anchors that GitHub gives to a document's headings.
fn headings(text: &str) -> BTreeSet<String> {
    let titles = text.lines().filter(|it| it.starts_with('#'));
    titles
        .map(|it| it.trim_start_matches('#').trim().to_lowercase())
        .map(|it| {
            it.chars()
                .filter(|it| it.is_alphanumeric() || " -_".contains(*it))
                .collect::<String>()
        })
        .map(|it| it.replace(' ', "-"))
        .collect()
}
