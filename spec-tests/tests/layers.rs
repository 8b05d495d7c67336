//! The rules of the repository that a compiler does not check: layers, sizes, headers, links.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Modules in layer order. A module may use those before it, minus those named beside it.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("limits", &["types"]),
    ("upkeep", &["types"]),
    ("config", &[]),
    ("store", &["config"]),
    ("log", &["config"]),
    ("keys", &["config", "log"]),
    ("dag", &["config", "store"]),
    ("mail", &["config", "log", "keys", "dag"]),
    ("peer", &["config", "dag", "mail"]),
    ("identity", &["config", "dag", "mail"]),
    ("history", &["mail", "config", "peer", "identity"]),
    ("appservice", &["mail", "identity", "config", "store", "log", "keys", "dag", "peer", "history"]),
    ("account", &["mail", "identity", "dag", "peer", "appservice"]),
    ("device", &["mail", "identity", "dag", "appservice"]),
    ("oauth", &["mail", "identity", "config", "keys", "dag", "history", "appservice"]),
    ("ephemeral", &["mail", "identity", "dag", "device", "oauth", "peer", "appservice"]),
    ("push", &["mail", "identity", "device", "oauth", "ephemeral", "peer", "appservice"]),
    (
        "media",
        &[
            "identity",
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
        &[
            "identity",
            "mail",
            "oauth",
            "config",
            "keys",
            "peer",
            "appservice",
            "device",
            "ephemeral",
            "push",
            "media",
        ],
    ),
    (
        "report",
        &[
            "identity",
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
    ("delivery", &["mail", "identity", "oauth", "config", "ephemeral", "media", "search", "report"]),
    ("room", &["mail", "oauth", "push", "media", "search", "report", "delivery", "appservice"]),
    (
        "rtc",
        &[
            "identity",
            "mail",
            "oauth",
            "config",
            "keys",
            "dag",
            "appservice",
            "account",
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
        "notice",
        &[
            "identity",
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
            "rtc",
        ],
    ),
    (
        "purge",
        &[
            "identity",
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
            "delivery",
            "rtc",
            "notice",
        ],
    ),
    (
        "federation",
        &["mail", "oauth", "media", "search", "report", "delivery", "rtc", "appservice", "notice", "purge"],
    ),
    (
        "sync",
        &[
            "identity",
            "oauth",
            "peer",
            "media",
            "search",
            "report",
            "delivery",
            "room",
            "rtc",
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
    // The tests of `http` have a LiveKit server.
    ("jsonwebtoken", &["http", "oauth", "rtc"]),
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

/// What opens connections, and the only places where it is used: the one door that knows where it may lead; the
/// operator's own tools and stores, whose addresses nobody else names; and where names are looked up.
const CONNECTIONS: &[(&str, &[&str])] = &[
    ("TcpStream::connect(", &["peer/connect.rs"]),
    ("TcpStream::connect_timeout(", &["cli/exchange.rs", "cli/key.rs"]),
    ("UnixStream::connect(", &["cli/exchange.rs", "cli/key.rs", "server/listener.rs"]),
    ("TcpSocket", &[]),
    ("UdpSocket", &[]),
    ("legacy::Client", &["peer/internet.rs"]),
    ("client::conn", &[]),
    ("lookup_host", &[]),
    ("to_socket_addrs", &[]),
    ("hickory_resolver::", &["peer/dns.rs"]),
    ("lettre::", &["mail/mod.rs"]),
    ("object_store::", &["media/blobs.rs", "media/error.rs", "media/object.rs"]),
    ("tokio_postgres::", &["store/postgres/connection.rs", "store/postgres/schema.rs"]),
];
/// Clients of HTTP that know nothing of that door.
const OTHER_CLIENTS: [&str; 7] = ["attohttpc", "curl", "isahc", "minreq", "reqwest", "surf", "ureq"];

/// Row 4.2 of the list of known vulnerabilities (CVE-2021-21273): whatever this server asks others goes through
/// the one door that knows where it may lead.
#[test]
fn row_4_2_cve_2021_21273_connections_are_made_in_one_place() {
    let src = root().join("src");
    let mut found: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (_, file, text) in sources() {
        let is_test = file.ends_with("tests.rs") || file.iter().any(|part| part == "tests");
        let code = code(&text);
        for (opener, _) in CONNECTIONS.iter().filter(|(opener, _)| !is_test && code.contains(opener)) {
            let file = file.strip_prefix(&src).expect("the file was found below src").display().to_string();
            found.entry(opener).or_default().insert(file);
        }
    }
    let places = |places: &[&str]| places.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    let expected = CONNECTIONS.iter().filter(|(_, files)| !files.is_empty());
    let expected: BTreeMap<&str, _> = expected.map(|(opener, files)| (*opener, places(files))).collect();
    assert_eq!(found, expected);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("there is a manifest");
    for other in OTHER_CLIENTS {
        assert!(!manifest.lines().any(|line| line.starts_with(&format!("{other} "))), "{other}");
    }
}

/// Rows of the list of known vulnerabilities (sections 1 to 8) that are shown by a test of another name.
const ROWS_BY_OTHER_NAMES: &[(&str, &str)] = &[
    ("1_1", "cve_2025_68667_invite_confused_deputy"),
    ("1_2", "cve_2026_24471_templates_signed_as_given"),
    ("1_10", "signatures_are_taken_if_they_are_right_and_shown_to_those_who_may_see_them"),
    ("3_6", "cve_2023_32323_cve_2024_52815_absurd_stripped_state"),
    ("4_1", "special_addresses_are_not_connected_to"),
    ("4_3", "special_addresses_are_not_connected_to"),
    ("4_5", "a_name_does_not_lead_into_this_machine"),
    ("5_10", "a_waiter_wakes_for_its_own_lanes_only"),
    ("7_3", "tuwunel_1_5_1_answers_of_providers_that_do_not_hold"),
    ("7_4", "b2bd54a2_login_tokens_go_only_where_the_user_says"),
];

/// Rows for which there is no test, and why.
const ROWS_WITHOUT_TEST: &[(&str, &str)] =
    &[("5_8", "bodies are never unpacked"), ("7_10", "there is no LDAP")];

/// All rows: sections with how many rows they have.
const ROWS: [(&str, usize); 7] = [("1", 14), ("2", 20), ("3", 20), ("4", 9), ("5", 10), ("6", 6), ("7", 17)];

/// The names of all tests: functions that follow an attribute.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in rust_files(&root().join("src")).into_iter().chain(rust_files(&root().join("spec-tests"))) {
        let text = fs::read_to_string(&file).expect("sources are readable");
        for tail in text.split("test]").skip(1).chain(text.split("test(").skip(1)) {
            let named = tail.lines().take(12).find_map(|line| {
                let line = line.trim_start();
                line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "))
            });
            found.extend(named.and_then(|name| name.split('(').next()).map(String::from));
        }
    }
    found
}

/// The rows in the name of a test: `row_2_4_…`, `row_2_12_and_2_13_…`, `row_3_1_to_3_3_…`.
fn rows_of(name: &str) -> Vec<String> {
    let Some(rest) = name.strip_prefix("row_") else { return Vec::new() };
    let words: Vec<&str> = rest.split('_').collect();
    let pair = |at: usize| -> Option<(&str, &str)> { Some((*words.get(at)?, *words.get(at + 1)?)) };
    let Some((section, first)) = pair(0) else { return Vec::new() };
    let mut rows = vec![format!("{section}_{first}")];
    let mut at = 2;
    while let (Some(word), Some((section, row))) = (words.get(at), pair(at + 1)) {
        let number = |text: &str| text.parse::<usize>().ok();
        match (*word, number(row)) {
            ("and", Some(_)) => rows.push(format!("{section}_{row}")),
            ("to", Some(last)) => {
                let first = number(first).unwrap_or(last);
                rows.extend((first + 1..=last).map(|row| format!("{section}_{row}")));
            }
            _ => break,
        }
        at += 3;
    }
    rows
}

#[test]
fn rows_are_read_from_names() {
    assert_eq!(rows_of("row_2_4_cve_2018_12291_x"), ["2_4"]);
    assert_eq!(rows_of("row_2_12_and_2_13_x"), ["2_12", "2_13"]);
    assert_eq!(rows_of("row_3_1_to_3_3_x"), ["3_1", "3_2", "3_3"]);
    assert_eq!(rows_of("row_8_f_x"), ["8_f"]);
    assert!(rows_of("rows").is_empty());
}

/// The list is in the order of what servers have got wrong before; a row without a test is a way to do it again.
#[test]
fn every_known_vulnerability_has_a_test() {
    let tests = tests();
    let tested: BTreeSet<String> = tests.iter().flat_map(|name| rows_of(name)).collect();
    let numbered =
        ROWS.iter().flat_map(|(section, count)| (1..=*count).map(move |row| format!("{section}_{row}")));
    let lettered = ["a", "b", "c", "d", "e", "f", "g"].into_iter().map(|row| format!("8_{row}"));
    let mut wrong = Vec::new();
    for row in numbered.chain(lettered) {
        let by_name = tested.contains(&row);
        let other = ROWS_BY_OTHER_NAMES.iter().find(|(of, _)| *of == row);
        let excused = ROWS_WITHOUT_TEST.iter().any(|(of, _)| *of == row);
        match (by_name, other, excused) {
            (true, None, false) | (false, None, true) => {}
            (false, Some((_, name)), false) if tests.contains(*name) => {}
            (false, Some((_, name)), false) => wrong.push(format!("row {row}: there is no test {name}")),
            (false, None, false) => wrong.push(format!("row {row}: no test is named row_{row}_…")),
            _ => wrong.push(format!("row {row}: it is listed more than once")),
        }
    }
    assert_none(&wrong);
}

/// Row 1.11 of the list of known vulnerabilities (CVE-2019-11842: predictable tokens): chance comes in through one port,
/// which the system's generator is behind.
#[test]
fn row_1_11_chance_comes_from_one_place() {
    let mut found = BTreeSet::new();
    for (_, file, text) in sources() {
        let is_test = file.components().any(|part| part.as_os_str().to_string_lossy().contains("tests"));
        let code = code(&text);
        let makers =
            ["thread_rng", "rand::rng()", "OsRng", "SysRng", "getrandom", "fastrand", "SmallRng", "StdRng"];
        if !is_test && makers.iter().any(|maker| code.contains(maker)) {
            found.insert(file.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    assert!(found.iter().all(|file| file == "ports.rs"), "{found:?}");
}
