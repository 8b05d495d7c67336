// Verification by short authentication string, both sides.

import {
    CryptoEvent,
    VerificationPhase,
    VerificationRequestEvent,
    VerifierEvent,
} from "matrix-js-sdk/lib/crypto-api/index.js";
import { check, same, within } from "./check.js";

/** The next (or already known) request for verification that `suits`. */
export function incomingRequest(device, suits) {
    const arrived = new Promise((resolve) => {
        device.client.on(CryptoEvent.VerificationRequestReceived, (request) => suits(request) && resolve(request));
    });
    const known = device.crypto
        .getVerificationRequestsToDeviceInProgress(device.userId)
        .find((request) => !request.initiatedByMe && suits(request));
    return known ?? within(arrived, "request for verification");
}

function reaches(request, phase) {
    const reached = new Promise((resolve, reject) => {
        const look = () => {
            if (request.phase === VerificationPhase.Cancelled) reject(new Error(`cancelled: ${request.cancellationCode}`));
            if (request.phase >= phase) resolve(request);
        };
        request.on(VerificationRequestEvent.Change, look);
        look();
    });
    return within(reached, `verification phase ${phase}`);
}

function emoji(verifier) {
    const shown = new Promise((resolve, reject) => {
        verifier.on(VerifierEvent.ShowSas, resolve);
        verifier.on(VerifierEvent.Cancel, () => reject(new Error("the verification was cancelled")));
    });
    return within(shown, "emoji");
}

/** Accepts, shows, compares and confirms; resolves when both sides are done. */
export async function compareEmoji([first, asked], [second, heard]) {
    await heard.accept();
    await Promise.all([reaches(asked, VerificationPhase.Ready), reaches(heard, VerificationPhase.Ready)]);
    const mine = await asked.startVerification("m.sas.v1");
    await reaches(heard, VerificationPhase.Started);
    const theirs = heard.verifier;
    check(theirs, `${second.name} has no verifier`);
    const shown = [emoji(mine), emoji(theirs)];
    const finished = [mine.verify(), theirs.verify()];
    finished.forEach((promise) => promise.catch(() => {}));
    const [a, b] = await Promise.all(shown);
    check(a.sas.emoji.length === 7, `${first.name} was shown ${a.sas.emoji.length} emoji`);
    same(a.sas.emoji, b.sas.emoji, "emoji on both sides");
    await Promise.all([a.confirm(), b.confirm()]);
    await within(Promise.all(finished), "end of the verification");
    await Promise.all([reaches(asked, VerificationPhase.Done), reaches(heard, VerificationPhase.Done)]);
}
