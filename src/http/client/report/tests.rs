//! Who may report what, and what comes of it.

use serde_json::{Value, json};

use crate::{
    account::Registration,
    http::client::testing::Server,
    report::{Subject, Wanted},
};

/// A private room of alice's and what she said there.
async fn scene() -> (Server, [String; 3], String, String) {
    let server = Server::new(Registration::Open).await;
    let tokens = [server.register("alice").await, server.register("bob").await, server.register("eve").await];
    let wanted = json!({ "invite": ["@bob:localhost"] });
    let room =
        server.met(&tokens[0], "POST /createRoom", wanted).await["room_id"].as_str().unwrap().to_owned();
    let path = format!("PUT /rooms/{room}/send/m.room.message/1");
    let said = server.met(&tokens[0], &path, json!({ "body": "x", "msgtype": "m.text" })).await;
    (server, tokens, room, said["event_id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn events_are_reported_by_members_who_see_them() {
    let (server, [alice, bob, eve], room, event) = scene().await;
    let report = format!("POST /rooms/{room}/report/{event}");
    let why = json!({ "reason": "rude" });
    let not_found = json!("404 M_NOT_FOUND");
    server.check(&bob, &report, (why.clone(), not_found.clone())).await;
    server.met(&bob, &format!("POST /join/{room}"), json!({})).await;
    let elsewhere = server.met(&eve, "POST /createRoom", json!({})).await["room_id"].clone();
    let elsewhere = elsewhere.as_str().unwrap();
    for (token, path, expected) in [
        (&eve, report.clone(), &not_found),
        (&bob, format!("POST /rooms/{room}/report/$nothing"), &not_found),
        (&eve, format!("POST /rooms/{elsewhere}/report/{event}"), &not_found),
        (&bob, format!("POST /rooms/!nowhere:localhost/report/{event}"), &not_found),
        (&bob, report.clone(), &json!({})),
    ] {
        server.check(token, &path, (why.clone(), expected.clone())).await;
    }
    server.check(&alice, &report, (json!({}), json!({}))).await;
    let (found, total) = server.app().reports.list(&Wanted::default(), (0, 10)).await.unwrap();
    assert_eq!((found.len(), total), (2, 2));
    assert_eq!(found[1].1.reason, "rude");
    assert!(matches!(&found[1].1.subject, Subject::Event { sender, .. } if sender == "@alice:localhost"));
    assert!(found[0].0 > found[1].0, "the newest comes first");
}

#[tokio::test]
async fn whether_rooms_and_users_exist_is_not_told() {
    let (server, [_, bob, _], room, _) = scene().await;
    let long = "x".repeat(100_000);
    for (path, body, expected) in [
        (format!("POST /rooms/{room}/report"), json!({ "reason": "a" }), json!({})),
        ("POST /rooms/!nowhere:localhost/report".to_owned(), json!({ "reason": "b" }), json!({})),
        ("POST /users/@alice:localhost/report".to_owned(), json!({ "reason": "c" }), json!({})),
        ("POST /users/@nobody:localhost/report".to_owned(), json!({ "reason": "d" }), json!({})),
        ("POST /users/@far:elsewhere/report".to_owned(), json!({ "reason": "" }), json!({})),
        ("POST /users/@far:elsewhere/report".to_owned(), json!({}), json!("400 M_BAD_JSON")),
        (
            "POST /users/@nobody:localhost/report".to_owned(),
            json!({ "reason": long }),
            json!("413 M_TOO_LARGE"),
        ),
    ] {
        server.check(&bob, &path, (body, expected)).await;
    }
    let reasons = |wanted: Wanted| {
        let reports = server.app().reports.clone();
        async move {
            let (found, _) = reports.list(&wanted, (0, 10)).await.unwrap();
            found.into_iter().map(|(_, report)| report.reason).collect::<Vec<_>>()
        }
    };
    let oldest_first = true;
    assert_eq!(reasons(Wanted { oldest_first, ..Wanted::default() }).await, ["a", "c", ""]);
    assert_eq!(reasons(Wanted { kind: Some("user"), ..Wanted::default() }).await, ["", "c"]);
    let about = Some(ruma::user_id!("@alice:localhost").to_owned());
    assert_eq!(reasons(Wanted { about, ..Wanted::default() }).await, ["c"]);
    let (found, total) = server.app().reports.list(&Wanted::default(), (1, 1)).await.unwrap();
    assert_eq!((found.len(), total), (1, 3));
    assert!(server.app().reports.remove(found[0].0).await.unwrap());
    assert!(!server.app().reports.remove(found[0].0).await.unwrap());
    assert_eq!(server.app().reports.list(&Wanted::default(), (0, 10)).await.unwrap().1, 2);
}

#[tokio::test]
async fn reports_are_limited() {
    let (server, [_, bob, _], ..) = scene().await;
    let report = "POST /users/@alice:localhost/report";
    let mut met = Value::Null;
    for _ in 0..=20 {
        met = server.met(&bob, report, json!({ "reason": "x" })).await;
    }
    assert_eq!(met, json!("429 M_LIMIT_EXCEEDED"));
}
