//! The doctor's look at a server that has just started: what costs little, once, in the background.

use tokio::time::{sleep, timeout};

use super::{Finding, Mark, Patient, steps};
use crate::{
    limits::{DOCTOR_AFTER_START, DOCTOR_LOOK_MAX},
    server::Running,
};

/// Looks whether other servers can reach this one, if the configuration wants that, and logs what is wrong.
pub(in crate::cli) fn look_once(running: &Running) {
    let Some(patient) = patient(running) else { return };
    let stopping = running.app().stopping.clone();
    running.app().tasks.spawn(async move {
        let looking = async {
            // A proxy may start together with the server.
            sleep(DOCTOR_AFTER_START).await;
            timeout(DOCTOR_LOOK_MAX, Box::pin(steps::examine(&patient))).await.unwrap_or_default()
        };
        tokio::select! {
            () = stopping.cancelled() => {}
            findings = looking => tell(&findings),
        }
    });
}

/// This server, if it is to be looked at.
pub(super) fn patient(running: &Running) -> Option<Patient> {
    let app = running.app();
    let federation = &app.config.federation;
    let is_wanted = federation.enabled && federation.check_at_start;
    // Nobody else means this server by such a name.
    (is_wanted && !steps::is_local(&app.server_name)).then(|| Patient {
        net: running.net().clone(),
        ports: app.ports.clone(),
        key: Some(app.signing_key.clone()),
        server: app.server_name.clone(),
        own: true,
        sizes: None,
    })
}

pub(super) fn tell(findings: &[Finding]) {
    for finding in findings.iter().filter(|finding| finding.mark == Mark::Bad) {
        let Finding { step, text, fix, .. } = finding;
        let fix = fix.as_deref().unwrap_or("see `lockstep doctor federation`");
        tracing::warn!(
            step,
            fix,
            "other servers may not reach this one: {step}: {text} -> {fix} (`lockstep doctor federation` looks again)"
        );
    }
}
