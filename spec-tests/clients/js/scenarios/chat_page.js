// matrix-js-sdk in two browser profiles, on a page of its own: alice signs in by password, bob by OAuth.

import { check, same } from "../lib/check.js";
import { password } from "../lib/device.js";
import { png } from "../lib/png.js";
import { inTwoProfiles } from "../lib/profile.js";
import { chat } from "../lib/site.js";

/** More than a sync brings at once. */
const MISSED = 12;

export default async function () {
    const site = await chat();
    await inTwoProfiles(site, async (alice, bob) => {
        await byPassword(alice);
        await byOauth(bob);
        await meet(alice, bob);
        const said = await talk(alice, bob);
        await picture(alice, bob);
        await away(alice, bob, said);
        await again(bob, said, site);
        await removed(bob);
    });
}

async function byPassword({ page, user }) {
    await page.getByLabel("User").fill(user);
    await page.getByLabel("Password").fill(password(user));
    await page.getByRole("button", { name: "Sign in", exact: true }).click();
    await syncing(page);
}

async function byOauth(bob) {
    const { page, user } = bob;
    await page.getByRole("button", { name: "Sign in on the server's page" }).click();
    await page.getByLabel("User name").fill(user);
    await page.getByLabel("Password").fill(password(user));
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("wants to use your account").waitFor();
    await bob.picture("consent");
    await page.getByRole("button", { name: "Allow" }).click();
    await syncing(page);
}

async function meet(alice, bob) {
    await alice.page.getByLabel("Guest").fill(bob.userId);
    await alice.page.getByRole("button", { name: "Open an encrypted room" }).click();
    await alice.page.getByLabel("Message").waitFor();
    await bob.page.getByText("Invitation to Kitchen").waitFor();
    await bob.page.getByRole("button", { name: "Accept" }).click();
    await bob.page.getByLabel("Message").waitFor();
}

async function talk(alice, bob) {
    const said = [];
    for (const [from, to, text] of [[alice, bob, "the soup is on"], [bob, alice, "with salt?"], [alice, bob, "a little"]]) {
        await say(from, text);
        said.push(text);
        await reads(to, said);
    }
    await bob.picture("talk");
    return said;
}

async function picture(alice, bob) {
    const chosen = { name: "soup.png", mimeType: "image/png", buffer: png(1600, 1000) };
    await alice.page.getByLabel("Picture").setInputFiles(chosen);
    for (const { page, name } of [alice, bob]) {
        const image = await page.getByAltText("soup.png").elementHandle();
        await page.waitForFunction((img) => img.naturalWidth > 0, image).catch(() => {
            throw new Error(`${name} does not see the picture`);
        });
        same(await image.evaluate((img) => [img.naturalWidth, img.naturalHeight]), [320, 200], `the thumbnail of ${name}`);
    }
    await bob.picture("picture");
}

/** After a reload the page shows what it knew, from its own disk, and what it missed. */
async function away(alice, bob, said) {
    await bob.page.goto("about:blank");
    for (let count = 0; count < MISSED; count++) {
        said.push(`missed ${count}`);
        await say(alice, said.at(-1));
    }
    await reads(alice, said);
    const [first] = await Promise.all([bob.page.waitForRequest(/v3\/sync\?/), bob.page.goBack()]);
    check(first.url().includes("since="), `the page began anew: ${first.url()}`);
    await syncing(bob.page);
    await wholeHistory(bob, said);
}

/** The browser is closed, its access token ends meanwhile, and it opens again. */
async function again(bob, said, site) {
    const before = await bob.page.evaluate(() => {
        const session = JSON.parse(localStorage.getItem("session"));
        localStorage.setItem("session", JSON.stringify({ ...session, accessToken: "outdated" }));
        return session;
    });
    await bob.close();
    await bob.open(site.origin);
    await syncing(bob.page);
    const after = await bob.page.evaluate(() => JSON.parse(localStorage.getItem("session")));
    check(after.accessToken !== "outdated" && after.accessToken !== before.accessToken, "the access token was not renewed");
    same([after.userId, after.deviceId], [before.userId, before.deviceId], "who the page is");
    await wholeHistory(bob, said);
    await bob.picture("again");
}

async function removed(bob) {
    const { device } = bob;
    const { deviceId } = await bob.page.evaluate(() => JSON.parse(localStorage.getItem("session")));
    await device.byPassword((auth) => device.client.deleteDevice(deviceId, auth ?? undefined));
    await bob.page.getByText("You are signed out").waitFor();
    await bob.picture("signed-out");
}

function syncing(page) {
    return page.locator("#state").getByText("SYNCING").waitFor();
}

async function say({ page }, text) {
    await page.getByLabel("Message").fill(text);
    await page.getByRole("button", { name: "Send" }).click();
}

function shown() {
    return [...document.querySelectorAll("li span")].map((span) => `${span.parentElement.className} ${span.textContent}`);
}

/** Waits until exactly `said` is read here. */
async function reads({ page, name }, said) {
    const expected = said.map((text) => `there ${text}`);
    const read = ([shown, expected]) => JSON.stringify(new Function(`return (${shown})()`)()) === expected;
    await page.waitForFunction(read, [shown.toString(), JSON.stringify(expected)]).catch(async () => {
        throw new Error(`${name} reads ${JSON.stringify(await page.evaluate(shown))}, not ${JSON.stringify(expected)}`);
    });
}

async function wholeHistory(profile, said) {
    const { page } = profile;
    for (let turn = 0; turn < 5; turn++) {
        if ((await page.evaluate(shown)).length >= said.length) break;
        await page.getByRole("button", { name: "Older" }).click();
    }
    await reads(profile, said);
}
