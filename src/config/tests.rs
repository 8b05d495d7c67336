//! Sources, short forms, mistakes and the manual.

use std::path::Path;

use ruma::RoomVersionId;

use super::{Address, Config, ConfigError, Engine, InvitesFrom, RegistrationMode, Sources, manual};

fn words(words: &[(&str, &str)]) -> Vec<(String, String)> {
    words.iter().map(|(key, value)| (String::from(*key), String::from(*value))).collect()
}

fn load(file: &str, environment: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lockstep.toml");
    std::fs::write(&path, file).unwrap();
    let file = Some(path);
    Sources { file, environment: words(environment), overrides: words(overrides) }.load()
}

#[track_caller]
fn mistaken(file: &str, environment: &[(&str, &str)], overrides: &[(&str, &str)], expected: &[&str]) {
    let error = load(file, environment, overrides).unwrap_err().to_string();
    for part in expected {
        assert!(error.contains(part), "{error:?} lacks {part:?}");
    }
}

#[test]
fn nothing_set_gives_the_defaults() {
    assert_eq!(Sources::default().load().unwrap(), Config::default());
}

/// Row 2.16 of the list of known vulnerabilities (tuwunel 1.9.0: a configuration was printed with a token in it): what
/// is secret is so by its type.
#[test]
fn row_2_16_a_printed_configuration_has_no_secrets() {
    const FILE: &str = "
        [voip]
        turn_uris = ['turn:turn.example.org']
        turn_shared_secret = 'canary'
        turn_username = 'name'
        turn_password = 'canary'
        livekit_secret = 'canary'
        [registration]
        tokens = ['canary']
        [captcha]
        site_key = 'key'
        secret = 'canary'
        [email]
        host = 'mail.example.org'
        from = 'a@example.org'
        password = 'canary'
        [[sso.providers]]
        id = 'p'
        name = 'P'
        issuer = 'https://p.example.org'
        client_id = 'us'
        client_secret = 'canary'
        [media.options]
        aws_secret_access_key = 'canary'
        [store]
        engine = 'postgres://user:canary@localhost/db'
    ";
    let config = load(FILE, &[], &[]).unwrap();
    assert_eq!(config.voip.turn_password.as_ref().unwrap().reveal(), "canary");
    let printed = format!("{config:?} {config:#?}");
    assert!(printed.contains("mail.example.org") && !printed.contains("canary"), "{printed}");
}

/// Settings whose names say that they are secret and which are not, by why.
const NO_SECRETS: [(&str, &str); 5] = [
    ("access_token_seconds", "a time"),
    ("registration.shared_secret_file", "where a file is"),
    ("captcha.secret_file", "where a file is"),
    ("email.password_file", "where a file is"),
    ("voip.livekit_secret_file", "where a file is"),
];

/// Row 2.16: so is whatever is called a secret in the manual, which has every setting there is.
#[test]
fn row_2_16_what_is_called_a_secret_is_one() {
    let (mut section, mut printed, mut left) = (String::new(), Vec::new(), Vec::new());
    for line in manual().lines() {
        if let Some(title) = line.strip_prefix("## ") {
            let title = title.trim_matches(['`', '[', ']']);
            section = if title == "Top level" { String::new() } else { format!("{title}.") };
        }
        let Some(key) = line.strip_prefix("### `").and_then(|line| line.strip_suffix('`')) else { continue };
        if !["secret", "password", "token"].iter().any(|word| key.contains(word)) {
            continue;
        }
        let name = format!("{section}{key}");
        if NO_SECRETS.iter().any(|(known, _)| *known == name) {
            left.push(name);
            continue;
        }
        let read = |value: &str| toml::from_str::<Config>(&format!("{name} = {value}")).ok();
        let config = ["'canary'", "['canary']"].into_iter().find_map(read);
        let config = config.unwrap_or_else(|| panic!("{name} is no text, and in no list"));
        assert_ne!(config, Config::default(), "{name} has an effect");
        let text = format!("{config:?} {config:#?}");
        assert!(!text.contains("canary"), "{name} is printed: {text}");
        printed.push(name);
    }
    assert!(printed.len() >= 6, "{printed:?}");
    assert_eq!(left.len(), NO_SECRETS.len(), "of these there are no settings any more but {left:?}");
}

#[test]
fn new_rooms_have_a_version_that_is_known() {
    let config = load("default_room_version = '11'", &[], &[]).unwrap();
    assert_eq!(config.default_room_version.id(), &RoomVersionId::V11);
    mistaken("default_room_version = '13'", &[], &[], &["default_room_version", "\"1\" to \"12\""]);
}

#[test]
fn later_sources_win() {
    let file = "server_name = 'file.org'\ndata_dir = '/file'\n[store]\ncache_mib = 1\nengine = 'memory'\n";
    let environment = [("LOCKSTEP_DATA_DIR", "/env"), ("LOCKSTEP_STORE__CACHE_MIB", "2"), ("HOME", "/root")];
    let config = load(file, &environment, &[("store.cache_mib", "3")]).unwrap();
    assert_eq!(config.server_name, "file.org");
    assert_eq!(config.data_dir, Path::new("/env"));
    assert_eq!(config.store.cache_mib, 3);
    assert_eq!(config.store.engine, Engine::Memory);
}

