//! The proof that a request comes from a server: the scheme `X-Matrix` of the header `Authorization`.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#request-authentication>

use std::{borrow::Cow, collections::BTreeMap};

use http::{HeaderMap, HeaderValue, Request, header};
use ruma::{
    CanonicalJsonObject, OwnedServerName, OwnedServerSigningKeyId, ServerName,
    serde::{Base64, base64::Standard},
};
use serde_json::value::RawValue;

use crate::{
    keys::{PublicKeyMap, SigningKey, canonical_text, verify_text},
    limits::{JSON_DEPTH_MAX, X_MATRIX_BYTES_MAX},
};

/// The scheme's name.
const SCHEME: &str = "X-Matrix";
/// What says in the text that is signed whom a request is for.
const DESTINATION: &str = "destination";
/// The same for identity servers: so Sydent has it, and Synapse.
const DESTINATION_IS: &str = "destination_is";

/// Why a request does not prove where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// There is no such header.
    #[error("the request is not signed")]
    Missing,
    /// The header cannot be read, or there are several.
    #[error("the header Authorization is malformed: {0}")]
    Malformed(&'static str),
    /// The request was meant for another server.
    #[error("the request is for another server")]
    WrongDestination,
    /// The body is no JSON that could be signed.
    #[error("the content cannot be signed")]
    Content,
    /// The key is not known, or not valid now.
    #[error("the key is not known")]
    UnknownKey,
    /// The signature is not that of the request.
    #[error("the signature is wrong")]
    WrongSignature,
}

/// What the header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XMatrix {
    /// Who asks.
    pub origin: OwnedServerName,
    /// Who is asked; servers of old do not say.
    pub destination: Option<OwnedServerName>,
    /// With which key it is signed.
    pub key: OwnedServerSigningKeyId,
    /// The signature.
    pub signature: Base64,
}

impl XMatrix {
    /// Signs `request`, whose target is a path with a query, for `destination`.
    ///
    /// # Errors
    /// When the body is no JSON object.
    pub fn sign<B: AsRef<[u8]>>(
        request: &Request<B>,
        key: &SigningKey,
        destination: &ServerName,
    ) -> Result<Self, BadProof> {
        let text = signed_text(request, key.server(), (DESTINATION, destination))?;
        Ok(Self::by(key, destination, &text))
    }

    /// As [`Self::sign`], for an identity server: what it wants signed names it by another word, so that no homeserver
    /// takes it for a request to itself.
    ///
    /// # Errors
    /// When the body is no JSON object.
    pub fn sign_for_identity<B: AsRef<[u8]>>(
        request: &Request<B>,
        key: &SigningKey,
        server: &ServerName,
    ) -> Result<Self, BadProof> {
        let text = signed_text(request, key.server(), (DESTINATION_IS, server))?;
        Ok(Self::by(key, server, &text))
    }

    fn by(key: &SigningKey, destination: &ServerName, text: &str) -> Self {
        Self {
            origin: key.server().to_owned(),
            destination: Some(destination.to_owned()),
            key: key.key_id().to_owned(),
            signature: key.sign_text(text.as_bytes()),
        }
    }

