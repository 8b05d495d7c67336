// Hydrogen, a web client, in two browser profiles: alice signs in with her password, bob on the server's pages.

import { check, same } from "../lib/check.js";
import { password } from "../lib/device.js";
import { png } from "../lib/png.js";
import { inTwoProfiles } from "../lib/profile.js";
import { hydrogen } from "../lib/site.js";

/** More than a sync brings at once. */
const MISSED = 15;

export default async function () {
    const site = await hydrogen();
    await inTwoProfiles(site, async (alice, bob) => {
        await byPassword(alice);
        await onThePages(bob);
        await meet(alice, bob);
        await talk(alice, bob);
        await pictures(alice, bob);
        await away(alice, bob, site);
        await removed(bob);
    });
}

async function byPassword({ page, user }) {
    await page.getByPlaceholder("Username").fill(user);
    await page.getByPlaceholder("Password").fill("not the password");
    await page.getByRole("button", { name: "Log In", exact: true }).click();
    await page.getByText("Your username and/or password don't seem to be correct").waitFor();
    await page.getByPlaceholder("Password").fill(password(user));
    await page.getByRole("button", { name: "Log In", exact: true }).click();
    await page.locator(".SessionView").waitFor();
}

async function onThePages(bob) {
    const { page } = bob;
    await page.getByRole("button", { name: "Log in with SSO" }).click();
    await page.getByLabel("User name").fill(bob.user);
    await page.getByLabel("Password").fill(password(bob.user));
    await page.getByRole("button", { name: "Sign in" }).click();
    await bob.picture("consent");
    await page.getByRole("button", { name: "Continue" }).click();
    await page.locator(".SessionView").waitFor();
}

/** alice makes an encrypted room with a picture, and bob comes in. */
async function meet(alice, bob) {
    const { page } = alice;
    await page.getByRole("button", { name: "Create room" }).click();
    await page.getByRole("button", { name: "Create Room", exact: true }).click();
    await page.getByPlaceholder("Enter a room name").fill("Garden");
    check(await page.getByLabel("Enable end-to-end encryption").isChecked(), "encryption is not proposed");
    await choose(page, page.locator(".CreateRoomView_selectAvatar"), "avatar.png", png(300, 300));
    await alice.picture("new-room");
    await page.getByRole("button", { name: "Create room" }).last().click();
    await openRoom(alice);
    await composer(page).waitFor();
    await page.getByRole("button", { name: "Room options" }).click();
    await page.getByRole("button", { name: "Room details" }).click();
    await page.getByRole("button", { name: "People" }).click();
    await page.getByRole("button", { name: "Invite to this room" }).click();
    await page.getByPlaceholder("Enter user-id of user").fill(bob.userId);
    await page.getByRole("button", { name: "Invite", exact: true }).click();

    await openRoom(bob);
    await bob.page.getByText(`(${alice.userId}) invited you.`).waitFor();
    await bob.picture("invitation");
    await bob.page.getByRole("button", { name: "Accept" }).click();
    await composer(bob.page).waitFor();
    await alice.page.getByText(`${bob.user} joined the room`).waitFor();
}

/** Messages both ways, which only those read who have the keys. */
async function talk(alice, bob) {
    for (const [from, to, text] of [[alice, bob, "the tulips are out"], [bob, alice, "and the roses?"], [alice, bob, "in June"]]) {
        await say(from, text);
        await to.page.locator(".Timeline_messageBody").getByText(text).waitFor();
    }
    same(await texts(alice), await texts(bob), "what both read");
    await bob.picture("talk");
}

/** An encrypted picture with its thumbnail, and the room's own, which the server makes small. */
async function pictures(alice, bob) {
    const { page } = alice;
    await page.getByTitle("Pick attachment").click();
    await choose(page, page.getByRole("button", { name: "Send picture" }), "tulips.png", png(1600, 1000));
    for (const profile of [alice, bob]) {
        await loaded(profile, profile.page.locator(".Timeline_messageBody .media img"), "the picture");
        await loaded(profile, profile.page.locator(".RoomList .avatar img"), "the avatar of the room");
    }
    await bob.picture("picture");
    await bob.page.locator(".Timeline_messageBody .media a").click();
    const whole = bob.page.locator(".lightbox .picture:not(.hidden)");
    await whole.waitFor();
    await bob.picture("whole-picture");
    await bob.page.locator(".lightbox .close").click();
}

/** What is said while bob's browser is closed is all there when it opens again, and what was before too. */
async function away(alice, bob, site) {
    const said = await texts(bob);
    await bob.close();
    for (let count = 0; count < MISSED; count++) {
        said.push(`missed ${count} of ${MISSED}`);
        await say(alice, said.at(-1));
    }
    await alice.page.locator(".Timeline_message:not(.unsent)").getByText(said.at(-1)).waitFor();
    await bob.open(site.origin);
    await openRoom(bob);
    await bob.page.locator(".Timeline_messageBody").getByText(said.at(-1)).waitFor();
    await bob.picture("back");
    await reads(bob, said);
    said.push("I am back");
    await say(bob, said.at(-1));
    await reads(alice, said);
}

/** bob's client is signed out on the page of his account, in another tab. */
async function removed(bob) {
    const { account_management_uri: account } = await bob.device.client.getAuthMetadata();
    const tab = await bob.tab();
    await tab.goto(`${account}?action=org.matrix.devices_list`);
    await tab.getByRole("link", { name: "Hydrogen" }).click();
    await tab.getByRole("button", { name: "Sign out this device" }).click();
    await tab.getByRole("heading", { name: "Devices" }).waitFor();
    same(await tab.getByRole("link", { name: "Hydrogen" }).count(), 0, "the device that was signed out");
    await bob.page.bringToFront();
    await bob.page.getByText("Your access token is no longer valid").waitFor();
    await bob.picture("signed-out");
}

const composer = (page) => page.getByPlaceholder("Send an encrypted message…");

/** The link holds the room's identifier once the server knows the room. */
async function openRoom({ page }) {
    await page.locator('.RoomList a[href*="!"]').getByText("Garden").click();
}

async function say({ page }, text) {
    await composer(page).fill(text);
    await composer(page).press("Enter");
}

/** The texts that are shown, without the time that follows them. */
function texts({ page }) {
    return page.evaluate(shown);
}

function shown() {
    const messages = document.querySelectorAll(".Timeline_messageBody:not(:has(.media))");
    return [...messages].map((message) => message.innerText.replace(message.querySelector("time").innerText, "").trim());
}

/** Waits until exactly `expected` is shown; a gap is filled as soon as it is looked at. */
async function reads({ page, name }, expected) {
    const read = ([shown, expected]) => {
        document.querySelector(".Timeline .GapView")?.scrollIntoView();
        return JSON.stringify(new Function(`return (${shown})()`)()) === expected;
    };
    await page.waitForFunction(read, [shown.toString(), JSON.stringify(expected)]).catch(async () => {
        throw new Error(`${name} reads ${JSON.stringify(await page.evaluate(shown))}, not ${JSON.stringify(expected)}`);
    });
}

async function choose(page, button, name, buffer) {
    const chooser = page.waitForEvent("filechooser");
    await button.click();
    await (await chooser).setFiles({ name, mimeType: "image/png", buffer });
}

/** Waits until `image` shows something. */
async function loaded({ page, name }, image, what) {
    await image.waitFor();
    const node = await image.elementHandle();
    await page.waitForFunction((img) => img.complete && img.naturalWidth > 0, node).catch(() => {
        throw new Error(`${name} does not see ${what}`);
    });
}
