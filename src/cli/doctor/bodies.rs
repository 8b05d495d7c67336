//! Whether large bodies come through: a proxy may refuse what the server takes.
//!
//! What is sent proves nothing about who sends it, so that the server reads it, or not even that, and refuses it with an
//! error code of Matrix. A proxy has none.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use serde_json::Value;

use super::{Finding, Patient};
use crate::{
    limits::{DOCTOR_BODY_MAX, DOCTOR_BODY_MIB_MAX, TRANSACTION_BYTES_MAX},
    peer::{Bounds, Net, NetError, Purpose},
};

/// What this server takes, and where clients send it.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    /// The largest file that a user may upload.
    pub(super) upload_mib: u64,
    pub(super) base_url: Option<String>,
}

type Told = Result<Response<Bytes>, NetError>;

/// Sends bodies as large as others do.
pub(super) async fn bodies(patient: &Patient) -> Vec<Finding> {
    let Some(sizes) = &patient.sizes else { return Vec::new() };
    let mib = (TRANSACTION_BYTES_MAX >> 20) as u64;
    let path = "/_matrix/federation/v1/send/lockstep-doctor";
    let request = large(Request::put(path).header(header::CONTENT_TYPE, "application/json"), mib);
    let told = match request {
        Ok(request) => patient.net.exchange(&patient.server, request, bounds()).await,
        Err(error) => Err(error),
    };
    let mut findings = vec![judge("a transaction", mib.max(sizes.upload_mib), mib, &told)];
    // Whoever refuses the small one refuses the large one too.
    if findings.iter().all(|finding| finding.fix.is_none()) {
        let told = upload(patient, sizes).await;
        findings.push(judge_file(sizes.upload_mib, &told));
    }
    findings
}

/// How much of a file of `upload_mib` is tried.
fn tried(upload_mib: u64) -> u64 {
    upload_mib.min(DOCTOR_BODY_MIB_MAX)
}

fn judge_file(upload_mib: u64, told: &Told) -> Finding {
    let mib = tried(upload_mib);
    let mut finding = judge("a file", upload_mib, mib, told);
    if mib < upload_mib {
        finding.text += &format!("; no larger one was tried, though `media.upload_mib` is {upload_mib}");
    }
    finding
}

async fn upload(patient: &Patient, sizes: &Sizes) -> Told {
    let path = "/_matrix/media/v3/upload";
    let kind = "application/octet-stream";
    let mib = tried(sizes.upload_mib);
    match &sizes.base_url {
        Some(base) => {
            let url = format!("{}{path}", base.trim_end_matches('/'));
            let request = large(Request::post(url).header(header::CONTENT_TYPE, kind), mib)?;
            patient.net.visit(Purpose::Provider, request, bounds()).await
        }
        None => {
            let request = large(Request::post(path).header(header::CONTENT_TYPE, kind), mib)?;
            patient.net.exchange(&patient.server, request, bounds()).await
        }
    }
}

fn bounds() -> Bounds {
    Bounds::new(DOCTOR_BODY_MAX, 1 << 20)
}

fn large(request: http::request::Builder, mib: u64) -> Result<Request<Bytes>, NetError> {
    let size = usize::try_from(mib << 20).unwrap_or(usize::MAX);
    let request = request.body(Bytes::from(vec![b' '; size]));
    request.map_err(|error| NetError::Unreachable(error.to_string()))
}

/// What it means for `what`, which has so many MiB, when a proxy should let `wanted` MiB through.
fn judge(what: &str, wanted: u64, mib: u64, told: &Told) -> Finding {
    let answer = match told {
        Ok(answer) => answer,
        Err(NetError::Timeout) => {
            let secs = DOCTOR_BODY_MAX.as_secs();
            let text = format!("{what} of {mib} MiB was not answered within {secs} s");
            return Finding::note("body", text);
        }
        // Whoever has refused it may close the connection before we have read that.
        Err(error) => {
            let text =
                format!("not known: {what} of {mib} MiB was cut off ({error}); look at the log of the proxy");
            return Finding::note("body", text);
        }
    };
    let status = answer.status();
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    match body["errcode"].as_str() {
        Some("M_TOO_LARGE") => {
            Finding::note("body", format!("the server itself refuses {what} of {mib} MiB"))
        }
        Some(_) => Finding::good("body", format!("{what} of {mib} MiB comes through")),
        None if status == StatusCode::PAYLOAD_TOO_LARGE => {
            let text = format!("a proxy refuses {what} of {mib} MiB ({status})");
            Finding::bad("body", text, fix(wanted))
        }
        None => {
            let text =
                format!("{what} of {mib} MiB is answered with {status}, and not as a Matrix server does");
            Finding::bad("body", text, format!("look at the log of the proxy; or {}", fix(wanted)))
        }
    }
}

fn fix(mib: u64) -> String {
    format!(
        "let the proxy pass {mib} MiB: nginx `client_max_body_size {mib}M;` in the `location` of /_matrix; Caddy \
         `request_body {{ max_size {mib}MiB }}`, or no such line; Apache `LimitRequestBody 0`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::{Mark, render};

    #[test]
    fn a_refusal_of_a_proxy_is_told_apart_from_ours() {
        let told = |status: u16, body: &'static str| -> Told {
            Ok(Response::builder().status(status).body(Bytes::from(body)).unwrap())
        };
        let page = "<html><center><h1>413 Request Entity Too Large</h1></center></html>";
        for (told, mark, words) in [
            (told(401, r#"{"errcode":"M_UNAUTHORIZED"}"#), Mark::Good, "a file of 50 MiB comes through"),
            (told(413, r#"{"errcode":"M_TOO_LARGE"}"#), Mark::Note, "the server itself refuses"),
            (told(413, page), Mark::Bad, "client_max_body_size 50M;"),
            (told(413, ""), Mark::Bad, "max_size 50MiB"),
            (told(502, page), Mark::Bad, "look at the log of the proxy"),
            (Err(NetError::Timeout), Mark::Note, "was not answered within"),
            (Err(NetError::Unreachable(String::from("broken pipe"))), Mark::Note, "broken pipe"),
        ] {
            let finding = judge("a file", 50, 50, &told);
            assert_eq!(finding.mark, mark, "{finding:?}");
            assert!(render(std::slice::from_ref(&finding)).contains(words), "{finding:?}");
        }
    }

    #[test]
    fn no_more_is_tried_than_memory_has_room_for() {
        let refused = Ok(Response::builder().status(413).body(Bytes::new()).unwrap());
        let text = render(&[judge_file(4096, &refused)]);
        for words in
            ["a proxy refuses a file of 64 MiB", "`media.upload_mib` is 4096", "client_max_body_size 4096M;"]
        {
            assert!(text.contains(words), "{text}");
        }
        assert!(!render(&[judge_file(64, &refused)]).contains("upload_mib"));
        assert_eq!(large(Request::post("/"), tried(u64::MAX)).unwrap().body().len(), 64 << 20);
    }
}