#[test]
fn short_forms() {
    let environment = [
        ("LOCKSTEP_SERVER_NAME", "localhost:8123"),
        ("LOCKSTEP_LISTEN", "127.0.0.1:1, unix:/run/lockstep.sock"),
        ("LOCKSTEP_REGISTRATION", "open"),
        ("LOCKSTEP_RATE_LIMITS", "off"),
        ("LOCKSTEP_STORE", "postgres://u:p@h/d"),
        ("LOCKSTEP_BIN", "/x"),
    ];
    let config = load("registration = 'token'\n", &environment, &[]).unwrap();
    assert_eq!(config.server_name, "localhost:8123");
    let listen: Vec<String> = config.listen.iter().map(|listen| listen.address.to_string()).collect();
    assert_eq!(listen, ["127.0.0.1:1", "unix:/run/lockstep.sock"]);
    assert_eq!(config.registration.mode, RegistrationMode::Open);
    assert!(!config.rate_limits.enabled);
    assert_eq!(config.store.engine, Engine::Postgres(String::from("postgres://u:p@h/d")));
    assert!(!format!("{config:?}").contains("u:p"), "a password must not be printed");

    let config = load("invites = 'shared-room'", &[], &[("invites.allowed_servers", "['*.org']")]).unwrap();
    assert_eq!(
        (config.invites.from, &*config.invites.allowed_servers[0]),
        (InvitesFrom::SharedRoom, "*.org")
    );

    let config = load("listen = 'localhost:0'\nstore = 'memory'\n", &[], &[("rate_limits", "off")]).unwrap();
    assert_eq!(config.listen[0].address, Address::Tcp(([127, 0, 0, 1], 0).into()));
    assert!(!config.rate_limits.enabled);
}

#[test]
fn listeners_with_tls() {
    let file = "listen = [{ address = '[::]:8448', tls_certificate = 'c', tls_key = 'k' }, '127.0.0.1:8008']";
    let config = load(file, &[], &[]).unwrap();
    assert_eq!(config.listen[0].tls, Some(("c".into(), "k".into())));
    assert_eq!(config.listen[1].tls, None);
    mistaken("listen = [{ address = '[::]:1', tls_key = 'k' }]", &[], &[], &["belong together"]);
}

#[test]
fn unknown_keys_are_told_with_a_suggestion() {
    let path = "lockstep.toml";
    mistaken("server_nmae = 'x'", &[], &[], &["`server_nmae`", "`server_name`?", path]);
    mistaken("[store]\ncache_mb = 1", &[], &[], &["`cache_mb`", "`cache_mib`?", "store", path]);
    mistaken("", &[("LOCKSTEP_REGISTRATON", "open")], &[], &["`registraton`", "`registration`?"]);
    mistaken("", &[], &[("store.cash", "1")], &["`cash`", "the flags"]);
    mistaken("xyz = 1", &[], &[], &["`xyz`", "known are", "server_name"]);
}

#[test]
fn wrong_values_are_told_with_their_source() {
    mistaken("server_name = 'a b'", &[], &[], &["server_name", "lockstep.toml"]);
    mistaken("", &[("LOCKSTEP_STORE", "mongo")], &[], &["LOCKSTEP_STORE__ENGINE", "postgres://"]);
    mistaken("", &[("LOCKSTEP_STORE__CACHE_MIB", "much")], &[], &["LOCKSTEP_STORE__CACHE_MIB", "much"]);
    mistaken("", &[("LOCKSTEP_REGISTRATION", "yes")], &[], &["LOCKSTEP_REGISTRATION__MODE", "yes"]);
    mistaken("", &[("LOCKSTEP_LISTEN", "8008")], &[], &["LOCKSTEP_LISTEN"]);
    mistaken("", &[], &[("listen", "nowhere")], &["-O listen", "nowhere"]);
    mistaken("invites = 'everybody'", &[], &[], &["invites.from", "everybody"]);
    mistaken("moderation.policy_lists = ['room']", &[], &[], &["moderation.policy_lists"]);
    mistaken("public_base_url = 'matrix.org'", &[], &[], &["public_base_url"]);
    mistaken("rate_limits.login = { per_second = 0, burst = 1 }", &[], &[], &["rate_limits.login"]);
    let provider = |issuer: &str| {
        format!("[[sso.providers]]\nid = 'p'\nname = 'P'\nissuer = '{issuer}'\nclient_id = 'us'")
    };
    mistaken(&provider("http://id.example.org/"), &[], &[], &["sso.providers", "issuer"]);
    mistaken(&provider("id.example.org"), &[], &[], &["sso.providers", "issuer"]);
    for issuer in ["https://id.example.org/", "http://localhost:8080/", "http://127.0.0.1/"] {
        assert!(load(&provider(issuer), &[], &[]).is_ok(), "{issuer}");
    }
    mistaken("a = [", &[], &[], &["lockstep.toml"]);
    let missing = Sources { file: Some("/nowhere/x.toml".into()), ..Sources::default() };
    assert!(missing.load().unwrap_err().to_string().contains("/nowhere/x.toml"));
}

#[test]
fn the_manual_is_in_step_with_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(written, manual(), "run `lockstep config docs > docs/configuration.md`");
}
