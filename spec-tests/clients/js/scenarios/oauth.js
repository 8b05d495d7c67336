// Signing in on the server's pages in a real browser, with the SDK's own OAuth code on the other side.

import { createClient } from "matrix-js-sdk";
import { OAuth2 } from "matrix-js-sdk/lib/oauth/index.js";
import { browser, callback } from "../lib/browser.js";
import { check, same, within } from "../lib/check.js";
import { Device, password, quiet } from "../lib/device.js";
import { secure } from "../lib/world.js";

export default async function () {
    const baseUrl = process.env.HS_URL;
    const alice = await Device.register("alice");
    await alice.stop();
    const anonymous = createClient({ baseUrl, logger: quiet });
    const metadata = await anonymous.getAuthMetadata();
    const back = await callback();
    const chrome = await browser();
    try {
        const clientId = await OAuth2.registerClient(
            metadata,
            { client_name: "Scenario", client_uri: `${back.origin}/`, redirect_uris: [back.uri], application_type: "web" },
            quiet,
        );
        const oauth = new OAuth2(metadata, { clientId }, quiet);
        await chrome.page.goto(await oauth.generateAuthorizationCodeGrantUrl("the state", back.uri));
        await chrome.picture("sign-in");
        await signIn(chrome, alice.name, "not the password");
        await chrome.page.getByRole("alert").waitFor();
        await chrome.picture("wrong-password");
        await signIn(chrome, alice.name, password(alice.name));
        await chrome.page.getByText("wants to use your account").waitFor();
        const shown = await chrome.page.locator("main").innerText();
        for (const text of ["Scenario", "127.0.0.1", alice.userId, oauth.context.deviceId]) {
            check(shown.includes(text), `the page does not say ${text}: ${shown}`);
        }
        await chrome.picture("consent");
        await chrome.page.getByRole("button", { name: "Allow" }).click();
        const answer = await within(back.came, "redirect to the client");
        same([answer.get("state"), answer.get("iss")], ["the state", metadata.issuer], "what the browser brings back");
        const tokens = await oauth.completeAuthorizationCodeGrant(answer.get("code"), back.uri);
        same([tokens.token_type, tokens.expires_in], ["Bearer", 3600], "the tokens");

        const session = { user_id: alice.userId, device_id: oauth.context.deviceId, access_token: tokens.access_token };
        const device = await new Device(session, alice.name).start();
        same(await device.client.whoami().then((me) => me.device_id), oauth.context.deviceId, "the device");
        await secure(device);
        await replaceKeys(device, chrome);
        await device.stop();

        const renewed = await oauth.performRefreshTokenGrant(tokens.refresh_token);
        same(await status(renewed.access_token), 200, "the renewed token");
        same(await status(tokens.access_token), 401, "the token before");
        await byCode(metadata, chrome, alice);
        await oauth.revokeToken(renewed.access_token, "access_token");
        same(await status(renewed.access_token), 401, "the revoked token");
        await chrome.page.goto(`${metadata.account_management_uri}?action=org.matrix.devices_list`);
        await chrome.picture("devices");
        const devices = await chrome.page.locator("main").innerText();
        check(!devices.includes(oauth.context.deviceId), `a revoked session is still a device: ${devices}`);
    } finally {
        await chrome.close();
        back.close();
    }
}

async function signIn(chrome, name, secret) {
    await chrome.page.getByLabel("User name").fill(name);
    await chrome.page.getByLabel("Password").fill(secret);
    await chrome.page.getByRole("button", { name: "Sign in" }).click();
}

/** The keys are replaced only after the user has allowed it on the account page. */
async function replaceKeys(device, chrome) {
    let asked = 0;
    await device.crypto.bootstrapCrossSigning({
        setupNewCrossSigning: true,
        authUploadDeviceSigningKeys: async (upload) => {
            const refused = await upload(null).then(
                () => check(false, "keys were replaced without a question"),
                (error) => error.data,
            );
            const { url } = refused.params["m.oauth"];
            asked += 1;
            await chrome.page.goto(url);
            await chrome.picture("reset");
            await chrome.page.getByRole("button", { name: "Allow the reset" }).click();
            await chrome.page.getByText("Go back to the application").waitFor();
            return upload({ session: refused.session });
        },
    });
    same(asked, 1, "questions about the reset");
}

/** A second client has no browser: the user types its code. */
async function byCode(metadata, chrome, alice) {
    const registration = {
        client_name: "Television",
        client_uri: `${metadata.issuer}`,
        redirect_uris: [`${metadata.issuer}back`],
        application_type: "web",
    };
    const clientId = await OAuth2.registerClient(metadata, registration, quiet);
    const oauth = new OAuth2(metadata, { clientId }, quiet);
    const codes = await oauth.startDeviceAuthorizationGrant();
    const waiting = oauth.waitForDeviceAuthorizationGrant(codes);
    await chrome.page.goto(codes.verification_uri_complete);
    await chrome.picture("code");
    await chrome.page.getByRole("button", { name: "Continue" }).click();
    await chrome.page.getByText("Television").first().waitFor();
    await chrome.picture("code-consent");
    await chrome.page.getByRole("button", { name: "Allow" }).click();
    await chrome.page.getByText("The device is signed in").waitFor();
    const tokens = await within(waiting, "tokens for the device code");
    const me = await createClient({ baseUrl: process.env.HS_URL, accessToken: tokens.access_token, logger: quiet }).whoami();
    same([me.user_id, me.device_id], [alice.userId, oauth.context.deviceId], "who the code signs in");
}

async function status(accessToken) {
    const url = `${process.env.HS_URL}/_matrix/client/v3/account/whoami`;
    return (await fetch(url, { headers: { authorization: `Bearer ${accessToken}` } })).status;
}