    /// The header's value.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        let Self { origin, destination, key, signature } = self;
        let mut text = format!("{SCHEME} origin=\"{origin}\",");
        if let Some(destination) = destination {
            text.push_str(&format!("destination=\"{destination}\","));
        }
        text.push_str(&format!("key=\"{key}\",sig=\"{}\"", signature.encode()));
        // None of these alphabets holds a quotation mark or anything beyond ASCII.
        HeaderValue::from_str(&text).expect("names and base64 are visible ASCII")
    }

    /// The one proof among the headers of a request.
    ///
    /// # Errors
    /// When there is none, more than one, or it is malformed.
    pub fn of(headers: &HeaderMap) -> Result<Self, BadProof> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or(BadProof::Missing)?;
        if values.next().is_some() {
            return Err(BadProof::Malformed("there are several"));
        }
        let text = value.to_str().map_err(|_| BadProof::Malformed("it is not ASCII"))?;
        Self::parse(text)
    }

    /// Reads a header's value. Other servers are lax about quotation marks and spaces, so this is too.
    ///
    /// # Errors
    /// When it is another scheme, or malformed.
    pub fn parse(text: &str) -> Result<Self, BadProof> {
        if text.len() > X_MATRIX_BYTES_MAX {
            return Err(BadProof::Malformed("it is too long"));
        }
        let (scheme, rest) = text.trim().split_once([' ', '\t']).ok_or(BadProof::Missing)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(BadProof::Missing);
        }
        let mut parameters = parameters(rest)?;
        let mut take = |name: &str| parameters.remove(name);
        let origin = take("origin").ok_or(BadProof::Malformed("there is no origin"))?;
        let key = take("key").ok_or(BadProof::Malformed("there is no key"))?;
        let signature = take("sig").ok_or(BadProof::Malformed("there is no sig"))?;
        let destination = take("destination");
        let server = |text: Cow<'_, str>, what| {
            OwnedServerName::try_from(text.into_owned()).map_err(|_| BadProof::Malformed(what))
        };
        Ok(Self {
            origin: server(origin, "the origin is no server name")?,
            destination: destination
                .map(|name| server(name, "the destination is no server name"))
                .transpose()?,
            key: OwnedServerSigningKeyId::try_from(key.into_owned())
                .map_err(|_| BadProof::Malformed("the key is no key id"))?,
            signature: Base64::<Standard>::parse(signature.as_bytes())
                .map_err(|_| BadProof::Malformed("the signature is not base64"))?,
        })
    }

    /// Whether `request` is for `us` and signed with one of `keys`, which hold those valid now.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify<B: AsRef<[u8]>>(
        &self,
        request: &Request<B>,
        us: &ServerName,
        keys: &PublicKeyMap,
    ) -> Result<(), BadProof> {
        if self.destination.as_ref().is_some_and(|destination| destination != us) {
            return Err(BadProof::WrongDestination);
        }
        let known = keys.get(self.origin.as_str()).and_then(|known| known.get(self.key.as_str()));
        let known = known.ok_or(BadProof::UnknownKey)?;
        let text = signed_text(request, &self.origin, (DESTINATION, us))?;
        verify_text(known, &self.signature, text.as_bytes()).map_err(|_| BadProof::WrongSignature)
    }
}

/// The parameters after the scheme, by their names in lower case.
fn parameters(mut rest: &str) -> Result<BTreeMap<String, Cow<'_, str>>, BadProof> {
    let mut found = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Ok(found);
        }
        let (name, tail) = rest.split_once('=').ok_or(BadProof::Malformed("a parameter has no value"))?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        {
            return Err(BadProof::Malformed("a parameter has no name"));
        }
        let tail = tail.trim_start_matches([' ', '\t']);
        let (value, tail) = match tail.strip_prefix('"') {
            Some(tail) => quoted(tail)?,
            None => {
                let (value, tail) = tail.split_at(tail.find(',').unwrap_or(tail.len()));
                let value = value.trim();
                if value.is_empty() || value.contains(['"', ' ', '\t']) {
                    return Err(BadProof::Malformed("a value is malformed"));
                }
                (Cow::Borrowed(value), tail)
            }
        };
        rest = tail.trim_start_matches([' ', '\t']);
        if !(rest.is_empty() || rest.starts_with(',')) {
            return Err(BadProof::Malformed("something follows a value"));
        }
        if found.insert(name.to_ascii_lowercase(), value).is_some() {
            return Err(BadProof::Malformed("a parameter is there twice"));
        }
    }
}

