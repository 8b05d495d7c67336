//! Events cut down to the fields that a filter names.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#filtering>

use serde_json::{Map, Value, value::to_raw_value};

use super::response::Json;

/// The named fields of each event. What is not JSON of an object stays as it is.
pub(super) fn pick_all(events: Vec<Json>, wanted: &[String]) -> Vec<Json> {
    let paths: Vec<Vec<String>> = wanted.iter().map(|path| split(path)).collect();
    let pick = |event: Json| -> Json {
        let Ok(Value::Object(whole)) = serde_json::from_str(event.get()) else { return event };
        let mut picked = Map::new();
        for path in &paths {
            copy(&whole, path, &mut picked);
        }
        to_raw_value(&picked).unwrap_or(event)
    };
    events.into_iter().map(pick).collect()
}

/// The parts of a path between dots; a backslash takes the meaning from a dot or a backslash.
fn split(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '.' => parts.push(String::new()),
            '\\' if matches!(chars.peek(), Some('.' | '\\')) => {
                let escaped = chars.next();
                parts.last_mut().into_iter().for_each(|part| part.extend(escaped));
            }
            c => parts.last_mut().into_iter().for_each(|part| part.push(c)),
        }
    }
    parts
}

fn copy(from: &Map<String, Value>, path: &[String], to: &mut Map<String, Value>) {
    let Some((name, rest)) = path.split_first() else { return };
    let Some(value) = from.get(name) else { return };
    match (rest.is_empty(), value) {
        (true, value) => drop(to.insert(name.clone(), value.clone())),
        (false, Value::Object(inner)) => {
            let place = to.remove(name).unwrap_or_else(|| Value::Object(Map::new()));
            if let Value::Object(mut place) = place {
                copy(inner, rest, &mut place);
                if !place.is_empty() {
                    to.insert(name.clone(), Value::Object(place));
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, value::to_raw_value};

    use super::pick_all;

    #[track_caller]
    fn check(wanted: &[&str], expected: &Value) {
        let event = json!({"type": "m", "content": {"body": "x", "a.b": 1, "c": {"d": 2, "e": 3}}});
        let wanted: Vec<String> = wanted.iter().map(|path| String::from(*path)).collect();
        let picked = pick_all(vec![to_raw_value(&event).unwrap()], &wanted);
        assert_eq!(serde_json::from_str::<Value>(picked[0].get()).unwrap(), *expected);
    }

    #[test]
    fn fields_are_picked_by_path() {
        check(&["type"], &json!({"type": "m"}));
        check(&["content.body", "type"], &json!({"type": "m", "content": {"body": "x"}}));
        check(&["content.c.d", "content.c.e"], &json!({"content": {"c": {"d": 2, "e": 3}}}));
        check(&[r"content.a\.b"], &json!({"content": {"a.b": 1}}));
        check(&["content.a.b", "nothing", "type.x"], &json!({}));
        check(&[], &json!({}));
    }
}
