//! Registrations and namespaces by case.

use std::sync::Arc;

use ruma::{room_alias_id, server_name, user_id};

use super::{Appservices, Registration};

const IRC: &str = r##"
id: irc
url: "http://localhost:9000/"
as_token: as_irc
hs_token: hs_irc
sender_localpart: irc_bot
rate_limited: false
de.sorunome.msc2409.push_ephemeral: true
push_ephemeral: true
org.matrix.msc3202: true
something_else: [1, 2]
namespaces:
  users:
    - exclusive: true
      regex: "@irc_.*:a\\.org"
  aliases:
    - exclusive: true
      regex: "#irc_.*"
  rooms: []
"##;

fn other(id: &str, token: &str) -> String {
    format!(
        "id: {id}\nurl: null\nas_token: {token}\nhs_token: hs_{id}\nsender_localpart: {id}\nnamespaces:\n  users:\n    - regex: '@free_.*'\n"
    )
}

fn open(texts: &[&str]) -> Result<Appservices, String> {
    let mut all = Vec::new();
    for text in texts {
        all.push(Registration::parse(text)?.open(server_name!("a.org"))?);
    }
    Appservices::new(all).map_err(|error| error.to_string())
}

#[test]
fn a_registration_says_who_belongs_to_whom() {
    let all = open(&[IRC, &other("second", "as_second")]).unwrap();
    let irc = &all.by_token("as_irc").unwrap();
    assert_eq!(irc.registration.url.as_deref(), Some("http://localhost:9000"));
    assert!(!irc.registration.is_limited() && irc.registration.wants_ephemeral());
    assert!(irc.registration.wants_devices() && !irc.registration.makes_devices());
    assert_eq!(irc.sender, "@irc_bot:a.org");
    assert!(all.by_token("as_").is_none() && all.by_token("").is_none());
    for (user, owned) in [
        (user_id!("@irc_alice:a.org"), true),
        (user_id!("@irc_bot:a.org"), true),
        (user_id!("@irc_alice:b.org"), false),
        (user_id!("@not_irc_alice:a.org"), false),
        (user_id!("@alice:a.org"), false),
    ] {
        assert_eq!(irc.owns(user), owned, "{user}");
        assert_eq!(all.keeps_user(user, None), owned, "{user}");
        assert!(!all.keeps_user(user, Some(irc)), "{user}");
    }
    let second = &all.by_token("as_second").unwrap();
    assert_eq!(second.registration.url, None);
    assert!(second.registration.is_limited());
    let free = user_id!("@free_x:a.org");
    assert!(second.owns(free) && !all.keeps_user(free, None), "the namespace is not exclusive");
    let wide = user_id!("@free_x:b.org");
    assert!(!second.owns(wide), "its expression names no server, and only users of this one can be its own");
    let wants = |registration: &Registration| (registration.wants_ephemeral(), registration.wants_messages());
    assert_eq!((wants(&irc.registration), wants(&second.registration)), ((true, true), (false, false)));
    let older = open(&[&IRC.replace("org.matrix.msc3202: true", "")]).unwrap().by_token("as_irc").unwrap();
    assert_eq!(wants(&older.registration), (true, false), "it syncs them");
    assert!(all.keeps_user(user_id!("@second:a.org"), Some(irc)), "its sender is its own");
    assert!(all.keeps_alias(room_alias_id!("#irc_x:a.org"), Some(second)));
    assert!(!all.keeps_alias(room_alias_id!("#x:a.org"), None));
}

#[test]
fn what_cannot_be_used_says_why() {
    for (texts, why) in [
        (vec![IRC.to_owned(), IRC.to_owned()], "same `id`"),
        (vec![IRC.to_owned(), other("b", "as_irc")], "same `as_token`"),
        (vec![IRC.replace("as_irc", "\"\"")], "`as_token` is empty"),
        (vec![IRC.replace("#irc_.*", "#irc_(")], "`namespaces.aliases`: regex"),
        (vec![IRC.replace("http://", "ftp://")], "`url`: it must begin with"),
        (vec![IRC.replace("localhost:9000/", "local host/")], "`url`"),
        (vec![IRC.replace("localhost:9000/", "localhost/?a=b")], "`url`: it must not have a query"),
        (vec![IRC.replace("rate_limited: false", "rate_limited: often")], "rate_limited"),
        (vec![IRC.replace("id: irc", &format!("id: {}", "a".repeat(300)))], "`id` has more than 255 bytes"),
        (vec!["id: [".to_owned()], ""),
        (vec!["id: x".to_owned()], "missing"),
    ] {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let told = open(&texts).unwrap_err();
        assert!(told.contains(why), "{why}: {told}");
    }
}

#[test]
fn one_that_cannot_be_used_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("1.yaml", IRC.to_owned()),
        ("2.yaml", "id: [".to_owned()),
        ("3.yaml", other("b", "as_irc")),
        ("4.yaml", other("c", "as_c")),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let all = Appservices::read(&[folder.path().to_owned()], server_name!("a.org")).unwrap();
    let ids: Vec<String> = all.all().iter().map(|it| it.registration.id.clone()).collect();
    assert_eq!(ids, ["irc", "c"]);
    let none = Appservices::read(&[folder.path().join("none.yaml")], server_name!("a.org")).unwrap();
    assert!(none.is_empty());
}

#[test]
fn they_come_and_go() {
    let all = open(&[IRC]).unwrap();
    let other_hand = all.clone();
    let opened =
        |text: &str| Arc::new(Registration::parse(text).unwrap().open(server_name!("a.org")).unwrap());
    let second = opened(&other("b", "as_b"));
    all.check(&second).unwrap();
    all.add(second).unwrap();
    assert!(other_hand.by_token("as_b").is_some() && other_hand.by_id("b").is_some());
    // A token that another one has is refused; its own may change.
    let thief = opened(&other("b", "as_irc"));
    assert!(all.check(&thief).is_err() && all.add(thief).is_err());
    all.add(opened(&other("b", "as_new"))).unwrap();
    assert!(all.by_token("as_b").is_none() && all.by_token("as_new").is_some());
    assert_eq!(all.all().len(), 2);
    all.remove("b");
    assert!(other_hand.by_token("as_new").is_none() && other_hand.by_id("irc").is_some());
}

#[test]
fn a_registration_is_written_as_it_was_read() {
    let read = Registration::parse(IRC).unwrap();
    let written = serde_json::to_string(&read).unwrap();
    let again = Registration::parse(&written).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), written);
    let opened = again.open(server_name!("a.org")).unwrap();
    assert!(opened.owns(user_id!("@irc_x:a.org")) && opened.registration.wants_devices());
    assert!(opened.namespaces.aliases.keeps("#irc_x:a.org") && !opened.registration.is_limited());
}