/// What stands before the closing quotation mark, and what follows it.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), BadProof> {
    let end = text.find(['"', '\\']).ok_or(BadProof::Malformed("a quotation does not end"))?;
    if text[end..].starts_with('"') {
        return Ok((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = String::from(&text[..end]);
    let mut characters = text[end..].char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((Cow::Owned(value), &text[end + at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            character => value.push(character),
        }
    }
    Err(BadProof::Malformed("a quotation does not end"))
}

/// The canonical JSON that is signed of a request.
fn signed_text<B: AsRef<[u8]>>(
    request: &Request<B>,
    origin: &ServerName,
    (name, destination): (&str, &ServerName),
) -> Result<String, BadProof> {
    let body = request.body().as_ref();
    let uri = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let quote = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = String::from("{");
    if !body.is_empty() {
        text.push_str("\"content\":");
        text.push_str(&canonical_content(body).ok_or(BadProof::Content)?);
        text.push(',');
    }
    text.push_str(&format!(
        "\"{name}\":{},\"method\":{},\"origin\":{},\"uri\":{}}}",
        quote(destination.as_str()),
        quote(request.method().as_str()),
        quote(origin.as_str()),
        quote(uri),
    ));
    Ok(text)
}

/// `body`, a JSON object, in canonical form.
fn canonical_content(body: &[u8]) -> Option<String> {
    if let Ok(object) = serde_json::from_slice::<CanonicalJsonObject>(body) {
        return Some(canonical_text(&object));
    }
    // Clients put floats into messages to devices, and servers pass them on. They have no canonical
    // form, but the sender writes each number as it has signed it. One such number must not make a
    // whole transaction unreadable for ever.
    let body = std::str::from_utf8(body).ok()?.trim();
    if !body.starts_with('{') {
        return None;
    }
    let mut text = String::with_capacity(body.len());
    write_sorted(body, 0, &mut text).then_some(text)
}

/// Writes `value` without spaces and with sorted keys, its numbers as they are. False if it is no JSON.
fn write_sorted(value: &str, depth: usize, text: &mut String) -> bool {
    if depth > JSON_DEPTH_MAX {
        return false;
    }
    match value.as_bytes().first() {
        Some(b'{') => {
            let Ok(fields) = serde_json::from_str::<BTreeMap<String, &RawValue>>(value) else { return false };
            text.push('{');
            for (index, (name, field)) in fields.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&serde_json::Value::from(name.as_str()).to_string());
                text.push(':');
                if !write_sorted(field.get(), depth + 1, text) {
                    return false;
                }
            }
            text.push('}');
            true
        }
        Some(b'[') => {
            let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(value) else { return false };
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                if !write_sorted(item.get(), depth + 1, text) {
                    return false;
                }
            }
            text.push(']');
            true
        }
        Some(b'"') => match serde_json::from_str::<String>(value) {
            Ok(string) => {
                text.push_str(&serde_json::Value::from(string).to_string());
                true
            }
            Err(_) => false,
        },
        _ => {
            text.push_str(value);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Request, header};
    use ruma::{owned_server_name, server_name};

    use super::{BadProof, XMatrix, canonical_content};
    use crate::keys::{PublicKeyMap, SigningKey};

    /// `origin destination key sig`, `-` for no destination; or the word that says what is wrong.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = match XMatrix::parse(text) {
            Ok(XMatrix { origin, destination, key, signature }) => {
                let destination = destination.map_or(String::from("-"), |name| name.to_string());
                format!("{origin} {destination} {key} {}", signature.encode())
            }
            Err(BadProof::Missing) => String::from("missing"),
            Err(_) => String::from("malformed"),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn headers_as_servers_write_them() {
        let all = "a.org b.org ed25519:1 dGVzdA";
        check(r#"X-Matrix origin="a.org",destination="b.org",key="ed25519:1",sig="dGVzdA""#, all);
        check(r#"X-Matrix origin=a.org,destination=b.org,key="ed25519:1",sig="dGVzdA==""#, all);
        check("X-Matrix origin=a.org,destination=b.org,key=ed25519:1,sig=dGVzdA==", all);
        check("x-matrix  ORIGIN = a.org ,\tDestination =b.org , Key=ed25519:1,sig=dGVzdA,", all);
        check(
            r#"X-Matrix sig="dGVzdA",key="ed25519:1",extra="x,y=\"z",origin="a.org",destination="b.org""#,
            all,
        );
        check(r#"X-Matrix origin="\a.org",destination="b.org",key="ed25519:\1",sig="dGVzdA""#, all);
        check(r#"X-Matrix origin="a.org",key="ed25519:1",sig="dGVzdA""#, "a.org - ed25519:1 dGVzdA");
        check(
            r#"X-Matrix origin="[::1]:8448",key="ed25519:1",sig="dGVzdA""#,
            "[::1]:8448 - ed25519:1 dGVzdA",
        );
    }

    #[test]
    fn other_schemes_are_no_proof() {
        for text in ["", "X-Matrix", "Bearer abc", "Basic origin=a.org", "X-Matrixx origin=a.org", " "] {
            check(text, "missing");
        }
    }

    #[test]
    fn malformed_headers_are_refused() {
        let good = r#"origin="a.org",key="ed25519:1",sig="dGVzdA""#;
        for text in [
            String::from("X-Matrix ,"),
            String::from("X-Matrix origin"),
            format!(r#"X-Matrix {good},origin="c.org""#),
            format!(r#"X-Matrix {good},ORIGIN="a.org""#),
            format!("X-Matrix {good} rest"),
            format!(r#"X-Matrix {good},x="open"#),
            format!(r#"X-Matrix {good},x="open\"#),
            format!("X-Matrix {good},=x"),
            format!("X-Matrix {good},a b=x"),
            format!("X-Matrix {good},x=a b"),
            format!("X-Matrix {good},x="),
            good.replace("a.org", "a org").replacen("origin", "X-Matrix origin", 1),
            format!("X-Matrix {}", good.replace("a.org", "")),
            format!("X-Matrix {}", good.replace("a.org", "https://a.org")),
            format!("X-Matrix {}", good.replace("ed25519:1", "1")),
            format!("X-Matrix {}", good.replace("dGVzdA", "d G")),
            format!("X-Matrix {}", good.replace("dGVzdA", "ä")),
            format!("X-Matrix {}", good.replace(r#"sig="dGVzdA""#, "x=y")),
            format!("X-Matrix {}", good.replace("dGVzdA", &"A".repeat(5_000))),
        ] {
            check(&text, "malformed");
        }
    }

    #[test]
    fn one_header_and_no_more() {
        let value = HeaderValue::from_static(r#"X-Matrix origin="a.org",key="ed25519:1",sig="dGVzdA""#);
        let mut headers = HeaderMap::new();
        assert_eq!(XMatrix::of(&headers), Err(BadProof::Missing));
        headers.append(header::AUTHORIZATION, value.clone());
        XMatrix::of(&headers).unwrap();
        headers.append(header::AUTHORIZATION, value);
        assert!(matches!(XMatrix::of(&headers), Err(BadProof::Malformed(_))));
        headers.clear();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_bytes(b"X-Matrix origin=\xff").unwrap());
        assert!(matches!(XMatrix::of(&headers), Err(BadProof::Malformed(_))));
    }

    fn key() -> SigningKey {
        SigningKey::from_seed(owned_server_name!("a.org"), "1", [3; 32]).unwrap()
    }

    fn request(method: &str, uri: &str, body: &str) -> Request<String> {
        Request::builder().method(method).uri(uri).body(String::from(body)).unwrap()
    }

    #[test]
    fn every_part_of_a_request_is_signed() {
        let (key, us) = (key(), server_name!("b.org"));
        let keys = key.public_keys();
        let signed = request("PUT", "/_matrix/x/%2Fa%20b?q=1", r#"{"b":1,"a":[true,null]}"#);
        let proof = XMatrix::sign(&signed, &key, us).unwrap();
        let again = XMatrix::parse(proof.header().to_str().unwrap()).unwrap();
        assert_eq!(again, proof);
        again.verify(&signed, us, &keys).unwrap();
        // The same JSON otherwise written is the same content.
        let spaced = request("PUT", "/_matrix/x/%2Fa%20b?q=1", r#" {"a": [true, null], "b": 1} "#);
        proof.verify(&spaced, us, &keys).unwrap();
        let body = r#"{"b":1,"a":[true,null]}"#;
        for other in [
            request("POST", "/_matrix/x/%2Fa%20b?q=1", body),
            request("PUT", "/_matrix/x//a%20b?q=1", body),
            request("PUT", "/_matrix/x/%2fa%20b?q=1", body),
            request("PUT", "/_matrix/x/%2Fa%20b?q=2", body),
            request("PUT", "/_matrix/x/%2Fa%20b", body),
            request("PUT", "/_matrix/x/%2Fa%20b?q=1", r#"{"b":2,"a":[true,null]}"#),
            request("PUT", "/_matrix/x/%2Fa%20b?q=1", ""),
        ] {
            assert_eq!(proof.verify(&other, us, &keys), Err(BadProof::WrongSignature), "{other:?}");
        }
        let mut nonsense = signed.clone();
        *nonsense.body_mut() = String::from("nonsense");
        assert_eq!(proof.verify(&nonsense, us, &keys), Err(BadProof::Content));
        assert_eq!(proof.verify(&signed, server_name!("c.org"), &keys), Err(BadProof::WrongDestination));
        assert_eq!(proof.verify(&signed, us, &PublicKeyMap::new()), Err(BadProof::UnknownKey));
        let stolen = XMatrix { origin: owned_server_name!("c.org"), ..proof.clone() };
        assert_eq!(stolen.verify(&signed, us, &keys), Err(BadProof::UnknownKey));
        let silent = XMatrix { destination: None, ..proof };
        silent.verify(&signed, us, &keys).unwrap();
        assert_eq!(silent.verify(&signed, server_name!("c.org"), &keys), Err(BadProof::WrongSignature));
    }

    #[test]
    fn numbers_without_canonical_form_are_signed_as_they_are_written() {
        let cases = [
            (
                r#"{"b":1.50,"a":{"d":"\u00e4","c":[1e5,-0.0]}}"#,
                Some(r#"{"a":{"c":[1e5,-0.0],"d":"ä"},"b":1.50}"#),
            ),
            (r#"{"a":99999999999999999999}"#, Some(r#"{"a":99999999999999999999}"#)),
            (r#"{"a":1.5"#, None),
            (r#"{"a":1.5}}"#, None),
            (r#"{"a":1.5,}"#, None),
            (r#"[1.5]"#, None),
            ("1.5", None),
            (r#"{"a":NaN}"#, None),
        ];
        for (body, expected) in cases {
            assert_eq!(canonical_content(body.as_bytes()).as_deref(), expected, "{body}");
        }
        let deep = format!("{{\"a\":{}1.5{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(canonical_content(deep.as_bytes()), None, "without end, and without a crash");
    }
}
