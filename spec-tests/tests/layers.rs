//! The rules of the repository that a compiler does not check: layers, sizes, headers, links.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Modules in layer order. A module may use those before it, minus those named beside it.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("limits", &["types"]),
    ("config", &[]),
    ("store", &["config"]),
    ("log", &["config"]),
    ("keys", &["config", "log"]),
    ("dag", &["config", "store"]),
    ("mail", &["config", "log", "keys", "dag"]),
    ("peer", &["config", "dag", "mail"]),
    ("history", &["mail", "config", "peer"]),
    ("appservice", &["mail", "config", "store", "log", "keys", "dag", "peer", "history"]),
    ("account", &["mail", "dag", "peer", "appservice"]),
    ("device", &["mail", "dag", "appservice"]),
    ("oauth", &["mail", "config", "keys", "dag", "history", "appservice"]),
    ("ephemeral", &["mail", "dag", "device", "oauth", "peer", "appservice"]),
    ("push", &["mail", "device", "oauth", "ephemeral", "peer", "appservice"]),
    (
        "media",
        &[
            "oauth",
            "config",
            "keys",
            "dag",
            "history",
            "appservice",
            "account",
            "device",
            "ephemeral",
            "push",
        ],
    ),
    (
        "search",
        &["mail", "oauth", "config", "keys", "peer", "appservice", "device", "ephemeral", "push", "media"],
    ),
    (
        "report",
        &[
            "oauth",
            "config",
            "keys",
            "dag",
            "peer",
            "appservice",
            "device",
            "ephemeral",
            "push",
            "media",
            "search",
        ],
    ),
    ("delivery", &["mail", "oauth", "config", "ephemeral", "media", "search", "report"]),
    ("room", &["mail", "oauth", "push", "media", "search", "report", "delivery", "appservice"]),
    (
        "notice",
        &[
            "oauth",
            "config",
            "keys",
            "dag",
            "peer",
            "appservice",
            "device",
            "ephemeral",
            "push",
            "media",
            "search",
            "report",
            "delivery",
        ],
    ),
    (
        "purge",
        &[
            "mail",
            "oauth",
            "config",
            "keys",
            "dag",
            "peer",
            "appservice",
            "ephemeral",
            "push",
            "search",
            "report",
            "delivery",
            "notice",
        ],
    ),
    (
        "federation",
        &["mail", "oauth", "media", "search", "report", "delivery", "appservice", "notice", "purge"],
    ),
    (
        "sync",
        &[
            "oauth",
            "peer",
            "media",
            "search",
            "report",
            "delivery",
            "room",
            "federation",
            "appservice",
            "notice",
            "purge",
        ],
    ),
    ("http", &[]),
    ("server", &[]),
    ("cli", &[]),
];

/// Crates that only some modules may know.
const CRATES: &[(&str, &[&str])] = &[
    ("axum", &["http", "server"]),
    ("hyper", &["http", "peer", "server"]),
    ("hyper_util", &["http", "peer", "server"]),
    ("hickory_resolver", &["peer"]),
    ("sled", &["store"]),
    ("tokio_postgres", &["store"]),
    ("petgraph", &["dag"]),
    ("object_store", &["media"]),
    // The tests of `http` and `server` make pictures.
    ("image", &["http", "media", "server"]),
    ("html5gum", &["media"]),
    ("tantivy", &["search"]),
    ("unicode_normalization", &["types"]),
    ("clap", &["cli"]),
    ("lettre", &["mail"]),
    ("maud", &["http"]),
    ("jsonwebtoken", &["oauth"]),
    ("argon2", &["account"]),
    ("serde_saphyr", &["appservice"]),
    ("regex", &["appservice"]),
    ("ruma::api::federation", &["delivery", "device", "federation", "http", "peer", "room"]),
    ("ruma::api::client", &["account", "device", "http", "notice", "push", "room", "sync", "ephemeral"]),
];

/// Lines of a file that are not tests.
const FILE_LINES_MAX: usize = 600;
/// The one version of the specification that links name.
const SPEC_VERSION: &str = "v1.19";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the member lies in the workspace").to_owned()
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(dir) else { return files };
    for entry in entries.map(Result::unwrap) {
        match entry.file_type().expect("entries of the file system have a type").is_dir() {
            true if entry.file_name() == "target" || entry.file_name() == "node_modules" => {}
            true => files.extend(rust_files(&entry.path())),
            false if entry.path().extension().is_some_and(|e| e == "rs") => files.push(entry.path()),
            false => {}
        }
    }
    files.sort();
    files
}

/// The module of a file under `src/`, and its text without comments and without its tests.
fn sources() -> Vec<(String, PathBuf, String)> {
    let src = root().join("src");
    let mut sources = Vec::new();
    for file in rust_files(&src) {
        let relative = file.strip_prefix(&src).expect("the file was found below src");
        let first =
            relative.iter().next().and_then(|first| first.to_str()).expect("sources have names in UTF-8");
        let module = first.strip_suffix(".rs").unwrap_or(first).to_owned();
        let text = fs::read_to_string(&file).expect("sources are readable");
        sources.push((module, file.clone(), text));
    }
    sources
}

/// What is left of a file's text without comment lines and what follows `#[cfg(test)]`.
fn code(text: &str) -> String {
    let body = text.split("#[cfg(test)]").next().unwrap_or_default();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The first path segment after every `crate::`, with `crate::{a, b::c}` taken apart.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for tail in text.split("crate::").skip(1) {
        let Some(group) = tail.strip_prefix('{') else {
            found.extend(first_segment(tail));
            continue;
        };
        let (mut depth, mut item) = (0_usize, String::new());
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.extend(first_segment(&item));
                    item.clear();
                }
                _ if depth == 0 => item.push(c),
                _ => {}
            }
        }
        found.extend(first_segment(&item));
    }
    found
}

fn first_segment(path: &str) -> Option<String> {
    let name: String =
        path.trim_start().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} violations:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn modules_use_only_lower_layers() {
    let mut wrong = Vec::new();
    for (module, file, text) in sources() {
        // Tests may build a world out of whatever it takes.
        let is_test = file.ends_with("tests.rs") || file.iter().any(|part| part == "tests");
        if module == "lib" || module == "main" || is_test {
            continue;
        }
        let Some(layer) = LAYERS.iter().position(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module `{module}` has no layer", file.display()));
            continue;
        };
        let forbidden = LAYERS[layer].1;
        for used in crate_paths(&code(&text)) {
            let used_layer = LAYERS.iter().position(|(name, _)| *name == used);
            let allowed = match used_layer {
                Some(used_layer) => used_layer <= layer && !forbidden.contains(&used.as_str()),
                None => true,
            };
            if !allowed {
                wrong.push(format!("{}: `{module}` may not use `{used}`", file.display()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn crates_stay_where_they_belong() {
    let mut wrong = Vec::new();
    for (module, file, text) in sources() {
        let code = code(&text);
        for (name, modules) in CRATES {
            let used = code.contains(&format!("use {name}::")) || code.contains(&format!(" {name}::"));
            if used && module != "lib" && !modules.contains(&module.as_str()) {
                wrong.push(format!("{}: `{module}` may not know `{name}`", file.display()));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn files_are_small_and_begin_with_what_they_are() {
    let mut wrong = Vec::new();
    let tests = root().join("spec-tests");
    let members =
        rust_files(&tests).into_iter().map(|file| (file.clone(), fs::read_to_string(file).unwrap()));
    for (file, text) in sources().into_iter().map(|(_, file, text)| (file, text)).chain(members) {
        let lines = text.split("#[cfg(test)]").next().unwrap_or_default().lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines", file.display()));
        }
        if !text.starts_with("//!") {
            wrong.push(format!("{}: no `//!` header", file.display()));
        }
    }
    assert_none(&wrong);
}

#[test]
fn links_name_one_version_of_the_specification() {
    let mut wrong = Vec::new();
    for (_, file, text) in sources() {
        for link in text.split("https://spec.matrix.org/").skip(1) {
            if !link.starts_with(SPEC_VERSION) {
                wrong.push(format!(
                    "{}: spec.matrix.org/{}",
                    file.display(),
                    link.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn no_test_is_ignored() {
    let ignored = concat!("#[", "ignore");
    let mut wrong = Vec::new();
    for file in rust_files(&root().join("src")).into_iter().chain(rust_files(&root().join("spec-tests"))) {
        if fs::read_to_string(&file).unwrap().contains(ignored) {
            wrong.push(file.display().to_string());
        }
    }
    assert_none(&wrong);
}

/// Row 4.2 of the list of known vulnerabilities (CVE-2021-21273): whatever this server asks others goes through
/// the one door that knows where it may lead.
#[test]
fn row_4_2_cve_2021_21273_connections_are_made_in_one_place() {
    const OPENERS: &[&str] =
        &["TcpStream::connect(", "TcpSocket", "UdpSocket", "legacy::Client", "reqwest::", "client::conn"];
    let src = root().join("src");
    let mut found = BTreeSet::new();
    for (_, file, text) in sources() {
        let is_test = file.ends_with("tests.rs") || file.iter().any(|part| part == "tests");
        let code = code(&text);
        if !is_test && OPENERS.iter().any(|opener| code.contains(opener)) {
            found
                .insert(file.strip_prefix(&src).expect("the file was found below src").display().to_string());
        }
    }
    let expected = ["peer/connect.rs", "peer/internet.rs"].map(String::from);
    assert_eq!(found, BTreeSet::from(expected));
}
